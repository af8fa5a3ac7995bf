//! The fault rig: runs every row of the fault table at size and prints what came of it, beside stock asyncio and plain
//! tokio.
//!
//! One binary, several roles. `run` starts each row as a process of its own (`row`), so that a row that hangs, panics or
//! leaks says nothing about the next. A row starts the servers under test (`serve`) as processes too, so that their
//! descriptors, memory and time can be read from the outside.

#![cfg_attr(
    not(target_os = "linux"),
    allow(unused, reason = "the rig is built on procfs, namespaces and strace")
)]

mod args;
mod chaos;
mod context;
mod figures;
mod load;
mod namespaces;
mod papers;
mod peer;
mod process;
mod random;
mod row;
mod rows;
mod run;
mod scripts;
mod server;
mod strace;
mod subjects;
mod sweep;
mod table;
mod tls_peer;

use std::process::ExitCode;

/// What any part of the rig may fail with.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const USAGE: &str = "\
usage: millstream-faults run [ROW...] [--size small|full] [--seed N] [--json FILE] [--write FILE]
       millstream-faults sweep [--most N]
       millstream-faults list
       millstream-faults row ROW [--size small|full] [--seed N]
       millstream-faults serve ours|tokio --work WORK [--tls DIR] [--papers DIR] [--handshake-ms N] [--close-ms N]
           ours also: [--proxy required|optional] [--proxy-ms N] [--item-ms N] [--idle-ms N] [--progress-ms N] [--cap N]
           [--refuse true] [--keepalive true] [--user-timeout-ms N] [--inherits true]";

fn dispatch() -> Result<ExitCode> {
    let mut args = args::Args::from_env();
    match args.word().as_deref() {
        Some("run") => return run::main(args),
        Some("sweep") => return sweep::main(args),
        Some("converse") => sweep::converse(args)?,
        Some("row") => run::one(args)?,
        Some("serve") => subjects::main(args)?,
        Some("probe") => rows::probe(args)?,
        Some("list") => rows::ROWS.iter().for_each(|row| println!("{:4} {}", row.id, row.title)),
        _ => return Err(USAGE.into()),
    }
    Ok(ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    dispatch().unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::from(2)
    })
}
