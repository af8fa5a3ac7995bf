//! The processes of a comparison: servers, and one load for each measurement.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::Result;
use crate::load::Outcome;

/// A running server process; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Server {
    name: String,
    /// Its stdin stays open here: should this process die, a server of ours sees the end of it and ends too.
    child: Child,
    port: u16,
}

impl Server {
    /// Starts a server, which is a command that prints its port, and waits until it has.
    pub(crate) fn start(name: &str, command: &mut Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take();
        // From here on the child is ended by the drop, whatever fails.
        let mut server = Self { name: name.to_owned(), child, port: 0 };
        let mut line = String::new();
        BufReader::new(stdout.ok_or("no pipe")?).read_line(&mut line)?;
        server.port =
            line.trim().parse().map_err(|_| format!("{name} says `{}`, not a port", line.trim()))?;
        Ok(server)
    }

    /// Measures this server once, with the load's `args`.
    pub(crate) fn load(&self, args: &[String], core: usize) -> Result<Outcome> {
        let output = Command::new(std::env::current_exe()?)
            .arg("load")
            .args(args)
            .args(["--port", &self.port.to_string(), "--pid", &self.child.id().to_string()])
            .args(["--core", &core.to_string()])
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{} by {}: {}", args.join(" "), self.name, said.trim()).into());
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
