//! The processes of a comparison: servers that live for the whole run, and one load for each measurement.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use super::{Scenario, Settings};
use crate::Result;
use crate::certificate::Certificate;
use crate::load::Outcome;
use crate::peers::Peer;

/// A running server process; dropping it ends it.
#[derive(Debug)]
pub(super) struct Server {
    /// Who it is.
    pub(super) peer: &'static Peer,
    /// Its stdin stays open here: should this process die, the server sees the end of it and ends too.
    child: Child,
    port: u16,
}

impl Server {
    /// Starts `peer` on `core` and waits until it says where it listens.
    pub(super) fn start(peer: &'static Peer, core: usize, certificate: &Certificate) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = certificate
            .hand_to(&mut command)
            .args(["serve", peer.name, "--core", &core.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take();
        // From here on the child is ended by the drop, whatever fails.
        let mut server = Self { peer, child, port: 0 };
        let mut line = String::new();
        BufReader::new(stdout.ok_or("no pipe")?).read_line(&mut line)?;
        server.port = line.trim().parse().map_err(|_| format!("{} says `{line}`, not a port", peer.name))?;
        Ok(server)
    }

    /// Measures this server once.
    pub(super) fn load(&self, scenario: &Scenario, settings: &Settings) -> Result<Outcome> {
        let output = Command::new(std::env::current_exe()?)
            .arg("load")
            .args(scenario.load_args(settings))
            .args(["--port", &self.port.to_string(), "--pid", &self.child.id().to_string()])
            .args(["--core", &settings.load_core.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err(format!("{} on {}: {}", scenario.name, self.peer.name, output.status).into());
        }
        Ok(String::from_utf8(output.stdout)?.parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if the child has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
