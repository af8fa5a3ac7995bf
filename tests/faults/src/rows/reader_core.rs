//! The read buffer by itself (R2, R5, R7): every split, one byte at a time, and calls that cannot be meant.

use std::pin::Pin;
use std::task::{Context as Task, Poll};
use std::time::{Duration, Instant};

use millstream::testing::pair;
use millstream::{ConnectOptions, ErrorClass};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, BufReader, ReadBuf};

use crate::Result;
use crate::context::{Context, Size};
use crate::figures::grouped;
use crate::load::block_on;
use crate::process::Process;
use crate::row::{Outcome, Tally};
use crate::scripts::{cargo_tests, number_before, script};
use crate::subjects::Subject;

/// R2: the exhaustive matrix of the core's tests, against a naive model and against what CPython answered.
pub(super) fn r2(context: &Context) -> Result<Outcome> {
    let mut tally = Tally::default();
    // As this rig was built: nothing else has to be.
    let profile: &[&str] = if cfg!(debug_assertions) { &[] } else { &["--release"] };
    let args =
        ["--package", "millstream-core", "--locked", "--test", "every_split", "--test", "asyncio_semantics"];
    let text = cargo_tests(&mut tally, &[], &[profile, &args[..], &["--", "--nocapture"]].concat())?;
    let cases = text
        .lines()
        .map(|line| number_before(line, "cases:").max(number_before(line, "cases")))
        .max()
        .unwrap_or(0);
    tally.check(cases > 0, || "the matrix did not say how many cases it tried".to_owned());
    tally.passed(cases);
    let _ = context;
    let figure = format!("{} cases and CPython's answers, {} mismatches", grouped(cases), tally.failures);
    Ok(Outcome::ours(tally, figure))
}

/// R5: ten million segments of one byte until the separator. Time and memory a byte.
pub(super) fn r5(context: &Context) -> Result<Outcome> {
    let n = context.scaled(10_000_000, 100_000);
    let mut tally = Tally::default();
    let mut nanos = Vec::new();
    let before = Process::own().restart_peak()?;
    // Linear: a quarter of them costs as much a byte.
    for n in [n / 4, n] {
        let took = block_on(async {
            let options = ConnectOptions::new().limit(n + 1);
            let (mut reader, _writer) = options.adopt_io(OneByOne::new(n))?;
            let began = Instant::now();
            let item = reader.read_until_borrowed(b"\r\n").await?.map_or(0, <[u8]>::len);
            if item == n + 2 { Ok(began.elapsed()) } else { Err(format!("an item of {item} bytes").into()) }
        });
        let took = tally.value(took, "the item").unwrap_or_default();
        nanos.push(took.as_secs_f64() * 1e9 / n as f64);
    }
    let held = Process::own().peak()?.saturating_sub(before) as f64 / n as f64;
    // What is quadratic is four times as slow a byte. A small run is over before that shows on a busy machine.
    tally.check(nanos[1] < nanos[0] * 2.5 + 20.0 || context.size == Size::Small, || {
        format!("not linear: {nanos:?} ns a byte")
    });
    tally.check(held < 4.0 || n < 1_000_000, || format!("{held:.1} bytes of memory a byte"));
    let tokio = block_on(async {
        let mut reader = BufReader::new(OneByOne::new(n));
        let began = Instant::now();
        let mut item = Vec::new();
        reader.read_until(b'\n', &mut item).await?;
        Ok(began.elapsed().as_secs_f64() * 1e9 / n as f64)
    })?;
    let figure = format!("{:.0} ns and {held:.1} B held a byte ({:.0} ns at a quarter)", nanos[1], nanos[0]);
    let mut outcome = Outcome::ours(tally, figure).tokio(format!("{tokio:.0} ns a byte"));
    let few = context.scaled(200_000, 20_000).to_string();
    if context.has(Subject::Asyncio) {
        outcome.asyncio =
            script(context, Subject::Asyncio, "one_by_one", &[&few]).unwrap_or_else(|e| e.to_string());
    }
    if context.has(Subject::OursPython) {
        let figure = script(context, Subject::OursPython, "one_by_one", &[&few]);
        outcome.python = outcome.tally.value(figure, "Python").unwrap_or_default();
    }
    Ok(outcome)
}

/// A stream of so many letters and a separator behind them, a byte at each read.
struct OneByOne {
    letters: usize,
    given: usize,
}

impl OneByOne {
    fn new(letters: usize) -> Self {
        Self { letters, given: 0 }
    }
}

impl AsyncRead for OneByOne {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Task<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let at = self.given.checked_sub(self.letters);
        if let Some(&byte) = at.map_or(Some(&b'l'), |at| b"\r\n".get(at)) {
            buf.put_slice(&[byte]);
            self.given += 1;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for OneByOne {
    fn poll_write(self: Pin<&mut Self>, _: &mut Task<'_>, data: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// R7: calls that cannot be meant are refused at once and leave what is buffered. A negative count and a second reader
/// cannot be written in Rust; the Python face is asked for them.
pub(super) fn r7(context: &Context) -> Result<Outcome> {
    let mut tally = Tally::default();
    block_on(async {
        let ((mut reader, _writer), (_other, peer)) = pair();
        peer.write(b"kept")?;
        reader.peek().await?;
        let before = Instant::now();
        let classes = [
            ("an empty separator", reader.read_until(b"").await.err().map(|error| error.class())),
            ("no separator", reader.read_until_any(&[]).await.err().map(|error| error.class())),
            ("one of them empty", reader.read_until_any(&[b"a", b""]).await.err().map(|error| error.class())),
            ("an empty one to skip to", reader.skip_until(b"").await.err().map(|error| error.class())),
            ("2^63 bytes", reader.read_exactly(1 << 63).await.err().map(|error| error.class())),
            (
                "a limit of zero",
                ConnectOptions::new().limit(0).adopt_io(OneByOne::new(1)).err().map(|e| e.class()),
            ),
        ];
        for (what, class) in classes {
            tally.check(class == Some(ErrorClass::BadCall), || format!("{what}: {class:?}"));
        }
        tally.check(before.elapsed() < context.within(Duration::from_millis(100)), || {
            "not at once".to_owned()
        });
        tally.check(reader.read(10).await? == "kept", || "the buffer was touched".to_owned());
        Ok(())
    })?;
    let figure = format!("{} of {} refused at the call", tally.runs - tally.failures, tally.runs);
    let mut outcome = Outcome::ours(tally, figure);
    for subject in [Subject::OursPython, Subject::Asyncio] {
        if context.has(subject) {
            let told = script(context, subject, "bad_calls", &[]);
            if subject == Subject::Asyncio {
                outcome.asyncio = told.unwrap_or_else(|error| error.to_string());
            } else if let Some(told) = outcome.tally.value(told, "Python") {
                outcome.python = told;
            }
        }
    }
    Ok(outcome)
}
