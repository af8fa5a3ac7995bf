//! What reaches a reader (R1, R3, R4, R6, R8): endless lines, ends and resets in the middle, absurd counts, any bytes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use millstream::{ConnectOptions, ReadExactlyError, ReadUntilError, StreamReader};

use crate::Result;
use crate::context::Context;
use crate::figures::size;
use crate::load::block_on;
use crate::peer::{PATIENCE, reset, tcp_pair};
use crate::random::Random;
use crate::row::{Outcome, Tally};
use crate::server::{Server, Setup, number_after};
use crate::subjects::Subject;

/// R1: a line without end. The peak that the buffer reports, how much the process grew, and whether the next line is
/// answered.
pub(super) fn r1(context: &Context) -> Result<Outcome> {
    let len = context.scaled(256 << 20, 4 << 20);
    Ok(context.compare(|subject, tally| {
        let server = Server::start(context, subject, &Setup::work("echo"))?;
        let mut socket = server.connect()?;
        // What the first connection costs is not the line's.
        tally.check(crate::peer::ask(&mut socket, "ping")? == "ping", || "no echo before".to_owned());
        let before = server.process.restart_peak()?;
        let block = vec![b'a'; 1 << 20];
        for _ in 0..len >> 20 {
            socket.write_all(&block)?;
        }
        socket.write_all(b"\nping\n")?;
        let answered = ends_with_ping(&mut socket);
        tally.check(answered.is_ok(), || format!("no answer after the line: {answered:?}"));
        let rise = server.process.peak()?.saturating_sub(before);
        if !subject.is_ours() {
            return Ok(format!("RSS +{}, {} echoed", size(rise), size(answered.unwrap_or(0))));
        }
        tally.check(rise < MOST_RISE, || format!("the server grew by {}", size(rise)));
        tally.check(answered.is_ok_and(|bytes| bytes <= MOST_RISE), || "the long line was echoed".to_owned());
        let peak = server.reports().iter().find_map(|line| number_after(line, "peak"));
        let Some(peak) = peak else { return Ok(format!("RSS +{}", size(rise))) };
        tally.check(peak <= LIMIT * 2 + RECEIVE, || format!("{peak} bytes were buffered"));
        Ok(format!("peak buffered {}, RSS +{}", size(peak), size(rise)))
    }))
}

/// Reads until the answer to the ping; how much came in all.
fn ends_with_ping(socket: &mut TcpStream) -> Result<u64> {
    let (mut came, mut tail, mut block) = (0, Vec::new(), vec![0; 256 * 1024]);
    while !tail.ends_with(b"ping\n") {
        let n = socket.read(&mut block)?;
        if n == 0 {
            return Err(format!("the end after {came} bytes").into());
        }
        came += n as u64;
        tail.extend_from_slice(&block[n.saturating_sub(5)..n]);
        tail.drain(..tail.len().saturating_sub(5));
    }
    Ok(came)
}

/// R3: the peer ends inside a line or a counted item; the partial bytes come once, then a clean end.
pub(super) fn r3(context: &Context) -> Result<Outcome> {
    let mut tally = Tally::default();
    let mut random = Random::new(context.seed);
    for _ in 0..context.scaled(1_000, 30) {
        let len = 1 + random.below(100_000);
        let sent = vec![b'p'; len];
        for kind in 0..3 {
            let (ours, mut peer) = tcp_pair()?;
            let message = sent.clone();
            let sending = std::thread::spawn(move || {
                peer.write_all(&message).and_then(|()| peer.shutdown(Shutdown::Write)).map(|()| peer)
            });
            let result = block_on(async {
                let (mut reader, _writer) = ConnectOptions::new().limit(200_000).adopt_tcp(ours)?;
                let partial = partial_of(&mut reader, kind, len).await?;
                Ok((partial, reader.read(10).await?, reader.at_eof()))
            });
            let what = format!("kind {kind}, {len} bytes");
            if let Some((partial, rest, at_eof)) = tally.value(result, &what)
                && (partial != sent || !rest.is_empty() || !at_eof)
            {
                tally.fail(format!("{what}: {} bytes, then {}", partial.len(), rest.len()));
            }
            drop(sending.join());
        }
    }
    let figure = format!("{} of {} partial items whole, once", tally.runs - tally.failures, tally.runs);
    let outcome = Outcome::ours(tally, figure);
    Ok(if context.has(Subject::Asyncio) { outcome.asyncio(asyncio_ends(context)) } else { outcome })
}

/// asyncio's way with the same three ends.
fn asyncio_ends(context: &Context) -> String {
    let told = crate::scripts::script(context, Subject::Asyncio, "ends", &[]);
    told.unwrap_or_else(|error| format!("failed: {error}"))
}

async fn partial_of(reader: &mut StreamReader, kind: usize, len: usize) -> Result<Vec<u8>> {
    Ok(match kind {
        0 => match reader.read_until(b"\r\n").await {
            Err(ReadUntilError::Incomplete { partial, .. }) => partial.to_vec(),
            other => return Err(format!("{other:?}").into()),
        },
        1 => match reader.read_exactly(len + 1).await {
            Err(ReadExactlyError::Incomplete { partial, .. }) => partial.to_vec(),
            other => return Err(format!("{other:?}").into()),
        },
        // A last line without its line feed is a line, as in asyncio.
        _ => reader.read_line().await?.unwrap_or_default().to_vec(),
    })
}

/// R4: a reset behind twelve bytes; how many of them are delivered, and whether the reset is told after them.
pub(super) fn r4(context: &Context) -> Result<Outcome> {
    let runs = context.scaled(1_000, 20);
    Ok(context.compare(|subject, tally| {
        let server = Server::start(context, subject, &Setup::work("collect"))?;
        let (mut delivered, mut errors) = (0, 0);
        for _ in 0..runs / BATCH {
            for _ in 0..BATCH {
                let mut socket = server.connect()?;
                socket.write_all(&[b'1'; RESET_LEN])?;
                reset(socket)?;
            }
            for _ in 0..BATCH {
                let line = server.report(PATIENCE)?;
                let n = number_after(&line, "delivered").ok_or("no number")?;
                tally.check(n == RESET_LEN as u64 && line.ends_with("error"), || line.clone());
                delivered += n;
                errors += u64::from(line.ends_with("error"));
            }
        }
        let runs = (runs / BATCH * BATCH) as u64;
        Ok(format!("{delivered} of {} bytes, reset told {errors} of {runs} times", runs * RESET_LEN as u64))
    }))
}

/// R6: a count that no memory holds, of which ten bytes come.
pub(super) fn r6(context: &Context) -> Result<Outcome> {
    Ok(context.compare(|subject, tally| {
        let server = Server::start(context, subject, &Setup::work("exact"))?;
        let before = server.process.restart_peak()?;
        let mut told = Vec::new();
        for (n, wanted) in [(1_u64 << 62, "partial 10"), (1 << 63, "refused")] {
            let mut socket = server.connect()?;
            let said = crate::peer::ask(&mut socket, &n.to_string())?;
            let sent = socket.write_all(b"0123456789").and_then(|()| socket.shutdown(Shutdown::Write));
            let report = server.report(PATIENCE).unwrap_or_else(|error| error.to_string());
            // Python's integers have no end, so that nothing overflows there.
            let right = report == wanted || (subject.is_python() && report == "partial 10");
            tally.check(right, || format!("{n}: {report} after `{said}`, {sent:?}"));
            told.push(report);
            if !server.process.is_alive() {
                return Ok(format!(
                    "the process dies ({})",
                    server.complaints().first().cloned().unwrap_or_default()
                ));
            }
        }
        let rise = server.process.peak()?.saturating_sub(before);
        tally.check(rise < MOST_RISE, || format!("the server grew by {}", size(rise)));
        Ok(format!("2^62: {}; 2^63: {}; RSS +{}", told[0], told[1], size(rise)))
    }))
}

/// R8: lines of any bytes but the line feed come back unchanged.
pub(super) fn r8(context: &Context) -> Result<Outcome> {
    let lines = context.scaled(100_000, 1_000);
    let seed = context.seed;
    Ok(context.compare(|subject, tally| {
        let server = Server::start(context, subject, &Setup::work("echo"))?;
        let mut socket = server.connect()?;
        let mut answers = BufReader::new(socket.try_clone()?);
        let mut random = Random::new(seed);
        let mut changed = 0;
        let odd: [&[u8]; 6] = [b"\r", b"\r\r", b"\0", b"\xff\xfe", b"\xc3", b"\xe2\x82\r"];
        for number in 0..lines {
            let mut line = match number % 7 {
                6 => (0..random.below(200)).map(|_| random.byte()).filter(|&byte| byte != b'\n').collect(),
                kind => odd[kind].to_vec(),
            };
            line.push(b'\n');
            socket.write_all(&line)?;
            let mut answer = Vec::new();
            answers.read_until(b'\n', &mut answer)?;
            changed +=
                u64::from(!tally.check(answer == line, || format!("{line:?} came back as {answer:?}")));
        }
        Ok(format!("{changed} of {} lines changed", crate::figures::grouped(lines as u64)))
    }))
}

const LIMIT: u64 = 64 * 1024;
/// The most that one receive brings.
const RECEIVE: u64 = 64 * 1024;
/// A server that holds the buffers of one connection and not more stays below this.
const MOST_RISE: u64 = 2 << 20;
const RESET_LEN: usize = 12;
const BATCH: usize = 20;
