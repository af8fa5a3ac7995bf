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
    /// Whose CPU time per unit is 1.
    pub(super) floor: &'static str,
    /// Whose rate is 1, each a column.
    pub(super) rate_against: &'static [&'static str],
}

/// All scenarios, in the order of a round.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "depth1",
        kind: Kind::Lines,
        title: "100 connections, one 64-byte line outstanding on each, closed loop",
        floor: "epoll",
        rate_against: &["epoll"],
    },
    Scenario {
        name: "open",
        kind: Kind::Lines,
        title: "100 connections, 64-byte lines arriving at one fixed rate, open loop",
        floor: "epoll",
        rate_against: &[],
    },
    Scenario {
        name: "pipelined",
        kind: Kind::Lines,
        title: "50 connections, 100 64-byte lines outstanding on each",
        floor: "epoll",
        rate_against: &["epoll", "tokio-flush", "tokio-naive"],
    },
    Scenario {
        name: "bulk",
        kind: Kind::Bulk,
        title: "bulk: one connection, every byte sent back",
        floor: "bulk-epoll",
        rate_against: &["bulk-epoll"],
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
            "bulk" => args.extend(text("bytes", (settings.bulk_mib << 20).to_string())),
            _ => {}
        }
        args
    }
}
