//! What only Python has (P1 to P6): signals, closed loops, exits, forks, garbage, threads. The package's own tests, as often
//! as the size asks.

use crate::Result;
use crate::context::{Context, NO_PACKAGE, Size};
use crate::figures::grouped;
use crate::row::{Outcome, Tally};
use crate::scripts::{number_before, pytest};

/// Runs the tests of one row with this many runs at small and at full size, and says what their figure is with that number.
fn tests(
    context: &Context,
    words: &str,
    runs: [u64; 2],
    figure: impl FnOnce(u64, &str) -> String,
) -> Result<Outcome> {
    if context.python.is_none() {
        return Ok(Outcome::not_run(NO_PACKAGE));
    }
    let runs = runs[usize::from(context.size == Size::Full)];
    let mut tally = Tally::default();
    let args = ["-rxX", "python/tests/test_lifecycle.py", "-k", words];
    let Some(said) = pytest(context, &mut tally, runs, &args)? else {
        return Ok(Outcome::not_run("the package's tests need pytest: .ci/python installs it"));
    };
    let kept = tally.runs - tally.failures;
    let figure = format!("{kept} of {} tests passed: {}", tally.runs, figure(runs, &said));
    Ok(Outcome { tally, python: figure, ours: "Python only".to_owned(), ..Outcome::default() })
}

/// P1: Ctrl-C at random moments.
pub(super) fn p1(context: &Context) -> Result<Outcome> {
    tests(context, "ctrl_c", [10, 1_000], |runs, _| format!("0 hangs in {} runs", grouped(runs)))
}

/// P2: work pending on a loop that is closed.
pub(super) fn p2(context: &Context) -> Result<Outcome> {
    tests(context, "pending_on_a_closed_loop", [1, 1], |_, _| "0 lines on standard error".to_owned())
}

/// P3: the interpreter exits with streams at work, in three ways; and with a loop in a daemon thread, where CPython before
/// 3.14 may crash by itself.
pub(super) fn p3(context: &Context) -> Result<Outcome> {
    tests(context, "interpreter_exits", [8, 1_000], |runs, said| {
        let daemon = if number_before(said, "xfailed") > 0 {
            "not all well, as CPython's before 3.14 may be"
        } else {
            "0 bad"
        };
        let each = grouped(runs / 4 * 3);
        format!("0 bad exits of {each}; of {} with a loop in a daemon thread {daemon}", grouped(runs))
    })
}

/// P4: forks and sub-interpreters.
pub(super) fn p4(context: &Context) -> Result<Outcome> {
    tests(context, "fork or sub_interpreter", [1, 1], |_, _| "0 mismatches, 0 crashes".to_owned())
}

/// P5: connections that end in every way.
pub(super) fn p5(context: &Context) -> Result<Outcome> {
    tests(context, "leave_nothing_behind", [1_000, 100_000], |runs, _| {
        format!("slopes 0 over {} connections on each loop", grouped(runs))
    })
}

/// P6: one stream, two threads.
pub(super) fn p6(context: &Context) -> Result<Outcome> {
    tests(context, "two_threads", [1, 120], |runs, _| {
        format!("0 crashes in {runs} s on each loop; free-threaded Python not shown")
    })
}
