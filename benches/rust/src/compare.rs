//! The whole comparison: every server of both faces, row by row, interleaved, into one JSON file.

mod field;
mod machine;
pub(crate) mod record;
mod rows;
mod shuffle;
mod syscalls;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use crate::args::Args;
use crate::certificate::Certificate;
use crate::children::Server;
use crate::load::Outcome;
use crate::{Result, process, report};
use field::{Contender, FIELD, Face, Launch, Work};
pub(crate) use field::{place, rivals};
pub(crate) use machine::Machine;
use record::{Failure, Record, RowRecord, Sample};
use rows::{Load, OPEN_SHARE, ROWS, Row};
use shuffle::Shuffle;

/// A comparison under way.
struct Comparison {
    effort: record::Effort,
    lengths: rows::Effort,
    launch: Launch,
    rows: Vec<Row>,
    servers: Vec<&'static Contender>,
    /// Servers that stay up from round to round.
    running: HashMap<(&'static str, Work), Server>,
    /// Requests a second of each open row.
    rates: HashMap<&'static str, f64>,
    samples: Vec<Sample>,
    failures: Vec<Failure>,
}

/// `millstream-bench compare ...`
pub(crate) fn main(mut args: Args) -> Result<ExitCode> {
    let json: PathBuf = args.value_or("--json", PathBuf::from("target/bench/compare.json"))?;
    let count_syscalls = !args.flag("--no-syscalls");
    let mut comparison = Comparison::from_args(&mut args)?;
    args.finish()?;
    // Servers inherit the limit: ten thousand connections take as many descriptors.
    process::raise_descriptor_limit()?;
    comparison.drop_missing_loops();
    let start = Instant::now();
    comparison.measure();
    let syscalls = if count_syscalls { comparison.count_syscalls() } else { vec![] };
    let record = comparison.record(syscalls);
    if let Some(folder) = json.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&json, serde_json::to_string_pretty(&record)?)?;
    eprintln!("took {:.0} s; {}", start.elapsed().as_secs_f64(), json.display());
    println!("{}", report::render(&record));
    Ok(ExitCode::SUCCESS)
}

impl Comparison {
    fn from_args(args: &mut Args) -> Result<Self> {
        let quick = args.flag("--quick");
        let (rounds, window_ms, warm_ms, bulk_mib) =
            if quick { (2, 60, 20, 64) } else { (10, 400, 100, 1024) };
        let python = args.value::<PathBuf>("--python")?;
        let script = args.value_or("--serve-py", PathBuf::from("python/bench/serve.py"))?;
        let face = |face: Face| face == Face::Rust || python.is_some();
        let (rows, servers) = (args.list("--rows")?, args.list("--servers")?);
        let effort = record::Effort {
            quick,
            rounds: args.value_or("--rounds", rounds)?,
            window_ms: args.value_or("--window-ms", window_ms)?,
            seed: args.value_or("--seed", 1)?,
            server_core: args.value_or("--server-core", 0)?,
            load_core: args.value_or("--load-core", 1)?,
        };
        let chosen_rows: Vec<Row> = chosen(ROWS, rows.as_deref(), |row| row.name, |row| face(row.face))?
            .into_iter()
            .cloned()
            .collect();
        Ok(Self {
            lengths: rows::Effort {
                window_ms: effort.window_ms,
                warm_ms,
                bulk_mib: args.value_or("--bulk-mib", bulk_mib)?,
            },
            launch: Launch {
                certificate: Certificate::make()?,
                core: effort.server_core,
                python: python.map(|python| (python, script)),
            },
            rows: chosen_rows,
            servers: chosen(FIELD, servers.as_deref(), |server| server.name, |_| true)?,
            running: HashMap::new(),
            rates: HashMap::new(),
            samples: vec![],
            failures: vec![],
            effort,
        })
    }

    /// Takes out the Python servers whose loop is not installed.
    fn drop_missing_loops(&mut self) {
        let rows = &self.rows;
        let launch = &self.launch;
        let takes_part = |who: &Contender| rows.iter().any(|row| row.face == who.face && who.does(row.work));
        let (here, missing) = std::mem::take(&mut self.servers)
            .into_iter()
            .filter(|who| takes_part(who))
            .partition::<Vec<_>, _>(|who| launch.can_start(who));
        self.servers = here;
        for who in missing {
            eprintln!("{}: its loop is not installed", who.name);
            let (row, why) = ("all".to_owned(), "its loop is not installed".to_owned());
            self.failures.push(Failure { row, server: who.name.to_owned(), why });
        }
    }

    /// Runs all rounds. Within a round, each row meets every server before the next row begins, so that a ratio is
    /// formed between neighbours in time.
    fn measure(&mut self) {
        let mut shuffle = Shuffle::new(self.effort.seed);
        let rounds = self.rows.iter().map(|row| row.rounds(self.effort.rounds)).max().unwrap_or(0);
        for round in 0..rounds {
            let start = Instant::now();
            for row in self.rows.clone() {
                if round >= row.rounds(self.effort.rounds) {
                    continue;
                }
                let mut takers = self.takers(&row);
                shuffle.shuffle(&mut takers);
                for who in takers {
                    match self.one(&row, who) {
                        Ok(outcome) => self.samples.push(Sample::new(row.name, who.name, round, &outcome)),
                        Err(error) => self.failed(&row, who, error.as_ref()),
                    }
                }
            }
            eprintln!("round {} of {rounds}: {:.0} s", round + 1, start.elapsed().as_secs_f64());
        }
    }

    /// Who takes part in a row, and has not failed in it.
    fn takers(&self, row: &Row) -> Vec<&'static Contender> {
        let failed = |who: &Contender| {
            self.failures.iter().any(|failure| failure.row == row.name && failure.server == who.name)
        };
        let takes = |who: &&'static Contender| who.face == row.face && who.does(row.work) && !failed(who);
        self.servers.iter().copied().filter(takes).collect()
    }

    /// Measures one server once.
    fn one(&mut self, row: &Row, who: &'static Contender) -> Result<Outcome> {
        let rate = self.rate(row)?;
        let args = row.load_args(&self.lengths, rate);
        let key = (who.name, row.work);
        let running = if row.fresh { None } else { self.running.remove(&key) };
        let server = match running {
            Some(server) => server,
            None => Server::start(who.name, &mut self.launch.command(who, row.work)?)?,
        };
        // A server whose load failed is not used again.
        let outcome = server.load(&args, self.effort.load_core)?;
        if !row.fresh {
            self.running.insert(key, server);
        }
        Ok(outcome)
    }

    /// Requests a second of an open row, from the first round of the closed one; 0 for every other row.
    fn rate(&mut self, row: &Row) -> Result<f64> {
        let Load::Open(closed) = row.load else { return Ok(0.0) };
        if let Some(rate) = self.rates.get(row.name) {
            return Ok(*rate);
        }
        let peaks = self.samples.iter().filter(|sample| sample.row == closed && sample.round == 0);
        let slowest = peaks.map(|sample| sample.units as f64 / sample.wall_ns as f64 * 1e9).reduce(f64::min);
        let rate = slowest.ok_or_else(|| format!("its rate comes from {closed}, which was not measured"))?;
        let rate = (rate * OPEN_SHARE / 100.0).round() * 100.0;
        self.rates.insert(row.name, rate);
        Ok(rate)
    }

    fn failed(&mut self, row: &Row, who: &Contender, error: &dyn std::error::Error) {
        eprintln!("{}: {} is left out: {error}", row.name, who.name);
        let (row, server, why) = (row.name.to_owned(), who.name.to_owned(), error.to_string());
        self.failures.push(Failure { row, server, why });
    }

    /// Counts system calls in every closed row of few connections.
    fn count_syscalls(&mut self) -> Vec<record::Syscalls> {
        if !syscalls::available() {
            eprintln!("no strace here: system calls are not counted");
            return vec![];
        }
        // Each is counted on a server of its own.
        self.running.clear();
        let mut counted = vec![];
        for row in self.rows.clone() {
            if row.load != Load::Closed || row.fresh {
                continue;
            }
            for who in self.takers(&row) {
                match syscalls::count(&row, who, &self.launch, &self.lengths, self.effort.load_core) {
                    Ok(calls) => counted.push(calls),
                    Err(error) => eprintln!("{}: calls of {}: {error}", row.name, who.name),
                }
            }
        }
        counted
    }

    fn record(self, syscalls: Vec<record::Syscalls>) -> Record {
        let row = |row: &Row| RowRecord {
            name: row.name.to_owned(),
            title: row.title(),
            face: if row.face == Face::Rust { "rust" } else { "python" }.to_owned(),
            unit: row.unit().to_owned(),
            base: row.base().to_owned(),
            rate: self.rates.get(row.name).copied(),
            memory: row.load == Load::Idle,
        };
        Record {
            machine: Machine::look(self.launch.python.as_ref().map(|(python, _)| python.as_path())),
            rows: self.rows.iter().map(row).collect(),
            effort: self.effort,
            samples: self.samples,
            syscalls,
            failures: self.failures,
        }
    }
}

/// The entries of `table` that `names` asks for, which may be beginnings (`tls-`); without names, all that `allowed` lets.
fn chosen<T>(
    table: &'static [T],
    names: Option<&[String]>,
    name_of: impl Fn(&T) -> &'static str,
    allowed: impl Fn(&T) -> bool,
) -> Result<Vec<&'static T>> {
    let Some(names) = names else { return Ok(table.iter().filter(|entry| allowed(entry)).collect()) };
    let meant = |entry: &T, name: &str| {
        name_of(entry) == name || (name.ends_with('-') && name_of(entry).starts_with(name))
    };
    if let Some(unknown) = names.iter().find(|name| !table.iter().any(|entry| meant(entry, name))) {
        return Err(format!("`{unknown}` is none of those known").into());
    }
    Ok(table.iter().filter(|entry| allowed(entry) && names.iter().any(|name| meant(entry, name))).collect())
}
