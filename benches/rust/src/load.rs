//! Drives one server for one measurement and prints what it cost.
//!
//! The load is written on epoll itself, so it is cheap and the same for every peer. It opens its
//! connections, warms the server up, lets it fall asleep, reads its CPU time, loads it for the window,
//! waits for the last answer, and reads the CPU time again: no request is half inside the window.

mod bulk;
mod clients;
mod closed;
mod handshakes;
mod idle;
mod open;
mod session;
mod wire;

use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::{Result, peers, process};
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
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { units, wall_ns, cpu_ns, waited_ns, p50_ns, p99_ns, memory } = self;
        write!(f, "{units} {wall_ns} {cpu_ns} {waited_ns} {p50_ns} {p99_ns} {memory}")
    }
}

impl FromStr for Outcome {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let &[units, wall_ns, cpu_ns, waited_ns, p50_ns, p99_ns, memory] = numbers.as_slice() else {
            return Err(format!("not an outcome: {text:?}"));
        };
        Ok(Self { units, wall_ns, cpu_ns, waited_ns, p50_ns, p99_ns, memory })
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
}

/// `millstream-bench load MODE --port N --pid N ...`
pub(crate) fn main(mut args: Args) -> Result<()> {
    let mode = args.word().unwrap_or_default();
    let (connections, depth, line) = match mode.as_str() {
        "depth1" | "tls-depth1" | "open" => (100, 1, 64),
        "pipelined" | "tls-pipelined" => (50, 100, 64),
        "bulk" | "tls-bulk" => (1, 0, 0),
        "tls-messages" => (20, 1, peers::MESSAGE),
        "tls-handshakes" => (20, 1, 0),
        "tls-memory" => (5000, 1, 64),
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
            "tls-handshakes" => {
                let mut attempts = handshakes::Attempts::new(self)?;
                attempts.drive(self.warm, &mut Vec::new())?;
                self.window(Vec::with_capacity(1 << 16), |times| attempts.drive(self.window, times))
            }
            "tls-memory" => {
                let mut memory = 0;
                let outcome = self.window(Vec::new(), |_| {
                    memory = idle::grow::<Session>(self)?;
                    Ok(self.connections as u64)
                })?;
                Ok(Outcome { memory, ..outcome })
            }
            "depth1" | "pipelined" => self.closed::<Plain>(),
            _ => self.closed::<Session>(),
        }
    }

    fn bulk<W: Wire>(&self) -> Result<Outcome> {
        let mut streams = bulk::Streams::<W>::connect(self)?;
        streams.transfer(self.bytes / 16, bulk::Check::All)?;
        self.window(Vec::new(), |_| streams.transfer(self.bytes, bulk::Check::Ends))
    }

    fn open<W: Wire>(&self) -> Result<Outcome> {
        let mut clients = clients::Clients::<W>::connect(self)?;
        let mut clock = open::Arrivals::new(self.rate);
        open::drive(&mut clients, &mut clock, self.warm, &mut Vec::new())?;
        self.window(Vec::with_capacity(1 << 20), |times| {
            open::drive(&mut clients, &mut clock, self.window, times)
        })
    }

    fn closed<W: Wire>(&self) -> Result<Outcome> {
        let mut clients = clients::Clients::<W>::connect(self)?;
        closed::drive(&mut clients, self.warm, &mut Vec::new())?;
        self.window(Vec::with_capacity(1 << 20), |times| closed::drive(&mut clients, self.window, times))
    }

    /// Runs `drive`, which returns units and fills in latencies, between two looks at a sleeping server.
    fn window(
        &self,
        mut times: Vec<u64>,
        drive: impl FnOnce(&mut Vec<u64>) -> Result<u64>,
    ) -> Result<Outcome> {
        std::thread::sleep(SETTLE);
        let own = std::process::id();
        let (before, own_before) = (process::times(self.server)?, process::times(own)?);
        let start = Instant::now();
        let units = drive(&mut times)?;
        let wall_ns = process::nanos(start.elapsed());
        std::thread::sleep(SETTLE);
        let (after, own_after) = (process::times(self.server)?, process::times(own)?);
        times.sort_unstable();
        let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or(0);
        Ok(Outcome {
            units,
            wall_ns,
            cpu_ns: after.on_cpu - before.on_cpu,
            waited_ns: (after.waited - before.waited) + (own_after.waited - own_before.waited),
            p50_ns: at(50),
            p99_ns: at(99),
            memory: 0,
        })
    }
}
