//! System calls a request, counted by strace in a run of its own: twice as many requests, less the first run's.
//!
//! The difference holds neither the start of the server nor its connections. What io_uring does without a system
//! call is not in it either.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use super::field::{Contender, Launch};
use super::record::Syscalls;
use super::rows::{Effort, Row};
use crate::Result;
use crate::children::Server;

/// Batches on each connection in the first run.
const BATCHES: usize = 40;
/// How long strace gets to write its summary once the server has ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether there is an strace.
pub(super) fn available() -> bool {
    Command::new("strace").arg("-V").output().is_ok_and(|output| output.status.success())
}

/// Counts for one server in one closed row.
pub(super) fn count(
    row: &Row,
    who: &Contender,
    launch: &Launch,
    effort: &Effort,
    core: usize,
) -> Result<Syscalls> {
    // Few connections do: a call costs a request no more because others wait too, and strace is slow.
    let row = Row { connections: row.connections.min(20), ..row.clone() };
    let once = BATCHES * row.connections;
    let first = traced(&row, who, launch, effort, core, once)?;
    let second = traced(&row, who, launch, effort, core, 2 * once)?;
    let requests = (once * row.depth) as f64;
    let per = |name: &String| {
        let count = |calls: &BTreeMap<String, u64>| calls.get(name).copied().unwrap_or(0) as f64;
        (count(&second) - count(&first)) / requests
    };
    let mut calls: Vec<(String, f64)> = second.keys().map(|name| (name.clone(), per(name))).collect();
    let per_request = calls.iter().map(|(_, each)| each).sum();
    calls.retain(|(_, each)| each.abs() >= 0.005);
    calls.sort_by(|a, b| b.1.total_cmp(&a.1));
    Ok(Syscalls { row: row.name.to_owned(), server: who.name.to_owned(), per_request, calls })
}

/// The calls of a server that answers so many batches and ends.
fn traced(
    row: &Row,
    who: &Contender,
    launch: &Launch,
    effort: &Effort,
    core: usize,
    batches: usize,
) -> Result<BTreeMap<String, u64>> {
    let summary = std::env::temp_dir().join(format!("millstream-bench-strace-{}", std::process::id()));
    let _ = fs::remove_file(&summary);
    let inner = launch.command(who, row.work)?;
    let mut command = Command::new("strace");
    // -D: the server stays our child, strace hangs beside it and ends with it.
    command
        .args(["-D", "-f", "-q", "-c", "-o"])
        .arg(&summary)
        .arg(inner.get_program())
        .args(inner.get_args());
    command.envs(inner.get_envs().filter_map(|(name, value): (&OsStr, _)| Some((name, value?))));
    let server = Server::start(who.name, &mut command)?;
    let mut args = row.load_args(effort, 0.0);
    args.extend(["--batches".to_owned(), batches.to_string()]);
    let outcome = server.load(&args, core);
    drop(server);
    let text = read_summary(&summary);
    let _ = fs::remove_file(&summary);
    outcome?;
    Ok(parse(&text?))
}

fn read_summary(path: &std::path::Path) -> Result<String> {
    let start = Instant::now();
    loop {
        match fs::read_to_string(path) {
            Ok(text) if text.contains(" total") => return Ok(text),
            _ if start.elapsed() > PATIENCE => return Err("strace wrote no summary".into()),
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// The table of `strace -c`: the calls by name.
fn parse(summary: &str) -> BTreeMap<String, u64> {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (name, calls) = (fields.last()?, fields.get(3)?);
        if *name == "total" { None } else { Some(((*name).to_owned(), calls.parse().ok()?)) }
    };
    summary.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_of_strace_is_understood() {
        let summary = "% time     seconds  usecs/call     calls    errors syscall\n\
                       ------ ----------- ----------- --------- --------- ----------------\n \
                       58.08    0.000543          10        50        25 recvfrom\n \
                       41.92    0.000392          15        25           sendto\n\
                       ------ ----------- ----------- --------- --------- ----------------\n\
                       100.00    0.000935          12        75        25 total\n";
        let calls = parse(summary);
        assert_eq!(
            calls.into_iter().collect::<Vec<_>>(),
            [("recvfrom".to_owned(), 50), ("sendto".to_owned(), 25)]
        );
    }
}
