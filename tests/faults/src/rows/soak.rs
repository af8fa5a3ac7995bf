//! The soak (K2): connections to both faces, plain and over TLS, through the chaos proxy. Every byte is the right one, or its
//! lack is an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use crate::Result;
use crate::chaos::{Fate, Pace, Plan, Proxy};
use crate::context::{Context, NO_PACKAGE};
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
    mismatches: AtomicU64,
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
    if length >= LONG {
        return side_by_side(context, length);
    }
    // Each subject has the machine for itself.
    Ok(context.compare(|subject, tally| soak(context, subject, length, tally)))
}

/// Both faces at once, each with all its connections: a soak of an hour takes an hour. Strangers are not soaked for so long.
fn side_by_side(context: &Context, length: Duration) -> Result<Outcome> {
    let face = |subject| {
        let mut tally = Tally::default();
        let figure = soak(context, subject, length, &mut tally);
        let figure = tally.value(figure, subject.name()).unwrap_or_default();
        (tally, figure)
    };
    std::thread::scope(|scope| {
        let python = context.has(Subject::OursPython).then(|| scope.spawn(|| face(Subject::OursPython)));
        let (tally, ours) = face(Subject::Ours);
        let mut outcome = Outcome { tally, ours, python: NO_PACKAGE.to_owned(), ..Outcome::default() };
        if let Some(python) = python {
            let (tally, figure) = python.join().map_err(|_| "the soak of the Python face panicked")?;
            outcome.tally.add(tally);
            outcome.python = figure;
        }
        Ok(outcome)
    })
}

fn soak(context: &Context, subject: Subject, length: Duration, tally: &mut Tally) -> Result<String> {
    let kept = Plan { fate: Fate::Kept, pace: Pace::Split { most: 300, stall: 100 } };
    // A handshake has as long as a conversation: this row is not about deadlines, and the machine may be busy.
    let setup = Setup::work("echo").close(Duration::from_secs(2)).handshake(PATIENCE);
    let mut servers = Vec::new();
    let mut ways = Vec::new();
    for is_tls in [false, true] {
        let server = Server::start(context, subject, &setup.clone().tls(is_tls))?;
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
    let (wrong, quarters) =
        block_on(clients(&servers, ways, length, Arc::clone(&seen), Random::new(context.seed)))?;
    for what in wrong {
        eprintln!("{}: {what}", subject.name());
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
    if length >= LONG {
        // The first quarter is for caches and allocators to find their size.
        let (early, late) = (quarters[1], quarters[3]);
        let grown = late.resident.saturating_sub(early.resident);
        tally.check(grown <= (early.resident / 20).max(1 << 20), || {
            format!("RSS grew from {} to {}", size(early.resident), size(late.resident))
        });
        tally.check(late.descriptors <= early.descriptors + CONNECTIONS / 4, || {
            format!("descriptors grew from {} to {}", early.descriptors, late.descriptors)
        });
    }
    let mib = |quarter: &Held| format!("{:.1}", quarter.resident as f64 / 1_048_576.0);
    Ok(format!(
        "{} whole, {} reported errors, {}, {} mismatches; RSS by quarters {} MiB, descriptors {}, {left} left",
        grouped(whole),
        grouped(reported),
        size(seen.bytes.load(Ordering::Relaxed)),
        seen.mismatches.load(Ordering::Relaxed),
        quarters.iter().map(mib).collect::<Vec<_>>().join(", "),
        quarters.iter().map(|quarter| quarter.descriptors.to_string()).collect::<Vec<_>>().join(", "),
    ))
}

/// What the servers of one subject hold.
#[derive(Clone, Copy, Default)]
struct Held {
    resident: u64,
    descriptors: usize,
}

impl Held {
    fn by(servers: &[Server]) -> Result<Self> {
        let mut held = Self::default();
        for server in servers {
            held.resident += server.process.resident()?;
            held.descriptors += server.process.descriptors()?;
        }
        Ok(held)
    }

    /// The median of each number.
    fn median(mut samples: Vec<Self>) -> Self {
        let middle = samples.len() / 2;
        samples.sort_unstable_by_key(|held| held.resident);
        let resident = samples[middle].resident;
        samples.sort_unstable_by_key(|held| held.descriptors);
        Self { resident, descriptors: samples[middle].descriptors }
    }
}

/// Runs the clients; what was wrong, and the medians of what the servers held in each quarter of the time.
async fn clients(
    servers: &[Server],
    ways: Vec<(Target, bool)>,
    length: Duration,
    seen: Arc<Seen>,
    mut random: Random,
) -> Result<(Vec<String>, Vec<Held>)> {
    let began = Instant::now();
    let mut workers = JoinSet::new();
    for number in 0..CONNECTIONS {
        let (target, must_be_whole) = ways[number % ways.len()].clone();
        let (seen, mut random) = (Arc::clone(&seen), Random::new(random.next()));
        // A long soak leaves the machine to others: its connections are open, and mostly silent.
        let pause = if length >= LONG { PAUSE } else { Duration::ZERO };
        // Each from an address of its own: those that have just ended keep the ports of one address for a minute.
        let host = u8::try_from(number + 1)?;
        workers.spawn(async move {
            while began.elapsed() < length {
                let talk =
                    tokio::time::timeout(PATIENCE, converse(&target, host, pause, &mut random, &seen)).await;
                let talk = talk.unwrap_or_else(|_| Err(Trouble::Wrong("it hangs".to_owned())));
                let way = || {
                    let (port, age) = (target.port(), began.elapsed().as_secs());
                    format!("port {port}, kept {must_be_whole}, after {age} s")
                };
                match talk {
                    Ok(()) => seen.whole.fetch_add(1, Ordering::Relaxed),
                    Err(Trouble::Reported(_)) if !must_be_whole => {
                        seen.reported.fetch_add(1, Ordering::Relaxed)
                    }
                    Err(Trouble::Reported(text)) => {
                        return Some(format!("a whole way, and yet: {text} ({})", way()));
                    }
                    Err(Trouble::Wrong(text)) => {
                        seen.mismatches.fetch_add(1, Ordering::Relaxed);
                        return Some(format!("{text} ({})", way()));
                    }
                };
            }
            None
        });
    }
    let mut quarters = Vec::new();
    for _ in 0..4 {
        let mut samples = Vec::new();
        for _ in 0..SAMPLES {
            tokio::time::sleep(length / (4 * SAMPLES)).await;
            samples.push(Held::by(servers)?);
        }
        quarters.push(Held::median(samples));
    }
    let mut wrong = Vec::new();
    while let Some(worker) = workers.join_next().await {
        wrong.extend(worker?);
    }
    Ok((wrong, quarters))
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
async fn converse(
    target: &Target,
    host: u8,
    pause: Duration,
    random: &mut Random,
    seen: &Seen,
) -> std::result::Result<(), Trouble> {
    let mut stream = target.open(host).await?;
    for _ in 0..1 + random.below(6) {
        tokio::time::sleep(pause.mul_f64(random.below(1_000) as f64 / 1_000.0)).await;
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
/// From here on a soak is judged by what the servers hold, too.
const LONG: Duration = Duration::from_secs(600);
/// The longest that a connection of a long soak says nothing.
const PAUSE: Duration = Duration::from_secs(6);
/// How often a quarter looks at that.
const SAMPLES: u32 = 60;
/// No conversation takes this long, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(300);
