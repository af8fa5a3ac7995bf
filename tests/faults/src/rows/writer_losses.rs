//! Writers whose connection ended (W5, W6): every call in every state, and a reset while many wait.

use std::io::Read as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use millstream::{ConnectOptions, StreamReader, StreamWriter};
use socket2::SockRef;

use crate::Result;
use crate::context::Context;
use crate::figures::time;
use crate::load::block_on;
use crate::peer::{PATIENCE, reset, tcp_pair};
use crate::random::Random;
use crate::row::{Outcome, Tally};
use crate::scripts::script;
use crate::subjects::Subject;

/// What a connection went through.
const STATES: [&str; 4] = ["closed", "after its end", "lost", "aborted"];
const CALLS: [&str; 5] = ["write", "write_bytes", "write_lines", "write_eof", "drain"];

/// W5: every call in every state after the end has an error and queues nothing.
pub(super) fn w5(context: &Context) -> Result<Outcome> {
    let mut tally = Tally::default();
    let mut queued = 0;
    for _ in 0..context.scaled(100, 1) {
        for state in STATES {
            for call in CALLS {
                let left = block_on(async {
                    let (ours, peer) = tcp_pair()?;
                    let (reader, writer) = ConnectOptions::new().adopt_tcp(ours)?;
                    let peer = reach(state, &writer, reader, peer).await?;
                    let fails = attempt(call, &writer).await;
                    // An end twice is one end; below the high mark, a drain has nothing to wait for.
                    let may_succeed = match call {
                        "drain" => matches!(state, "closed" | "after its end"),
                        "write_eof" => state == "after its end",
                        _ => false,
                    };
                    drop(peer);
                    Ok((fails || may_succeed, writer.stats().queued))
                });
                if let Some((right, left)) = tally.value(left, &format!("{call} on one that is {state}")) {
                    queued += left;
                    if !right || left > 0 {
                        tally.fail(format!(
                            "{call} on one that is {state}: refused {right}, {left} bytes queued"
                        ));
                    }
                }
            }
        }
    }
    let figure = format!("{} pairs of state and call, {queued} bytes queued", STATES.len() * CALLS.len());
    Ok(Outcome::ours(tally, figure))
}

async fn reach(
    state: &str,
    writer: &StreamWriter,
    mut reader: StreamReader,
    peer: TcpStream,
) -> Result<Option<TcpStream>> {
    match state {
        "closed" => writer.close(),
        "after its end" => writer.write_eof()?,
        "aborted" => writer.abort(),
        _ => {
            reset(peer)?;
            // The reader is the first to know.
            reader.read(1).await.err().ok_or("a reset that nobody noticed")?;
            return Ok(None);
        }
    }
    Ok(Some(peer))
}

/// Whether the call fails.
async fn attempt(call: &str, writer: &StreamWriter) -> bool {
    match call {
        "write" => writer.write(b"late").is_err(),
        "write_bytes" => writer.write_bytes("late").is_err(),
        "write_lines" => writer.write_lines(&["late"]).is_err(),
        "write_eof" => writer.write_eof().is_err(),
        _ => writer.drain().await.is_err(),
    }
}

/// W6: a reset after k bytes while four wait in `drain`; how long until the last of them knows.
pub(super) fn w6(context: &Context) -> Result<Outcome> {
    let mut tally = Tally::default();
    let mut random = Random::new(context.seed);
    let mut slowest = Duration::ZERO;
    let runs = context.scaled(500, 10);
    for run in 0..runs {
        let k = run * 1_000 + random.below(1_000);
        if let Some(took) = tally.value(woken_after(k), &format!("a reset after {k} bytes")) {
            slowest = slowest.max(took);
            if took > context.within(Duration::from_secs(1)) {
                tally.fail(format!("{took:?} until the last knew of a reset after {k} bytes"));
            }
        }
    }
    let figure = format!("slowest of {} wake-ups {}", runs * WAITERS, time(slowest));
    let mut outcome = Outcome::ours(tally, figure);
    for subject in [Subject::OursPython, Subject::Asyncio] {
        if context.has(subject) {
            let told = script(context, subject, "reset_drains", &[&context.scaled(200, 10).to_string()]);
            if subject == Subject::Asyncio {
                outcome.asyncio = told.unwrap_or_else(|error| error.to_string());
            } else if let Some(told) = outcome.tally.value(told, "Python") {
                outcome.python = told;
            }
        }
    }
    Ok(outcome)
}

fn woken_after(k: usize) -> Result<Duration> {
    let (ours, mut peer) = tcp_pair()?;
    SockRef::from(&ours).set_send_buffer_size(1)?;
    let resetting = std::thread::spawn(move || -> std::io::Result<Instant> {
        let mut block = vec![0; k];
        peer.read_exact(&mut block)?;
        std::thread::sleep(Duration::from_millis(2));
        let now = Instant::now();
        reset(peer)?;
        Ok(now)
    });
    let last = block_on(async {
        let (_reader, writer) = ConnectOptions::new().adopt_tcp(ours)?;
        let writer = std::sync::Arc::new(writer);
        writer.write_bytes(vec![b'w'; k + (8 << 20)])?;
        let mut waiters = tokio::task::JoinSet::new();
        for _ in 0..WAITERS {
            let writer = std::sync::Arc::clone(&writer);
            waiters.spawn(async move { (writer.drain().await.is_err(), Instant::now()) });
        }
        let mut last = None;
        while let Some(woken) = tokio::time::timeout(PATIENCE, waiters.join_next()).await? {
            let (failed, when) = woken?;
            if !failed {
                return Err("a drain that succeeded".into());
            }
            last = Some(when);
        }
        if writer.write(b"more").is_ok() {
            return Err("a write that succeeded after the reset".into());
        }
        Ok(last)
    })?;
    let began = resetting.join().map_err(|_| "the peer panicked")??;
    Ok(last.map_or(Duration::ZERO, |last| last.saturating_duration_since(began)))
}

const WAITERS: usize = 4;
