//! Peers that vanish without a word (S3), idle or in the middle of a write: every packet to them and from them is lost.

use std::io::{Read as _, Write as _};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::Result;
use crate::context::{Context, Size};
use crate::figures::time;
use crate::peer::read_line;
use crate::row::{Outcome, Tally};
use crate::server::{Server, Setup};
use crate::subjects::Subject;

/// S3: servers with connections that are idle and such that are written to; then nothing arrives any more. How long it takes
/// each server to find out: ours with keepalive, with a user timeout, with deadlines; others as they are.
pub(super) fn s3(context: &Context) -> Result<Outcome> {
    if !Command::new("tc").arg("-V").output().is_ok_and(|output| output.status.success()) {
        return Ok(Outcome::not_run("needs tc (iproute2), which swallows the packets"));
    }
    let peers = context.scaled(50, 2);
    let patience = Duration::from_secs(if context.size == Size::Full { 30 } else { 8 });
    let watch = || Setup::work("watch");
    let deadlines = watch().option("--idle-ms", 2_000).option("--progress-ms", 2_000);
    let mut groups = vec![
        Group::new("keepalive of 1 s + 2 x 1 s", IDLE, watch().option("--keepalive", true), 2..),
        Group::new("user timeout of 1.5 s", WRITING, watch().option("--user-timeout-ms", 1_500), 1..),
        Group::new("idle timeout of 2 s", IDLE, deadlines.clone(), 2..),
        Group::new("write progress of 2 s", WRITING, deadlines, 2..),
    ];
    let strangers = [Subject::OursPython, Subject::Asyncio, Subject::Tokio];
    for subject in strangers.into_iter().filter(|&subject| context.has(subject)) {
        groups.extend([IDLE, WRITING].map(|state| Group::stranger(subject, state)));
    }
    let mut watched = Vec::new();
    for group in &groups {
        watched.push(Watched::start(context, group, peers)?);
    }
    // What is written fills the path, then the peers stop.
    std::thread::sleep(Duration::from_millis(100));
    let output = Command::new("tc").args("qdisc add dev lo root blackhole".split(' ')).output()?;
    if !output.status.success() {
        return Err(format!("tc: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    let vanished = Instant::now();
    for watched in &watched {
        watched.over.store(true, Ordering::Relaxed);
    }
    let until = vanished + patience;
    // Each on a thread of its own, so that a slow one does not hide when another was told.
    let waits = watched.into_iter().map(|watched| std::thread::spawn(move || watched.wait(vanished, until)));
    let waits: Vec<_> = waits.collect();
    let mut outcome = Outcome::default();
    for (group, wait) in groups.iter().zip(waits) {
        let (times, odd) = wait.join().map_err(|_| "a wait panicked")?;
        let found = group.judge(&times, &odd, peers, patience, &mut outcome.tally);
        let column = match group.subject {
            Subject::Ours => &mut outcome.ours,
            Subject::OursPython => &mut outcome.python,
            Subject::Asyncio => &mut outcome.asyncio,
            Subject::Tokio => &mut outcome.tokio,
        };
        column.push_str(if column.is_empty() { "" } else { "; " });
        column.push_str(&found);
    }
    Ok(outcome)
}

/// Connections of one server in one state.
struct Group {
    name: &'static str,
    subject: Subject,
    state: &'static str,
    setup: Setup,
    /// It is no vanished peer before so many seconds.
    earliest: Duration,
}

impl Group {
    fn new(
        name: &'static str,
        state: &'static str,
        setup: Setup,
        earliest: std::ops::RangeFrom<u64>,
    ) -> Self {
        let earliest = Duration::from_secs(earliest.start);
        Self { name, subject: Subject::Ours, state, setup, earliest }
    }

    fn stranger(subject: Subject, state: &'static str) -> Self {
        let name = "without options";
        Self { name, subject, state, setup: Setup::work("watch"), earliest: Duration::ZERO }
    }

    /// The figure. Of ours, every connection has to be told, as lost, and not before its time.
    fn judge(
        &self,
        times: &[Duration],
        odd: &[String],
        peers: usize,
        patience: Duration,
        tally: &mut Tally,
    ) -> String {
        let (first, last) = (times.iter().min().copied(), times.iter().max().copied());
        if self.subject == Subject::Ours {
            for number in 0..peers {
                tally.check(number < times.len(), || {
                    format!("{}, {}: a peer that vanished is there after {patience:?}", self.name, self.state)
                });
            }
            tally.check(odd.is_empty(), || format!("{}: {:?}", self.name, odd.first()));
            // A peer was last heard of a little before the packets were lost.
            let early = first.filter(|&first| first + EARLY < self.earliest);
            tally.check(early.is_none(), || format!("{}: told after {first:?}", self.name));
        }
        match (self.subject, first, last) {
            (Subject::Ours, Some(first), Some(last)) => {
                format!("{}, {}: {} to {}", self.state, self.name, time(first), time(last))
            }
            (_, Some(_), Some(last)) if times.len() == peers => {
                format!("{}, {}: by {}", self.state, self.name, time(last))
            }
            _ => {
                format!("{}, {}: {} of {peers} within {}", self.state, self.name, times.len(), time(patience))
            }
        }
    }
}

/// A server and its peers, which read what they are sent, or show that they live, until they vanish.
struct Watched {
    server: Server,
    state: &'static str,
    peers: usize,
    over: Arc<AtomicBool>,
}

impl Watched {
    fn start(context: &Context, group: &Group, peers: usize) -> Result<Self> {
        let server = Server::start(context, group.subject, &group.setup)?;
        let over = Arc::new(AtomicBool::new(false));
        for _ in 0..peers {
            let mut socket = server.connect()?;
            socket.write_all(format!("{}\n", group.state).as_bytes())?;
            if read_line(&mut socket)? != "go" {
                return Err(format!("{}: the connection is not served", group.name).into());
            }
            let (over, is_idle) = (Arc::clone(&over), group.state == IDLE);
            std::thread::spawn(move || {
                let mut block = vec![0; 4096];
                socket.set_read_timeout(Some(Duration::from_millis(20)))?;
                while !over.load(Ordering::Relaxed) {
                    if is_idle {
                        // Nobody may take it for one that vanished before it does.
                        socket.write_all(b".")?;
                        std::thread::sleep(SIGN_OF_LIFE);
                    } else {
                        // A pace at which little else on this machine is disturbed.
                        std::thread::sleep(Duration::from_millis(1));
                        let _ = socket.read(&mut block);
                    }
                }
                // It stays open: nothing of it can be told to anybody any more.
                std::thread::sleep(Duration::from_secs(60));
                std::io::Result::Ok(())
            });
        }
        Ok(Self { server, state: group.state, peers, over })
    }

    /// When the server told each connection's loss, and what it told otherwise.
    fn wait(self, vanished: Instant, until: Instant) -> (Vec<Duration>, Vec<String>) {
        let (mut times, mut odd) = (Vec::new(), Vec::new());
        let lost = format!("{} lost", self.state);
        while times.len() + odd.len() < self.peers {
            match self.server.report(until.saturating_duration_since(Instant::now())) {
                Ok(line) if line.starts_with(&lost) => times.push(vanished.elapsed()),
                Ok(line) => odd.push(line),
                Err(_) => break,
            }
        }
        (times, odd)
    }
}

const IDLE: &str = "idle";
const WRITING: &str = "writing";
const SIGN_OF_LIFE: Duration = Duration::from_millis(50);
/// What the kernel's coarse timers and the time since the last sign of life may take from a wait.
const EARLY: Duration = Duration::from_secs(1);
