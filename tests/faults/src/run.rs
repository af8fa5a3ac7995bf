//! Runs rows: each as a process of its own with a deadline, one after the other, and prints what came of them.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::context::{Context, Size};
use crate::row::{Outcome, Place, Row};
use crate::rows::ROWS;
use crate::{Result, namespaces, random, table};

/// `run`: the rows that are named, or all of them.
pub(crate) fn main(mut args: Args) -> Result<ExitCode> {
    let mut names = Vec::new();
    while let Some(name) = args.word() {
        names.push(name.to_uppercase());
    }
    let size = args.value_or("--size", Size::Full)?;
    let seed = args.value_or("--seed", random::fresh_seed())?;
    let (json, written) = (args.value::<PathBuf>("--json")?, args.value::<PathBuf>("--write")?);
    args.finish()?;
    if let Some(unknown) = names.iter().find(|name| !ROWS.iter().any(|row| row.id == **name)) {
        return Err(format!("there is no row {unknown}").into());
    }
    let context = Context::new(size, seed)?;
    println!("seed {seed}, {size:?} size\n\n{}", table::head());
    let mut done = Vec::new();
    for row in ROWS.iter().filter(|row| names.is_empty() || names.iter().any(|name| name == row.id)) {
        let began = Instant::now();
        let outcome = start(&context, row);
        println!("{}", table::line(row, &outcome));
        eprintln!("{} took {:.1} s", row.id, began.elapsed().as_secs_f64());
        done.push((row, outcome));
    }
    println!("\n{}", table::summary(&done));
    if let Some(file) = json {
        std::fs::write(file, table::json(&done, seed, size))?;
    }
    if let Some(file) = written {
        let old = std::fs::read_to_string(&file)?;
        std::fs::write(file, table::replaced(&old, ROWS, &done)?)?;
    }
    let failed = done.iter().any(|(_, outcome)| outcome.tally.failures > 0);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// `row`: one row, in this process. Says its outcome in one line.
pub(crate) fn one(mut args: Args) -> Result<()> {
    let name = args.word().ok_or(crate::USAGE)?;
    let context = Context::new(args.value_or("--size", Size::Full)?, args.value_or("--seed", 1)?)?;
    args.finish()?;
    crate::subjects::end_with_standard_input();
    let row = ROWS.iter().find(|row| row.id == name).ok_or_else(|| format!("there is no row {name}"))?;
    crate::process::raise_descriptor_limit()?;
    if row.place == Place::Namespaces {
        namespaces::ip("link set lo up")?;
    }
    let outcome = (row.run)(&context).unwrap_or_else(|error| failed(error.to_string()));
    println!("{}", outcome.to_line());
    Ok(())
}

/// Starts the row's process and waits for its outcome, until its deadline.
fn start(context: &Context, row: &Row) -> Outcome {
    if row.place == Place::Namespaces && !namespaces::usable() {
        return Outcome::not_run("needs root, unshare (util-linux) and ip (iproute2)");
    }
    supervise(context, row).unwrap_or_else(|error| failed(error.to_string()))
}

fn supervise(context: &Context, row: &Row) -> Result<Outcome> {
    let own = std::env::current_exe()?;
    let mut command = match row.place {
        Place::Here => Command::new(own),
        Place::Namespaces => {
            let mut command = Command::new("unshare");
            command.args(["-n", "-m"]).arg(own);
            command
        }
    };
    let size = if context.size == Size::Small { "small" } else { "full" };
    command.args(["row", row.id, "--size", size, "--seed", &context.seed.to_string()]);
    if let Some(python) = &context.python {
        command.env("MILLSTREAM_PYTHON", python);
    }
    // Its standard input ends with this process, and the row with it.
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().ok_or("no pipe")?;
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(std::io::Result::ok) {
            if let Some(outcome) = Outcome::of_line(&line) {
                // The receiver may have given up.
                let _ = tell.send(outcome);
            }
        }
    });
    let outcome = told.recv_timeout(deadline(context.size));
    // It has said all it had to say, or will not.
    let _ = child.kill();
    let status = child.wait()?;
    Ok(outcome
        .unwrap_or_else(|_| failed(format!("no outcome within {:?}: {status}", deadline(context.size)))))
}

fn failed(what: String) -> Outcome {
    let mut outcome = Outcome::default();
    outcome.tally.check(false, || what);
    outcome
}

fn deadline(size: Size) -> Duration {
    match size {
        Size::Small => Duration::from_secs(180),
        // A soak may take an hour, and ends a little later.
        Size::Full => Duration::from_secs(2 * 3600),
    }
}
