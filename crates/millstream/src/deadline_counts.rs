//! How many connections of a server were cut for a deadline, by deadline.

use std::sync::atomic::{AtomicU64, Ordering};

use millstream_core::DeadlineKind;

use crate::connection::Connection;
use crate::server::Server;

/// One counter for each kind of deadline.
#[derive(Debug, Default)]
pub(crate) struct DeadlineCounts([AtomicU64; DeadlineKind::ALL.len()]);

impl DeadlineCounts {
    /// This connection is over.
    pub(crate) fn count(&self, connection: &Connection) {
        if let Some(counter) = connection.passed_deadline().and_then(|kind| self.of(kind)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self, kind: DeadlineKind) -> u64 {
        self.of(kind).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    fn of(&self, kind: DeadlineKind) -> Option<&AtomicU64> {
        self.0.get(DeadlineKind::ALL.iter().position(|&other| other == kind)?)
    }
}

impl Server {
    /// How many of its connections have ended because this deadline had passed. Whether a handler makes an error of it or
    /// not; of errors, [`ServerFailure::deadline`](crate::ServerFailure::deadline) tells.
    pub fn passed_deadlines(&self, kind: DeadlineKind) -> u64 {
        self.deadline_counts().get(kind)
    }
}
