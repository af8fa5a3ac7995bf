//! Crowds (A2, A5): thousands of clients that are slow or silent beside good ones, and ten thousand that are idle.

use std::time::{Duration, Instant};

use crate::Result;
use crate::context::{Context, Size};
use crate::figures::{grouped, percentile, ratio, time};
use crate::load::{Target, block_on, good_clients, ping};
use crate::peer::Tricklers;
use crate::row::{Outcome, Tally};
use crate::server::{Server, Setup};

/// A2: 5,000 clients that send a byte in ten seconds, and on the TLS server 1,000 more that never say a word; beside them
/// 50 good ones on each.
pub(super) fn a2(context: &Context) -> Result<Outcome> {
    let (slow, silent) = (context.scaled(5_000, 100), context.scaled(1_000, 20));
    let length = Duration::from_millis(context.scaled(10_000, 500) as u64);
    let mut outcome = context.compare_rust(|subject, tally| {
        let server = Server::start(context, subject, &Setup::work("echo"))?;
        // No deadline of a handshake makes this easier.
        let secure = Setup::work("echo").tls(true).handshake(Duration::from_secs(60));
        let secure = Server::start(context, subject, &secure)?;
        let targets = [Target::plain(server.port), Target::tls(secure.port, context)?];
        // The first connections warm up both sides.
        block_on(good_clients(&targets[0], GOOD, length / 10))?;
        block_on(good_clients(&targets[1], GOOD, length / 10))?;
        // In turns, so that what else the machine does is in both.
        let (mut alone, mut beside) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for _ in 0..TURNS {
            sample(&targets, length / TURNS, &mut alone)?;
            let crowds = [
                Tricklers::start(server.port, slow, Some(Duration::from_secs(10)))?,
                Tricklers::start(secure.port, silent, None)?,
            ];
            sample(&targets, length / TURNS, &mut beside)?;
            drop(crowds);
        }
        let [alone, beside] =
            [alone, beside].map(|samples| samples.map(|mut times| percentile(&mut times, 99)));
        let times = [ratio(alone[0], beside[0]), ratio(alone[1], beside[1])];
        for (times, name) in times.iter().zip(["plain", "TLS"]) {
            // Half a second is too short to judge by: then only that nobody starves.
            let starves = beside.iter().any(|&p99| p99 >= context.within(Duration::ZERO));
            let kept = if context.size == Size::Full { *times <= BAR } else { !starves };
            tally.check(kept, || format!("{name}: the good p99 is {times:.2} x that alone"));
        }
        Ok(format!(
            "good p99 beside {} slow: {} ({:.2} x alone); TLS beside {} silent: {} ({:.2} x)",
            grouped(slow as u64),
            time(beside[0]),
            times[0],
            grouped(silent as u64),
            time(beside[1]),
            times[1],
        ))
    });
    let mut tally = Tally::default();
    let held = super::limits::held(context, slow, &mut tally)?;
    outcome.tally.add(tally);
    outcome.ours += &format!("; {held}");
    Ok(outcome)
}

/// Adds what the good clients of both servers waited.
fn sample(targets: &[Target; 2], length: Duration, samples: &mut [Vec<Duration>; 2]) -> Result<()> {
    for (target, samples) in targets.iter().zip(samples) {
        samples.extend(block_on(good_clients(target, GOOD, length))?);
    }
    Ok(())
}

/// A5: ten thousand idle connections to one server process, from several addresses; then each answers a ping.
pub(super) fn a5(context: &Context) -> Result<Outcome> {
    let count = context.scaled(10_000, 100);
    Ok(context.compare_rust(|subject, tally| {
        let mut figures = Vec::new();
        for is_tls in [false, true] {
            let server = Server::start(context, subject, &Setup::work("echo").tls(is_tls))?;
            let target = if is_tls { Target::tls(server.port, context)? } else { Target::plain(server.port) };
            figures.push(idle(&server, &target, count, is_tls, tally)?);
        }
        Ok(figures.join("; "))
    }))
}

fn idle(server: &Server, target: &Target, count: usize, is_tls: bool, tally: &mut Tally) -> Result<String> {
    block_on(async {
        let mut streams = Vec::with_capacity(count);
        // What the first few cost is the process's.
        for _ in 0..10 {
            ping(&mut target.open(1).await?).await?;
        }
        let before = server.process.resident()?;
        for number in 0..count {
            let host = u8::try_from(2 + number * 5 / count)?;
            let mut stream = target.open(host).await?;
            // A connection that has worked and is idle, not one that has never been used.
            ping(&mut stream).await?;
            streams.push(stream);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let each = server.process.resident()?.saturating_sub(before) as f64 / 1024.0 / count as f64;
        let mut times = Vec::with_capacity(count);
        let began = Instant::now();
        for stream in &mut streams {
            let answered = tokio::time::timeout(Duration::from_secs(5), ping(stream)).await;
            let answered = answered.map_err(Into::into).and_then(|result| result);
            times.extend(tally.value(answered, "a ping"));
        }
        let rate = times.len() as f64 / began.elapsed().as_secs_f64();
        let p99 = percentile(&mut times, 99);
        let name = if is_tls { "TLS" } else { "plain" };
        let answered = grouped(times.len() as u64);
        Ok(format!("{name}: {answered} answer, {each:.1} KiB each, ping p99 {} ({rate:.0}/s)", time(p99)))
    })
}

const GOOD: usize = 50;
/// How often the good clients are measured alone and beside the crowd.
const TURNS: u32 = 4;
/// What the issue allows.
const BAR: f64 = 1.5;
