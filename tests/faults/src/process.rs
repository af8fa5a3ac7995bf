//! What procfs tells of a process (descriptors, memory, processor time, threads), and limits set from outside.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

use crate::Result;

/// A process whose insides are looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(pub(crate) u32);

impl Process {
    /// This one.
    pub(crate) fn own() -> Self {
        Self(std::process::id())
    }

    /// Whether it is there and no zombie.
    pub(crate) fn is_alive(self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(self) -> Result<usize> {
        let own_listing = usize::from(self.0 == std::process::id());
        Ok(fs::read_dir(format!("/proc/{}/fd", self.0))?.count() - own_listing)
    }

    /// The memory it occupies, in bytes.
    pub(crate) fn resident(self) -> Result<u64> {
        self.status("VmRSS:")
    }

    /// The most memory it occupied since [`restart_peak`](Self::restart_peak), in bytes.
    pub(crate) fn peak(self) -> Result<u64> {
        self.status("VmHWM:")
    }

    /// Forgets the peak so far; returns what is occupied now.
    pub(crate) fn restart_peak(self) -> Result<u64> {
        fs::write(format!("/proc/{}/clear_refs", self.0), "5")?;
        self.resident()
    }

    /// What it used of the processors, in user and system mode.
    pub(crate) fn cpu(self) -> Result<Duration> {
        let mut nanos = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.0))? {
            // A thread that ended since the directory was listed.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            nanos += text.split_whitespace().next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Changes how many descriptors it may have, keeping the hard limit.
    pub(crate) fn limit_descriptors(self, most: u64) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.0)?).ok_or("process 0")?;
        let maximum = getrlimit(Resource::Nofile).maximum;
        prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(most), maximum })?;
        Ok(())
    }

    fn status(self, name: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))?;
        let line = status.lines().find(|line| line.starts_with(name)).ok_or("the process has ended")?;
        let kib: u64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
        Ok(kib * 1024)
    }
}

/// Lets this process open as many descriptors as it may.
pub(crate) fn raise_descriptor_limit() -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}
