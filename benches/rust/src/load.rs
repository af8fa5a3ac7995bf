//! Drives one server for one measurement and prints what it cost.
//!
//! The load is written on epoll itself, so it is cheap and the same for every peer. It opens its
//! connections, warms the server up, lets it fall asleep, reads its CPU time, loads it for the window,
//! waits for the last answer, and reads the CPU time again: no request is half inside the window.

mod bulk;
mod clients;
mod closed;
mod connects;
mod handshakes;
mod histogram;
mod idle;
mod open;
mod session;
mod wire;

use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::{Result, peers, process};
use histogram::Latencies;
use session::Session;
use wire::{Plain, Wire};

/// How long a server may say nothing while it owes an answer.
const STALLED: Duration = Duration::from_secs(10);
/// How long a server that has answered everything gets to fall asleep.
const SETTLE: Duration = Duration::from_millis(3);

/// What one measurement found: a line of text between the load process and the orchestrator.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    /// Lines or messages answered, bytes for bulk, handshakes, or connections that were opened and kept.
    pub(crate) units: u64,
    /// Length of the window.
    pub(crate) wall_ns: u64,
    /// CPU time the server used in it.
    pub(crate) cpu_ns: u64,
    /// Time in it that the server or the load was ready to run and something else had its core.
    pub(crate) waited_ns: u64,
    /// Median time from asking to the last byte of the answer; 0 for bulk.
    pub(crate) p50_ns: u64,
    /// The same for the slowest of a hundred.
    pub(crate) p99_ns: u64,
    /// By how many bytes the server grew for the connections that were kept; 0 where none are.
    pub(crate) memory: u64,
    /// The same for the slowest of a thousand.
    pub(crate) p999_ns: u64,
    /// Time in the window in which the load itself was busy: near all of it, and the load was the limit.
    pub(crate) load_ns: u64,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { units, wall_ns, cpu_ns, waited_ns, p50_ns, p99_ns, memory, p999_ns, load_ns } = self;
        write!(f, "{units} {wall_ns} {cpu_ns} {waited_ns} {p50_ns} {p99_ns} {memory} {p999_ns} {load_ns}")
    }
}

impl FromStr for Outcome {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let &[units, wall_ns, cpu_ns, waited_ns, p50_ns, p99_ns, memory, p999_ns, load_ns] =
            numbers.as_slice()
        else {
            return Err(format!("not an outcome: {text:?}"));
        };
        Ok(Self { units, wall_ns, cpu_ns, waited_ns, p50_ns, p99_ns, memory, p999_ns, load_ns })
    }
}

/// How requests are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// Each ends with a newline.
    Lines,
    /// Each follows its length.
    Counted,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "lines" => Ok(Self::Lines),
            "counted" => Ok(Self::Counted),
            _ => Err("neither `lines` nor `counted`".to_owned()),
        }
    }
}

/// Which server is driven, and how hard.
#[derive(Clone, Copy, Debug)]
struct Plan {
    port: u16,
    server: u32,
    connections: usize,
    depth: usize,
    line: usize,
    warm: Duration,
    window: Duration,
    /// Lines a second of the open loop.
    rate: f64,
    /// Bytes of the bulk transfer.
    bytes: u64,
    /// Most of them sent and not back.
    inflight: u64,
    format: Format,
    /// End after so many batches, not after the window: to count what the server does for them.
    batches: Option<u64>,
}

/// `millstream-bench load MODE --port N --pid N ...`
pub(crate) fn main(mut args: Args) -> Result<()> {
    let mode = args.word().unwrap_or_default();
    let (connections, depth, line) = match mode.as_str() {
        "depth1" | "tls-depth1" | "open" | "tls-open" | "closed" | "tls-closed" => (100, 1, 64),
        "pipelined" | "tls-pipelined" => (50, 100, 64),
        "bulk" | "tls-bulk" => (1, 0, 0),
        "tls-messages" => (20, 1, peers::MESSAGE),
        "tls-handshakes" => (20, 1, 0),
        "connects" => (20, 1, 64),
        "memory" | "tls-memory" => (5000, 1, 64),
        _ => return Err(format!("no load `{mode}`").into()),
    };
    process::pin(args.value("--core")?)?;
    process::raise_descriptor_limit()?;
    let plan = Plan {
        port: args.value("--port")?.ok_or("load needs --port")?,
        server: args.value("--pid")?.ok_or("load needs --pid")?,
        connections: args.value_or("--connections", connections)?,
        depth: args.value_or("--depth", depth)?,
        line: args.value_or("--line", line)?,
        warm: Duration::from_millis(args.value_or("--warm-ms", 150)?),
        window: Duration::from_millis(args.value_or("--window-ms", 1500)?),
        rate: args.value_or("--rate", 50_000.0)?,
        bytes: args.value_or("--bytes", 1 << 30)?,
        inflight: args.value_or("--inflight", 1 << 20)?,
        format: args.value_or("--format", Format::Lines)?,
        batches: args.value("--batches")?,
    };
    args.finish()?;
    println!("{}", plan.measure(&mode)?);
    Ok(())
}

impl Plan {
    fn measure(&self, mode: &str) -> Result<Outcome> {
        match mode {
            "bulk" => self.bulk::<Plain>(),
            "tls-bulk" => self.bulk::<Session>(),
            "open" => self.open::<Plain>(),
            "tls-open" => self.open::<Session>(),
            "connects" => {
                let mut attempts = connects::Attempts::new(self)?;
                attempts.drive(self.warm, &mut Latencies::new())?;
                self.window(|times| attempts.drive(self.window, times).map(Driven::blocking))
            }
            "tls-handshakes" => {
                let mut attempts = handshakes::Attempts::new(self)?;
                attempts.drive(self.warm, &mut Latencies::new())?;
                self.window(|times| attempts.drive(self.window, times).map(Driven::blocking))
            }
            "memory" => self.memory::<Plain>(),
            "tls-memory" => self.memory::<Session>(),
            "depth1" | "pipelined" | "closed" => self.closed::<Plain>(),
            _ => self.closed::<Session>(),
        }
    }

    fn memory<W: Wire>(&self) -> Result<Outcome> {
        let mut memory = 0;
        let outcome = self.window(|_| {
            memory = idle::grow::<W>(self)?;
            Ok(Driven::blocking(self.connections as u64))
        })?;
        Ok(Outcome { memory, ..outcome })
    }

    fn bulk<W: Wire>(&self) -> Result<Outcome> {
        let mut streams = bulk::Streams::<W>::connect(self)?;
        streams.transfer(self.bytes / 16, bulk::Check::All)?;
        self.window(|_| streams.transfer(self.bytes, bulk::Check::Ends).map(Driven::blocking))
    }

    fn open<W: Wire>(&self) -> Result<Outcome> {
        let mut clients = clients::Clients::<W>::connect(self)?;
        let mut clock = open::Arrivals::new(self.rate / self.depth as f64);
        open::drive(&mut clients, &mut clock, self.warm, &mut Latencies::new())?;
        clients.check_all = false;
        self.window(|times| {
            let (units, busy) = open::drive(&mut clients, &mut clock, self.window, times)?;
            Ok(Driven { units, busy: Some(busy) })
        })
    }

    fn closed<W: Wire>(&self) -> Result<Outcome> {
        let mut clients = clients::Clients::<W>::connect(self)?;
        if self.batches.is_none() {
            closed::drive(&mut clients, self.warm, None, &mut Latencies::new())?;
        }
        clients.check_all = false;
        self.window(|times| {
            closed::drive(&mut clients, self.window, self.batches, times).map(Driven::blocking)
        })
    }

    /// Runs `drive`, which fills in latencies, between two looks at a sleeping server.
    fn window(&self, drive: impl FnOnce(&mut Latencies) -> Result<Driven>) -> Result<Outcome> {
        let mut times = Latencies::new();
        std::thread::sleep(SETTLE);
        let own = std::process::id();
        let (before, own_before) = (process::times(self.server)?, process::times(own)?);
        let start = Instant::now();
        let Driven { units, busy } = drive(&mut times)?;
        let wall_ns = process::nanos(start.elapsed());
        std::thread::sleep(SETTLE);
        let (after, own_after) = (process::times(self.server)?, process::times(own)?);
        Ok(Outcome {
            units,
            wall_ns,
            cpu_ns: after.on_cpu - before.on_cpu,
            waited_ns: (after.waited - before.waited) + (own_after.waited - own_before.waited),
            p50_ns: times.at(0.5),
            p99_ns: times.at(0.99),
            memory: 0,
            p999_ns: times.at(0.999),
            load_ns: busy.map_or(own_after.on_cpu - own_before.on_cpu, process::nanos),
        })
    }
}

/// What a load did.
struct Driven {
    /// See [`Outcome::units`].
    units: u64,
    /// For how long it was busy, if it spins while it is not.
    busy: Option<Duration>,
}

impl Driven {
    /// By a load that sleeps when there is nothing to do.
    fn blocking(units: u64) -> Self {
        Self { units, busy: None }
    }
}
