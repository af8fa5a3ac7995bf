//! What only Python has (P1 to P6): signals, closed loops, exits, forks, garbage, threads. The package's own tests, as often
//! as the size asks.

use crate::Result;
use crate::context::{Context, NO_PACKAGE, Size};
use crate::row::{Outcome, Tally};
use crate::scripts::pytest;

/// Runs the tests of one row, and says what their figure is.
fn tests(context: &Context, words: &str, small: &str, full: &str) -> Result<Outcome> {
    if context.python.is_none() {
        return Ok(Outcome::not_run(NO_PACKAGE));
    }
    let mut tally = Tally::default();
    pytest(context, &mut tally, &["python/tests/test_lifecycle.py", "-k", words])?;
    let figure = if context.size == Size::Full { full } else { small };
    let figure = format!("{} of {} tests passed: {figure}", tally.runs - tally.failures, tally.runs);
    Ok(Outcome { tally, python: figure, ours: "Python only".to_owned(), ..Outcome::default() })
}

/// P1: Ctrl-C at random moments.
pub(super) fn p1(context: &Context) -> Result<Outcome> {
    tests(context, "ctrl_c", "0 hangs in 30 runs", "0 hangs in 1,000 runs")
}

/// P2: work pending on a loop that is closed.
pub(super) fn p2(context: &Context) -> Result<Outcome> {
    tests(context, "pending_on_a_closed_loop", "0 lines on standard error", "0 lines on standard error")
}

/// P3: the interpreter exits with streams at work.
pub(super) fn p3(context: &Context) -> Result<Outcome> {
    tests(context, "interpreter_exits", "0 bad exits", "0 bad exits of 1,000")
}

/// P4: forks and sub-interpreters.
pub(super) fn p4(context: &Context) -> Result<Outcome> {
    tests(context, "fork or sub_interpreter", "0 mismatches, 0 crashes", "0 mismatches, 0 crashes")
}

/// P5: connections that end in every way.
pub(super) fn p5(context: &Context) -> Result<Outcome> {
    tests(context, "leave_nothing_behind", "slopes 0", "slopes 0 over 100,000 connections")
}

/// P6: one stream, two threads.
pub(super) fn p6(context: &Context) -> Result<Outcome> {
    tests(
        context,
        "two_threads",
        "0 crashes; free-threaded Python not shown",
        "0 crashes in 2 min; free-threaded Python not shown",
    )
}
