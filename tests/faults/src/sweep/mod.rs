//! The sweep: the k-th system call of a kind fails, for k = 1, 2, ... until a conversation of 20 connections passes untouched.
//! After each k: every wait has ended, an error named its cause, nobody else was hurt, no descriptor is left, the process
//! lives.

mod client;
mod server;

use std::path::Path;
use std::process::ExitCode;

pub(crate) use client::converse;

use crate::Result;
use crate::args::Args;
use crate::context::{Context, Size};
use crate::figures::grouped;
use crate::row::Tally;
use crate::strace;

/// A kind of call, and how it fails.
struct Kind {
    call: &'static str,
    errno: &'static str,
    /// What the error's text says of the errno.
    text: &'static str,
    /// Whether nobody may be hurt at all: the next try is fine.
    is_harmless: bool,
}

/// One run with an injected failure.
struct Run {
    /// How many connections had an error.
    hurt: u64,
    /// Whether nothing was injected any more, so that the sweep of this kind is over.
    untouched: bool,
}

type Side = fn(&Context, &Kind, usize, &Path, &mut Tally) -> Result<Run>;

/// `sweep`: every kind of call, on both sides.
pub(crate) fn main(mut args: Args) -> Result<ExitCode> {
    let most = args.value_or("--most", usize::MAX)?;
    args.finish()?;
    if !strace::usable() {
        println!("not run: strace may not trace here");
        return Ok(ExitCode::SUCCESS);
    }
    let context = Context::new(Size::Full, 1)?;
    println!(
        "| side | call | fails with | k | connections hurt | broken promises |\n|---|---|---|---|---|---|"
    );
    let mut all = Tally::default();
    for (name, kinds, run) in
        [("server", server::KINDS, server::run as Side), ("client", client::KINDS, client::run as Side)]
    {
        for kind in kinds {
            let (mut tally, mut hurt, mut covered) = (Tally::default(), 0, 0);
            while covered < most {
                let k = covered + 1;
                let log = context.folder.path().join(format!("{name}-{}-{}-{k}", kind.call, kind.errno));
                let what = format!("{name}, {} {} at {k}", kind.call, kind.errno);
                let mut checks = Tally::default();
                let run = run(&context, kind, k, &log, &mut checks);
                checks.trouble.iter_mut().for_each(|trouble| *trouble = format!("{what}: {trouble}"));
                tally.add(checks);
                let Some(run) = tally.value(run, &what) else { break };
                hurt += run.hurt;
                if run.untouched {
                    break;
                }
                covered = k;
            }
            let covered = if covered == 0 { "not called".to_owned() } else { format!("1 to {covered}") };
            println!("| {name} | {} | {} | {covered} | {hurt} | {} |", kind.call, kind.errno, tally.failures);
            all.add(tally);
        }
    }
    println!("\n{} checks, {} broken promises", grouped(all.runs), all.failures);
    for trouble in &all.trouble {
        println!("{trouble}");
    }
    Ok(if all.failures > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Connections of one conversation, half of them one after the other and half at once.
const CONNECTIONS: usize = 20;
/// Questions on each.
const QUESTIONS: usize = 3;
