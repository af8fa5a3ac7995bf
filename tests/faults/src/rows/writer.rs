//! Peers that do not read as they should (W1, W2, W3, W4): what is queued, what it costs, and whether it stays what was
//! written.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use millstream::testing::pair_with_capacity;
use socket2::SockRef;

use crate::Result;
use crate::context::Context;
use crate::figures::{grouped, size};
use crate::load::block_on;
use crate::peer::{PATIENCE, connect_with_a_small_buffer, tcp_pair};
use crate::random::Random;
use crate::row::{Outcome, Tally};
use crate::scripts::script;
use crate::server::{Server, Setup};
use crate::subjects::Subject;

/// W1: the peer never reads. What is queued when `drain` waits, by `write` and by `writelines`.
pub(super) fn w1(context: &Context) -> Result<Outcome> {
    let peers = context.scaled(50, 3);
    Ok(context.compare(|subject, tally| {
        let mut figures = Vec::new();
        for work in ["fill", "fill-lines"] {
            if work == "fill-lines" && subject == Subject::Tokio {
                continue;
            }
            let name = if work == "fill" { "write" } else { "writelines" };
            let server = Server::start(context, subject, &Setup::work(work))?;
            let before = server.process.restart_peak()?;
            let sockets: Vec<_> = (0..peers).map(|_| connect_with_a_small_buffer(server.port)).collect();
            let mut peak = 0;
            for _ in 0..peers {
                let patience = if subject.is_ours() { PATIENCE } else { STRANGERS_PATIENCE };
                let queued = match server.reported("stalled", patience) {
                    Ok(queued) => queued,
                    // CVE-2024-12254: such a program eats the memory there is.
                    Err(_) if !subject.is_ours() => {
                        let rise = server.process.peak()?.saturating_sub(before);
                        figures
                            .push(format!("{name}: drain never waits, RSS +{} in {patience:?}", size(rise)));
                        return Ok(figures.join("; "));
                    }
                    Err(error) => return Err(error),
                };
                tally.check(queued <= HIGH + MESSAGE, || format!("{work}: {queued} bytes queued"));
                peak = peak.max(queued);
            }
            let rise = server.process.peak()?.saturating_sub(before) / peers as u64;
            // It wakes when the peer reads again.
            for socket in sockets.into_iter().take(1) {
                let mut bytes = vec![0; WOKEN];
                let woken = socket.and_then(|mut socket| Ok(socket.read_exact(&mut bytes)?));
                tally.check(woken.is_ok(), || format!("{work} does not go on: {woken:?}"));
            }
            figures.push(format!("{name}: {} queued, RSS +{} a peer", size(peak), size(rise)));
        }
        Ok(figures.join("; "))
    }))
}

/// W2: each send takes between one byte and k, in memory, and through the smallest buffers that TCP has.
pub(super) fn w2(context: &Context) -> Result<Outcome> {
    let mut tally = Tally::default();
    let mut random = Random::new(context.seed);
    let messages = context.scaled(2_000, 50);
    for capacity in [1, 2, 3, 7, 64, 1_000] {
        let script: Vec<Vec<Vec<u8>>> = (0..messages).map(|_| pieces(&mut random, 300)).collect();
        let expected: Vec<u8> = script.iter().flatten().flatten().copied().collect();
        let result = block_on(async {
            let ((_r, writer), (mut reader, _w)) = pair_with_capacity(capacity);
            let write = async {
                for pieces in &script {
                    writer.write_lines(pieces)?;
                    writer.drain().await?;
                }
                writer.write_eof()?;
                Ok::<_, millstream::Error>(())
            };
            let (wrote, read) = tokio::join!(write, reader.read_to_end(expected.len()));
            wrote?;
            Ok(read?)
        });
        if let Some(read) = tally.value(result, &format!("in memory, {capacity} at a time"))
            && read != expected
        {
            tally.fail(format!("another stream came, {capacity} at a time"));
        }
    }
    let mut bytes = 0;
    for number in 0..context.scaled(50, 2) {
        // The kernel takes its time with windows of a segment.
        let script: Vec<Vec<Vec<u8>>> = (0..TINY_MESSAGES).map(|_| pieces(&mut random, 5_000)).collect();
        let expected: Vec<u8> = script.iter().flatten().flatten().copied().collect();
        bytes += expected.len() as u64;
        let result = through_tiny_buffers(script, expected.len(), Random::new(random.next()));
        if let Some(read) = tally.value(result, &format!("run {number} through tiny buffers"))
            && read != expected
        {
            tally.fail(format!("another stream came in run {number} through tiny buffers"));
        }
    }
    let figure =
        format!("{} mismatches in {} through SO_SNDBUF and SO_RCVBUF of 1", tally.failures, size(bytes));
    Ok(Outcome::ours(tally, figure))
}

fn pieces(random: &mut Random, most: usize) -> Vec<Vec<u8>> {
    (0..random.below(8))
        .map(|_| {
            let len = random.below(most);
            random.bytes(len)
        })
        .collect()
}

fn through_tiny_buffers(script: Vec<Vec<Vec<u8>>>, len: usize, mut random: Random) -> Result<Vec<u8>> {
    let (ours, mut peer) = tcp_pair()?;
    SockRef::from(&ours).set_send_buffer_size(1)?;
    SockRef::from(&peer).set_recv_buffer_size(1)?;
    let reading = std::thread::spawn(move || {
        let (mut all, mut block) = (Vec::with_capacity(len), vec![0; 2_000]);
        loop {
            let most = 1 + random.below(block.len());
            match peer.read(&mut block[..most]) {
                Ok(0) => return Ok(all),
                Ok(n) => all.extend_from_slice(&block[..n]),
                Err(error) => return Err(error),
            }
        }
    });
    block_on(async {
        let (_reader, writer) = millstream::ConnectOptions::new().adopt_tcp(ours)?;
        for pieces in &script {
            writer.write_lines(pieces)?;
            writer.drain().await?;
        }
        writer.write_eof()?;
        writer.close();
        // The peer closes when it has seen our end.
        Ok(writer.wait_closed().await?)
    })?;
    Ok(reading.join().map_err(|_| "the peer panicked")??)
}

/// W3: a million messages of one byte, with empty ones between, to a peer that does not read.
pub(super) fn w3(context: &Context) -> Result<Outcome> {
    let all = context.scaled(1_000_000, 50_000);
    let mut outcome = context.compare(|subject, tally| {
        if subject == Subject::Tokio {
            return Ok(String::new());
        }
        // asyncio adds up its whole queue at every write: a million would take it hours.
        let n = if subject == Subject::Asyncio { all.min(context.scaled(20_000, 2_000)) } else { all };
        let server = Server::start(context, subject, &Setup::work("tiny"))?;
        let mut socket = server.connect()?;
        // What the kernel would take itself is taken before.
        socket.write_all(format!("{n}\n").as_bytes())?;
        let filled = server.reported("filled", PATIENCE)?;
        let before = server.process.restart_peak()?;
        socket.write_all(b"go\n")?;
        let began = std::time::Instant::now();
        let queued = server.reported("queued", Duration::from_secs(120))?;
        let took = began.elapsed().as_secs_f64() * 1e9 / n as f64;
        let held = server.process.peak()?.saturating_sub(before);
        socket.write_all(b"close\n")?;
        let mut all = Vec::new();
        let read = socket.read_to_end(&mut all);
        let right = read.is_ok() && all.len() == FILLER + n && all[FILLER..].iter().all(|&byte| byte == b't');
        tally.check(right, || format!("{} of {} bytes came, {read:?}", all.len(), FILLER + n));
        let queued = queued.saturating_sub(filled);
        let each = held as f64 / n as f64;
        tally.check(!subject.is_ours() || each < MOST_EACH || n < 1_000_000, || {
            format!("{each:.1} bytes each")
        });
        Ok(format!("{each:.1} B held and {took:.0} ns a message ({} queued)", grouped(queued)))
    });
    outcome.tokio = "no queue: each write is a send".to_owned();
    Ok(outcome)
}

/// W4: buffers that change after the write, and exports of any shape. Rust's borrows leave only what is copied late.
pub(super) fn w4(context: &Context) -> Result<Outcome> {
    let mut tally = Tally::default();
    let rounds = context.scaled(100, 5);
    let mut random = Random::new(context.seed);
    let mut mismatches = 0;
    for _ in 0..rounds {
        let (ours, mut peer) = tcp_pair()?;
        SockRef::from(&ours).set_send_buffer_size(1)?;
        let mut buffer = random.bytes(1 << 20);
        let expected = [buffer.clone(), buffer.clone()].concat();
        let reading = std::thread::spawn(move || {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).map(|_| all)
        });
        block_on(async {
            let (_reader, writer) = millstream::ConnectOptions::new().adopt_tcp(ours)?;
            writer.write(&buffer)?;
            writer.write_lines(&[&buffer[..1_000], &buffer[1_000..]])?;
            buffer.fill(0);
            writer.close();
            Ok(writer.wait_closed().await?)
        })?;
        let all = reading.join().map_err(|_| "the peer panicked")??;
        mismatches += u64::from(!tally.check(all == expected, || "the wire shows later bytes".to_owned()));
    }
    let mut outcome = Outcome::ours(tally, format!("{mismatches} mismatches in {rounds} rounds"));
    for subject in [Subject::OursPython, Subject::Asyncio] {
        if context.has(subject) {
            let told = script(context, subject, "odd_buffers", &[]);
            if subject == Subject::Asyncio {
                outcome.asyncio = told.unwrap_or_else(|error| error.to_string());
            } else if let Some(told) = outcome.tally.value(told, "Python") {
                outcome.python = told;
            }
        }
    }
    Ok(outcome)
}

/// In one run through tiny buffers.
const TINY_MESSAGES: usize = 5;
const STRANGERS_PATIENCE: Duration = Duration::from_secs(2);
/// More than the kernel holds for a connection that is not read.
const FILLER: usize = 8 << 20;
const HIGH: u64 = 64 * 1024;
/// What `fill` writes at once.
const MESSAGE: u64 = 16 * 1024;
/// More than the low mark and the kernel's buffers hold.
const WOKEN: usize = 4 << 20;
/// A queue that held each message by itself would need some dozens of bytes for its head.
const MOST_EACH: f64 = 6.0;
