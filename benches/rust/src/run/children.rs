//! The servers of a run: peers of one table, each a process that lives as long as the run.

use std::process::Command;

use super::{Scenario, Settings};
use crate::certificate::Certificate;
use crate::load::Outcome;
use crate::peers::Peer;
use crate::{Result, children};

/// A running server process; dropping it ends it.
#[derive(Debug)]
pub(super) struct Server {
    /// Who it is.
    pub(super) peer: &'static Peer,
    process: children::Server,
}

impl Server {
    /// Starts `peer` on `core` and waits until it says where it listens.
    pub(super) fn start(peer: &'static Peer, core: usize, certificate: &Certificate) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        certificate.hand_to(&mut command).args(["serve", peer.name, "--core", &core.to_string()]);
        Ok(Self { peer, process: children::Server::start(peer.name, &mut command)? })
    }

    /// Measures this server once.
    pub(super) fn load(&self, scenario: &Scenario, settings: &Settings) -> Result<Outcome> {
        self.process.load(&scenario.load_args(settings), settings.load_core)
    }
}
