//! What is asked of Linux about processes: pinning one to a core, and another's CPU time and memory.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Pins this thread, and every thread it will start, to `core`.
pub(crate) fn pin(core: Option<usize>) -> io::Result<()> {
    let Some(core) = core else { return Ok(()) };
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores)
        .map_err(|error| io::Error::other(format!("cannot pin to core {core}: {error}")))
}

/// What the scheduler knows of all threads of one process, in nanoseconds since each began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    /// User and system time.
    pub(crate) on_cpu: u64,
    /// Time it was ready to run and something else had its core.
    pub(crate) waited: u64,
}

/// Reads the times of process `pid`.
///
/// The scheduler brings its books up to date when a thread goes to sleep, so the figures are exact only
/// for a process that sleeps: ask before the first request is sent and after the last answer came.
pub(crate) fn times(pid: u32) -> io::Result<Times> {
    let mut total = Times::default();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path().join("schedstat");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            // A helper thread that ended since the directory was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let fields: Vec<u64> = text.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        let &[on_cpu, waited, _slices] = fields.as_slice() else {
            return Err(io::Error::other(format!("{} is not understood", path.display())));
        };
        total.on_cpu += on_cpu;
        total.waited += waited;
    }
    Ok(total)
}

/// The memory that process `pid` occupies, in bytes.
pub(crate) fn resident(pid: u32) -> io::Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path)?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kib.ok_or_else(|| io::Error::other(format!("{path} is not understood")))? * 1024)
}

/// Lets this process open as many descriptors as it may: one connection takes one.
pub(crate) fn raise_descriptor_limit() -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// A duration as nanoseconds; no duration measured here comes near the end of the range.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
