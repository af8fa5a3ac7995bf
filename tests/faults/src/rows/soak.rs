//! The soak (K2): connections to both faces, plain and over TLS, through the chaos proxy. Every byte is the right one, or its
//! lack is an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use crate::Result;
use crate::chaos::{Fate, Pace, Plan, Proxy};
use crate::context::Context;
use crate::figures::{grouped, size};
use crate::load::{Target, block_on};
use crate::random::Random;
use crate::row::{Outcome, Tally};
use crate::server::{Server, Setup};
use crate::subjects::Subject;

/// What the clients of one server saw.
#[derive(Default)]
struct Seen {
    whole: AtomicU64,
    reported: AtomicU64,
    bytes: AtomicU64,
}

/// K2: `MILLSTREAM_SOAK_SECONDS` says for how long, a minute by default.
pub(super) fn k2(context: &Context) -> Result<Outcome> {
    let by_default = context.scaled(60, 3) as u64;
    let seconds = match std::env::var("MILLSTREAM_SOAK_SECONDS") {
        Ok(text) => text.parse()?,
        Err(_) => by_default,
    };
    let length = Duration::from_secs(seconds);
    eprintln!("seed {}, {seconds} s", context.seed);
    // Each subject has the machine for itself.
    Ok(context.compare(|subject, tally| soak(context, subject, length, tally)))
}

fn soak(context: &Context, subject: Subject, length: Duration, tally: &mut Tally) -> Result<String> {
    let kept = Plan { fate: Fate::Kept, pace: Pace::Split { most: 300, stall: 100 } };
    let mut servers = Vec::new();
    let mut ways = Vec::new();
    for is_tls in [false, true] {
        let server =
            Server::start(context, subject, &Setup::work("echo").tls(is_tls).close(Duration::from_secs(2)))?;
        let about = [CONVERSATION, CONVERSATION];
        for (must_be_whole, proxy) in [
            (true, Proxy::start(server.port, kept, context.seed)?),
            (false, Proxy::start_random(server.port, about, context.seed)?),
        ] {
            let target = if is_tls { Target::tls(proxy.port, context)? } else { Target::plain(proxy.port) };
            ways.push((target, must_be_whole));
        }
        servers.push(server);
    }
    let before: Vec<usize> =
        servers.iter().map(|server| server.process.descriptors()).collect::<Result<_>>()?;
    let seen = Arc::new(Seen::default());
    let (wrong, slope) =
        block_on(clients(&servers, ways, length, Arc::clone(&seen), Random::new(context.seed)))?;
    for what in wrong {
        tally.fail(what);
    }
    let (whole, reported) = (seen.whole.load(Ordering::Relaxed), seen.reported.load(Ordering::Relaxed));
    tally.passed(whole + reported);
    tally.check(whole > 0 && reported > 0, || format!("{whole} whole and {reported} reported test little"));
    let mut left = 0;
    for (server, before) in servers.iter().zip(before) {
        left += server.settles_at(before, Duration::from_secs(20))?.saturating_sub(before);
    }
    tally.check(left == 0, || format!("{left} descriptors left"));
    Ok(format!(
        "{} whole, {} reported errors, {}, 0 mismatches; RSS {:+.1} MiB from the first tenth on, {left} descriptors left",
        grouped(whole),
        grouped(reported),
        size(seen.bytes.load(Ordering::Relaxed)),
        slope / 1_048_576.0,
    ))
}

/// Runs the clients; what was wrong, and how much the servers grew after the first tenth of the time.
async fn clients(
    servers: &[Server],
    ways: Vec<(Target, bool)>,
    length: Duration,
    seen: Arc<Seen>,
    mut random: Random,
) -> Result<(Vec<String>, f64)> {
    let began = Instant::now();
    let mut workers = JoinSet::new();
    for number in 0..CONNECTIONS {
        let (target, must_be_whole) = ways[number % ways.len()].clone();
        let (seen, mut random) = (Arc::clone(&seen), Random::new(random.next()));
        workers.spawn(async move {
            while began.elapsed() < length {
                let talk = tokio::time::timeout(PATIENCE, converse(&target, &mut random, &seen)).await;
                let talk =
                    talk.unwrap_or_else(|_| Err(Trouble::Wrong("a conversation that hangs".to_owned())));
                match talk {
                    Ok(()) => seen.whole.fetch_add(1, Ordering::Relaxed),
                    Err(Trouble::Reported(_)) if !must_be_whole => {
                        seen.reported.fetch_add(1, Ordering::Relaxed)
                    }
                    Err(Trouble::Reported(text)) => {
                        return Some(format!("through a proxy that keeps all: {text}"));
                    }
                    Err(Trouble::Wrong(text)) => return Some(text),
                };
            }
            None
        });
    }
    tokio::time::sleep(length / 10).await;
    let memory = || servers.iter().map(|server| server.process.resident()).sum::<Result<u64>>();
    let early = memory()?;
    let mut wrong = Vec::new();
    while let Some(worker) = workers.join_next().await {
        wrong.extend(worker?);
    }
    Ok((wrong, memory()? as f64 - early as f64))
}

enum Trouble {
    /// The transport said so.
    Reported(String),
    /// Something else came than was sent.
    Wrong(String),
}

impl<E: std::fmt::Display> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Reported(error.to_string())
    }
}

/// A few batches of lines of random lengths, each of which has to come back as it was sent.
async fn converse(target: &Target, random: &mut Random, seen: &Seen) -> std::result::Result<(), Trouble> {
    let mut stream = target.open(1).await?;
    for _ in 0..1 + random.below(6) {
        let lines: Vec<Vec<u8>> = (0..1 + random.below(10))
            .map(|_| {
                let most = [20, 500, 5_000][random.below(3)];
                let mut line: Vec<u8> = (0..random.below(most)).map(|_| b'a' + random.byte() % 26).collect();
                line.push(b'\n');
                line
            })
            .collect();
        stream.write_all(&lines.concat()).await?;
        stream.flush().await?;
        for sent in &lines {
            let mut line = Vec::new();
            stream.read_until(b'\n', &mut line).await?;
            seen.bytes.fetch_add(line.len() as u64, Ordering::Relaxed);
            if line.is_empty() || (!line.ends_with(b"\n") && sent.starts_with(&line)) {
                return Err(Trouble::Reported("an end before its time".to_owned()));
            }
            if line != *sent {
                return Err(Trouble::Wrong(format!(
                    "{} bytes came back as {} others",
                    sent.len(),
                    line.len()
                )));
            }
        }
    }
    Ok(())
}

const CONNECTIONS: usize = 200;
/// About what one conversation carries each way.
const CONVERSATION: usize = 25_000;
/// No conversation takes this long, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(60);
