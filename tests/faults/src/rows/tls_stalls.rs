//! TLS peers that stop (T4, T5, T7): in the handshake, by ending it, or by not reading any more.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::Result;
use crate::context::Context;
use crate::figures::{percentile, ratio, size, time};
use crate::peer::{PATIENCE, ask, is_ended, reset};
use crate::row::{Outcome, Tally};
use crate::server::{Server, Setup, number_after};
use crate::tls_peer;

/// T4: a thousand peers that connect and say nothing; how long others wait for handshake and answer meanwhile.
pub(super) fn t4(context: &Context) -> Result<Outcome> {
    let (silent, good) = (context.scaled(1_000, 50), context.scaled(300, 30));
    let deadline = Duration::from_secs(3);
    Ok(context.compare_rust(|subject, tally| {
        let server = Server::start(context, subject, &Setup::work("echo").tls(true).handshake(deadline))?;
        let mut alone = handshakes(context, &server, good, tally)?;
        let began = Instant::now();
        let peers: Vec<TcpStream> = (0..silent).map(|_| server.connect()).collect::<Result<_>>()?;
        let connected = Instant::now();
        let mut beside = handshakes(context, &server, good, tally)?;
        let mut ended = 0;
        // The deadline began when the server accepted, which is between the two.
        let until = connected + deadline + context.within(SLACK);
        for mut peer in peers {
            peer.set_read_timeout(Some(
                until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)),
            ))?;
            ended += u64::from(tally.check(is_ended(&mut peer), || {
                format!("a silent peer is there after {:?}", began.elapsed())
            }));
        }
        let took = began.elapsed();
        let (alone, beside) = (percentile(&mut alone, 99), percentile(&mut beside, 99));
        let times = ratio(alone, beside);
        tally.check(beside < context.within(alone * 3 + Duration::from_millis(50)), || {
            format!("a p99 of {beside:?} instead of {alone:?}")
        });
        Ok(format!(
            "accept p99 {} alone, {} meanwhile ({times:.1} x); {ended} of {silent} ended by {}",
            time(alone),
            time(beside),
            time(took)
        ))
    }))
}

/// So many handshakes with a question each.
fn handshakes(context: &Context, server: &Server, count: usize, tally: &mut Tally) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        let answer = ask(&mut tls_peer::on(context, server.connect()?)?, "ping");
        tally.check(answer.as_ref().is_ok_and(|line| line == "ping"), || format!("{answer:?}"));
        times.push(began.elapsed());
    }
    Ok(times)
}

/// T5: what ends a handshake early: an end, a reset, plaintext and an end, a close_notify. The handler must not be called.
pub(super) fn t5(context: &Context) -> Result<Outcome> {
    let rounds = context.scaled(500, 10);
    Ok(context.compare_rust(|subject, tally| {
        let server = Server::start(context, subject, &Setup::work("report").tls(true))?;
        let before = server.process.descriptors()?;
        let cpu = server.process.cpu()?;
        let mut slowest = Duration::ZERO;
        for _ in 0..rounds {
            for kind in 0..5 {
                let mut socket = server.connect()?;
                let hello = tls_peer::hello(&mut tls_peer::client(context)?)?;
                let began = Instant::now();
                match kind {
                    0 => socket.shutdown(std::net::Shutdown::Write)?,
                    1 => socket.write_all(&hello[..hello.len() / 2])?,
                    2 => socket.write_all(b"GET / HTTP/1.0\r\n\r\n")?,
                    // An alert record: warning, close_notify.
                    3 => socket.write_all(&[0x15, 3, 3, 0, 2, 1, 0])?,
                    _ => socket.write_all(&hello)?,
                }
                if kind == 1 || kind == 4 {
                    reset(socket)?;
                    continue;
                }
                if kind > 1 {
                    socket.shutdown(std::net::Shutdown::Write)?;
                }
                tally.check(is_ended(&mut socket), || format!("kind {kind} is not ended"));
                slowest = slowest.max(began.elapsed());
            }
        }
        let left = server.settles_at(before, PATIENCE)?.saturating_sub(before);
        let busy = server.process.cpu()? - cpu;
        tally.check(left == 0, || format!("{left} descriptors left"));
        tally.check(slowest < context.within(Duration::from_secs(1)), || format!("one took {slowest:?}"));
        let seen = server.reports();
        tally.check(seen.is_empty(), || format!("the handler saw {:?}", seen.first()));
        let each = busy / u32::try_from(rounds * 5)?;
        Ok(format!(
            "slowest end {}, {} of CPU each, {} seen by handlers, {left} left",
            time(slowest),
            time(each),
            seen.len()
        ))
    }))
}

/// T7: a peer that has done its handshake stops reading; the server's close is bounded, and so is what it queues.
pub(super) fn t7(context: &Context) -> Result<Outcome> {
    let peers = context.scaled(100, 3);
    let deadline = Duration::from_secs(2);
    Ok(context.compare_rust(|subject, tally| {
        let server = Server::start(context, subject, &Setup::work("stuck-close").tls(true).close(deadline))?;
        let mut streams = Vec::new();
        for _ in 0..peers {
            let mut stream = tls_peer::on(context, server.connect()?)?;
            stream.write_all(b"fill me\n")?;
            stream.flush()?;
            streams.push(stream);
        }
        let before = server.process.descriptors()?;
        let (mut slowest, mut peak, mut bounded) = (Duration::ZERO, 0, 0);
        for _ in 0..peers {
            let told = server.report(PATIENCE * 3)?;
            let mut words = told.split_whitespace();
            let how = words.next().unwrap_or_default().to_owned();
            let took = Duration::from_millis(number_after(&told, &how).unwrap_or(u64::MAX));
            peak = peak.max(words.nth(1).and_then(|n| n.parse().ok()).unwrap_or(0));
            slowest = slowest.max(took);
            bounded += u64::from(
                tally.check(how != "never" && took < deadline + context.within(SLACK), || told.clone()),
            );
        }
        if subject.is_ours() {
            tally.check(peak <= 64 * 1024 + 16 * 1024, || format!("{peak} bytes queued"));
        }
        let left = server.settles_at(before.saturating_sub(peers), context.within(SLACK))?;
        let left = (left + peers).saturating_sub(before);
        // Strangers may leave the socket to whatever comes.
        tally.check(left == 0, || format!("{left} sockets left open"));
        drop(streams);
        Ok(format!(
            "{bounded} of {peers} closes bounded, slowest {}; peak queued {}; {left} sockets left",
            time(slowest),
            size(peak)
        ))
    }))
}

/// What a busy machine may add to a deadline.
const SLACK: Duration = Duration::from_secs(2);
