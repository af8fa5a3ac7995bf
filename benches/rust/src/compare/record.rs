//! What a comparison leaves behind: everything measured, as JSON, from which the report is made.

use serde::{Deserialize, Serialize};

use super::machine::Machine;
use crate::load::Outcome;

/// One comparison.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Record {
    pub(crate) machine: Machine,
    pub(crate) effort: Effort,
    pub(crate) rows: Vec<RowRecord>,
    pub(crate) samples: Vec<Sample>,
    /// System calls a request, counted in runs of their own.
    pub(crate) syscalls: Vec<Syscalls>,
    /// Who could not take part in what, and why.
    pub(crate) failures: Vec<Failure>,
}

/// How much was measured.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Effort {
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    pub(crate) window_ms: u64,
    /// Of the order within rounds.
    pub(crate) seed: u64,
    pub(crate) server_core: usize,
    pub(crate) load_core: usize,
}

/// One row, in words.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct RowRecord {
    pub(crate) name: String,
    pub(crate) title: String,
    /// `rust` or `python`.
    pub(crate) face: String,
    pub(crate) unit: String,
    /// Whose figures are 1.
    pub(crate) base: String,
    /// Requests a second that were asked for, in an open loop.
    pub(crate) rate: Option<f64>,
    /// Whether memory is what counts.
    pub(crate) memory: bool,
}

/// One measurement.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Sample {
    pub(crate) row: String,
    pub(crate) server: String,
    pub(crate) round: usize,
    pub(crate) units: u64,
    pub(crate) wall_ns: u64,
    /// The server's processor time, all threads.
    pub(crate) cpu_ns: u64,
    /// Time that server or load were ready and something else had their core.
    pub(crate) waited_ns: u64,
    /// Time that the load was busy.
    pub(crate) load_ns: u64,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) p999_ns: u64,
    /// Bytes that the server grew by.
    pub(crate) memory: u64,
}

/// System calls of one server in one row.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Syscalls {
    pub(crate) row: String,
    pub(crate) server: String,
    pub(crate) per_request: f64,
    /// By name, most first.
    pub(crate) calls: Vec<(String, f64)>,
}

/// A server that could not be measured.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Failure {
    pub(crate) row: String,
    pub(crate) server: String,
    pub(crate) why: String,
}

impl Sample {
    /// What the load process said, with its place in the run.
    pub(crate) fn new(row: &str, server: &str, round: usize, outcome: &Outcome) -> Self {
        let &Outcome { units, wall_ns, cpu_ns, waited_ns, p50_ns, p99_ns, memory, p999_ns, load_ns } =
            outcome;
        let (row, server) = (row.to_owned(), server.to_owned());
        Self {
            row,
            server,
            round,
            units,
            wall_ns,
            cpu_ns,
            waited_ns,
            load_ns,
            p50_ns,
            p99_ns,
            p999_ns,
            memory,
        }
    }
}
