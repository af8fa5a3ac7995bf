//! Compares echo servers in one interleaved run: hand-written epoll, plain tokio, millstream; also over TLS.
//!
//! One binary, several roles: `run` and `compare` orchestrate, `serve` is one server process, `load` drives one
//! server for one measurement. The first two start the others by executing this same file again. `report` turns what
//! `compare` found into tables and charts.

#![cfg_attr(not(target_os = "linux"), allow(unused, reason = "everything here is built on epoll"))]

#[cfg(target_os = "linux")]
mod args;
#[cfg(target_os = "linux")]
mod certificate;
#[cfg(target_os = "linux")]
mod children;
#[cfg(target_os = "linux")]
mod compare;
#[cfg(target_os = "linux")]
mod load;
#[cfg(target_os = "linux")]
mod peers;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod report;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod scaling;
#[cfg(target_os = "linux")]
mod spread;

use std::process::ExitCode;

/// What any part of the benchmark may fail with; `main` prints it and ends with 2.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const USAGE: &str = "\
usage: millstream-bench run [--suite plain|tls] [--quick] [--rounds N] [--json FILE] [--check]
                            [--peers A,B] [--scenarios A,B] [--window-ms N] [--bulk-mib N] [--rate N]
                            [--server-core N] [--load-core N]
       millstream-bench compare [--quick] [--rounds N] [--window-ms N] [--bulk-mib N] [--seed N] [--json FILE]
                            [--rows A,B-] [--servers A,B] [--python INTERPRETER [--serve-py FILE]] [--no-syscalls]
                            [--server-core N] [--load-core N]
       millstream-bench report JSON [--write docs/benchmarks.md] [--charts DIR]
       millstream-bench serve PEER [--core N]
       millstream-bench load SCENARIO --port N --pid N [--core N] [--connections N] [--depth N]
                            [--line N] [--window-ms N] [--warm-ms N] [--rate N] [--bytes N] [--inflight N]
                            [--format lines|counted] [--batches N]
       millstream-bench scaling [--cores N] [--rounds N] [--window-ms N]
       millstream-bench serve-cores [--cores N] [--work STEPS]
       millstream-bench peers";

#[cfg(target_os = "linux")]
fn dispatch() -> Result<ExitCode> {
    let mut args = args::Args::from_env();
    match args.word().as_deref() {
        Some("run") => return run::main(args),
        Some("serve") => peers::main(args)?,
        Some("load") => load::main(args)?,
        Some("scaling") => scaling::main(args)?,
        Some("serve-cores") => scaling::serve(args)?,
        Some("compare") => return compare::main(args),
        Some("report") => report::main(args)?,
        Some("peers") => peers::PEERS.iter().chain(peers::MORE).for_each(|peer| println!("{}", peer.name)),
        _ => return Err(USAGE.into()),
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(not(target_os = "linux"))]
fn dispatch() -> Result<ExitCode> {
    Err("millstream-bench needs Linux: its floor is epoll".into())
}

fn main() -> ExitCode {
    dispatch().unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::from(2)
    })
}
