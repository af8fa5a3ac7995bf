//! The scenarios: what load each one is, who takes part, and what its ratios are formed against.

use super::Settings;
use crate::peers::Kind;

/// One kind of load.
#[derive(Debug)]
pub(super) struct Scenario {
    /// Its name on the command line, and the load's mode.
    pub(super) name: &'static str,
    /// Who takes part.
    pub(super) kind: Kind,
    /// The heading over its table.
    pub(super) title: &'static str,
    /// What is counted.
    pub(super) unit: Unit,
    /// Whose CPU time, or memory, per unit is 1.
    pub(super) floor: &'static str,
    /// Whose rate is 1, each a column.
    pub(super) rate_against: &'static [&'static str],
    /// Measured in so many rounds at most, and each time on a server of its own.
    pub(super) fresh_rounds: Option<usize>,
}

/// What a scenario counts, and so what its table shows.
#[derive(Debug)]
pub(super) enum Unit {
    /// Work: the units of CPU time and rate, and what brings ns a piece and pieces a second into them.
    /// Latencies only where a piece is one answer.
    Work { cpu: &'static str, cpu_scale: f64, rate: &'static str, rate_scale: f64, latency: bool },
    /// The memory of a connection that does nothing.
    Memory,
}

const REQUESTS: Unit = work("CPU us a request", 1e-3, "k requests/s", 1e-3, true);
const LINES: Unit = work("CPU ns a line", 1.0, "M lines/s", 1e-6, true);
const MESSAGES: Unit = work("CPU us a message", 1e-3, "k messages/s", 1e-3, true);
const HANDSHAKES: Unit = work("CPU us a handshake", 1e-3, "k handshakes/s", 1e-3, true);
const BYTES: Unit = work("CPU us a MiB", 1e-3 * 1024.0 * 1024.0, "GB/s", 1e-9, false);

const fn work(cpu: &'static str, cpu_scale: f64, rate: &'static str, rate_scale: f64, latency: bool) -> Unit {
    Unit::Work { cpu, cpu_scale, rate, rate_scale, latency }
}

/// All scenarios, in the order of a round.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "depth1",
        kind: Kind::Lines,
        title: "100 connections, one 64-byte line outstanding on each, closed loop",
        unit: REQUESTS,
        floor: "epoll",
        rate_against: &["epoll"],
        fresh_rounds: None,
    },
    Scenario {
        name: "open",
        kind: Kind::Lines,
        title: "100 connections, 64-byte lines arriving at one fixed rate, open loop",
        unit: REQUESTS,
        floor: "epoll",
        rate_against: &[],
        fresh_rounds: None,
    },
    Scenario {
        name: "pipelined",
        kind: Kind::Lines,
        title: "50 connections, 100 64-byte lines outstanding on each",
        unit: LINES,
        floor: "epoll",
        rate_against: &["epoll", "tokio-flush", "tokio-naive"],
        fresh_rounds: None,
    },
    Scenario {
        name: "bulk",
        kind: Kind::Bulk,
        title: "bulk: one connection, every byte sent back",
        unit: BYTES,
        floor: "bulk-epoll",
        rate_against: &["bulk-epoll"],
        fresh_rounds: None,
    },
    Scenario {
        name: "tls-depth1",
        kind: Kind::TlsLines,
        title: "TLS: 100 connections, one 64-byte line outstanding on each, closed loop",
        unit: REQUESTS,
        floor: "tls-tokio-naive",
        rate_against: &["tls-tokio-naive"],
        fresh_rounds: None,
    },
    Scenario {
        name: "tls-pipelined",
        kind: Kind::TlsLines,
        title: "TLS: 50 connections, 100 64-byte lines outstanding on each",
        unit: LINES,
        floor: "tls-tokio-naive",
        rate_against: &["tls-tokio-flush", "tls-tokio-naive"],
        fresh_rounds: None,
    },
    Scenario {
        name: "tls-messages",
        kind: Kind::TlsMessages,
        title: "TLS: 20 connections, one 16 KiB message outstanding on each, closed loop",
        unit: MESSAGES,
        floor: "tls-messages-naive",
        rate_against: &["tls-messages-naive"],
        fresh_rounds: None,
    },
    Scenario {
        name: "tls-bulk",
        kind: Kind::TlsBulk,
        title: "TLS bulk: one connection, every byte sent back",
        unit: BYTES,
        floor: "tls-bulk-tokio",
        rate_against: &["tls-bulk-tokio"],
        fresh_rounds: None,
    },
    Scenario {
        name: "tls-handshakes",
        kind: Kind::TlsLines,
        title: "TLS: connect, full handshake, close; 20 at once, closed loop",
        unit: HANDSHAKES,
        floor: "tls-tokio-naive",
        rate_against: &["tls-tokio-naive"],
        fresh_rounds: None,
    },
    Scenario {
        name: "tls-memory",
        kind: Kind::TlsLines,
        title: "TLS: 5000 connections, idle after one line",
        unit: Unit::Memory,
        floor: "tls-tokio-naive",
        rate_against: &[],
        fresh_rounds: Some(3),
    },
];

/// The open loop's rate when the scenario runs without the closed one that finds it.
const DEFAULT_RATE: f64 = 80_000.0;

impl Scenario {
    /// The arguments of the load process beside those that name the server.
    pub(super) fn load_args(&self, settings: &Settings) -> Vec<String> {
        let text = |name: &str, value: String| [format!("--{name}"), value];
        let mut args = vec![self.name.to_owned()];
        args.extend(text("window-ms", settings.window_ms.to_string()));
        args.extend(text("warm-ms", settings.warm_ms.to_string()));
        match self.name {
            "open" => args.extend(text("rate", settings.rate.unwrap_or(DEFAULT_RATE).to_string())),
            "bulk" | "tls-bulk" => args.extend(text("bytes", (settings.bulk_mib << 20).to_string())),
            _ => {}
        }
        args
    }
}
