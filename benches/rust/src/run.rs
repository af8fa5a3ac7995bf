//! Orchestrates a comparison: all servers up and idle, measurements interleaved in rounds, then the tables.

mod bars;
mod children;
mod json;
mod report;
mod scenarios;
mod stats;

use std::process::ExitCode;
use std::time::Instant;

use crate::Result;
use crate::args::Args;
use crate::certificate::Certificate;
use crate::load::Outcome;
use crate::peers::{PEERS, Peer};
use children::Server;
use scenarios::{SCENARIOS, Scenario};

/// One measurement of one peer.
#[derive(Clone, Copy, Debug)]
struct Sample {
    round: usize,
    scenario: &'static Scenario,
    peer: &'static str,
    outcome: Outcome,
}

/// How a comparison is run.
#[derive(Debug)]
struct Settings {
    rounds: usize,
    window_ms: u64,
    warm_ms: u64,
    bulk_mib: u64,
    /// Lines a second of the open loop; found in the first round when not given.
    rate: Option<f64>,
    server_core: usize,
    load_core: usize,
    peers: Vec<&'static Peer>,
    scenarios: Vec<&'static Scenario>,
}

/// Share of the slowest peer's closed-loop peak that the open loop asks of every peer.
const OPEN_SHARE: f64 = 0.6;

/// `millstream-bench run ...`
pub(crate) fn main(mut args: Args) -> Result<ExitCode> {
    let json = args.value::<String>("--json")?;
    let check = args.flag("--check");
    let mut settings = Settings::from_args(&mut args)?;
    args.finish()?;
    let start = Instant::now();
    let samples = measure(&mut settings)?;
    let bars = bars::judge(&settings, &samples);
    println!("{}", report::render(&settings, &samples, &bars));
    eprintln!("took {:.0} s", start.elapsed().as_secs_f64());
    if let Some(path) = json {
        std::fs::write(path, json::render(&settings, &samples, &bars))?;
    }
    let reached = bars.iter().all(|verdict| verdict.reached != Some(false));
    Ok(if check && !reached { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

impl Settings {
    fn from_args(args: &mut Args) -> Result<Self> {
        // The machine's mood changes within seconds: many short rounds beat few long ones.
        let (rounds, window_ms, warm_ms, bulk_mib) =
            if args.flag("--quick") { (4, 200, 50, 128) } else { (20, 400, 100, 1024) };
        let (scenarios, peers) = chosen(args)?;
        Ok(Self {
            rounds: args.value_or("--rounds", rounds)?,
            window_ms: args.value_or("--window-ms", window_ms)?,
            warm_ms,
            bulk_mib: args.value_or("--bulk-mib", bulk_mib)?,
            rate: args.value("--rate")?,
            server_core: args.value_or("--server-core", 0)?,
            load_core: args.value_or("--load-core", 1)?,
            peers,
            scenarios,
        })
    }
}

/// The scenarios that were asked for by name, else those of the peers named, else those of the suite; and the
/// peers that were asked for, else all that take part.
fn chosen(args: &mut Args) -> Result<(Vec<&'static Scenario>, Vec<&'static Peer>)> {
    let (peers, scenarios) = (args.list("--peers")?, args.list("--scenarios")?);
    let tls = match args.value_or("--suite", "plain".to_owned())?.as_str() {
        "plain" => false,
        "tls" => true,
        other => return Err(format!("`{other}` is no suite").into()),
    };
    let mut chosen_peers = choose(PEERS, peers.as_deref(), |peer| peer.name)?;
    let mut chosen_scenarios = choose(SCENARIOS, scenarios.as_deref(), |scenario| scenario.name)?;
    if scenarios.is_none() {
        chosen_scenarios.retain(|scenario| {
            if peers.is_some() {
                chosen_peers.iter().any(|peer| peer.kind == scenario.kind)
            } else {
                scenario.kind.is_tls() == tls
            }
        });
    }
    if peers.is_none() {
        chosen_peers.retain(|peer| chosen_scenarios.iter().any(|scenario| scenario.kind == peer.kind));
    }
    Ok((chosen_scenarios, chosen_peers))
}

/// The rows of `table` that `names` asks for; all of them when it asks for nothing.
fn choose<T>(
    table: &'static [T],
    names: Option<&[String]>,
    name_of: impl Fn(&T) -> &'static str,
) -> Result<Vec<&'static T>> {
    let Some(names) = names else { return Ok(table.iter().collect()) };
    if let Some(unknown) = names.iter().find(|name| !table.iter().any(|row| name_of(row) == **name)) {
        return Err(format!("`{unknown}` is none of those known").into());
    }
    Ok(table.iter().filter(|row| names.iter().any(|name| name_of(row) == name)).collect())
}

/// Runs all rounds. Within a round each scenario meets every peer before the next scenario begins, and
/// each round begins with another peer, so that a ratio is formed between neighbours in time.
fn measure(settings: &mut Settings) -> Result<Vec<Sample>> {
    let certificate = Certificate::make()?;
    let core = settings.server_core;
    let start = |peer| Server::start(peer, core, &certificate);
    let servers: Vec<Server> = settings.peers.iter().copied().map(start).collect::<Result<_>>()?;
    let mut samples: Vec<Sample> = Vec::new();
    for round in 0..settings.rounds {
        eprintln!("round {} of {}", round + 1, settings.rounds);
        for scenario in settings.scenarios.clone() {
            let mut takers: Vec<&Server> =
                servers.iter().filter(|server| server.peer.kind == scenario.kind).collect();
            if takers.is_empty() || scenario.fresh_rounds.is_some_and(|most| round >= most) {
                continue;
            }
            let first = round % takers.len();
            takers.rotate_left(first);
            for server in takers {
                let fresh = scenario.fresh_rounds.map(|_| start(server.peer)).transpose()?;
                let outcome = fresh.as_ref().unwrap_or(server).load(scenario, settings)?;
                samples.push(Sample { round, scenario, peer: server.peer.name, outcome });
            }
            if settings.rate.is_none() && scenario.name == "depth1" {
                settings.rate = open_rate(&samples);
            }
        }
    }
    Ok(samples)
}

/// The rate of the open loop, from the first round of the closed one.
fn open_rate(samples: &[Sample]) -> Option<f64> {
    let slowest = samples.iter().map(|sample| stats::rate(&sample.outcome)).reduce(f64::min)?;
    Some((slowest * OPEN_SHARE / 1000.0).round() * 1000.0)
}
