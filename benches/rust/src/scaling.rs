//! How `serve_per_core` grows with its cores: the same load on one core, two, and so on, in turns.
//!
//! The load needs a core of its own sooner or later. So the requests are answered once with hard work, which leaves the load
//! little to do and shows what more cores bring; and once without any, where only the processor time of a request tells
//! something: it would grow if the cores shared anything.

use std::hint::black_box;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use millstream::{Error, ServerOptions, StreamReader, StreamWriter};

use crate::args::Args;
use crate::load::Outcome;
use crate::spread::Spread;
use crate::{Result, peers, process};

/// `scaling [--cores N] [--rounds N] [--window-ms N]`: measures and prints a table.
pub(crate) fn main(mut args: Args) -> Result<()> {
    let most = args.value_or("--cores", std::thread::available_parallelism()?.get())?;
    let rounds: usize = args.value_or("--rounds", 9)?;
    let window: u64 = args.value_or("--window-ms", 1_000)?;
    args.finish()?;
    println!(
        "| work a request | cores | requests/s | x one core | CPU a request, x one core |\n|---|---|---|---|---|"
    );
    for (work, steps) in [("none", 0), ("200 us", calibrated(Duration::from_micros(200)))] {
        let servers = (1..=most).map(|cores| Server::start(cores, steps)).collect::<Result<Vec<_>>>()?;
        let mut outcomes = vec![Vec::new(); most];
        for round in 0..rounds {
            for turn in 0..most {
                // Nobody is always first.
                let at = (turn + round) % most;
                outcomes[at].push(servers[at].load(window)?);
            }
        }
        for (at, mine) in outcomes.iter().enumerate() {
            let rate = |outcome: &Outcome| outcome.units as f64 / outcome.wall_ns as f64 * 1e9;
            let cpu = |outcome: &Outcome| outcome.cpu_ns as f64 / outcome.units as f64;
            let against_one = |figure: fn(&Outcome) -> f64| {
                let ratios = mine.iter().zip(&outcomes[0]).map(|(mine, one)| figure(mine) / figure(one));
                Spread::of(ratios.collect()).ok_or("no rounds")
            };
            let (grown, dearer) = (against_one(rate)?, against_one(cpu)?);
            let rate = Spread::of(mine.iter().map(rate).collect()).ok_or("no rounds")?;
            println!("| {work} | {} | {:.0} | {} | {} |", at + 1, rate.median, shown(grown), shown(dearer));
        }
    }
    Ok(())
}

/// The median, and the ends.
fn shown(spread: Spread) -> String {
    let Spread { median, min, max } = spread;
    format!("{median:.2} [{min:.2}..{max:.2}]")
}

/// A server on so many cores; dropping it ends it.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(cores: usize, steps: u64) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve-cores", "--cores", &cores.to_string(), "--work", &steps.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take();
        // From here on the child is ended by the drop, whatever fails.
        let mut server = Self { child, port: 0 };
        let mut line = String::new();
        BufReader::new(stdout.ok_or("no pipe")?).read_line(&mut line)?;
        server.port = line.trim().parse().map_err(|_| format!("the server says `{line}`, not a port"))?;
        Ok(server)
    }

    fn load(&self, window: u64) -> Result<Outcome> {
        let output = Command::new(std::env::current_exe()?)
            .args(["load", "depth1", "--window-ms", &window.to_string()])
            .args(["--port", &self.port.to_string(), "--pid", &self.child.id().to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err(format!("the load: {}", output.status).into());
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

/// `serve-cores --cores N --work STEPS`: sends back each line, after that much work.
pub(crate) fn serve(mut args: Args) -> Result<()> {
    let cores = args.value_or("--cores", 1)?;
    let steps = args.value_or("--work", 0)?;
    args.finish()?;
    peers::end_with_parent()?;
    process::raise_descriptor_limit()?;
    let answer = move |mut reader: StreamReader, writer: StreamWriter| async move {
        while let Some(line) = reader.read_line_borrowed().await? {
            work(steps);
            writer.write(line)?;
            writer.drain().await?;
        }
        Ok::<(), Error>(())
    };
    peers::runtime()?.block_on(async {
        let server =
            ServerOptions::new().backlog(1024).per_core().cores(cores).start("127.0.0.1", 0, answer).await?;
        println!("{}", server.sockets().first().and_then(millstream::Address::port).ok_or("no TCP port")?);
        std::future::pending::<()>().await;
        Ok(())
    })
}

/// Counts steps, not time: work that waits for a core is not done.
fn work(steps: u64) {
    let mut state = 1_u64;
    for _ in 0..steps {
        state = black_box(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
}

/// How many steps take this long when nothing else runs: the fastest of several tries tells.
fn calibrated(time: Duration) -> u64 {
    const STEPS: u64 = 100_000;
    let tries = (0..50).map(|_| {
        let began = Instant::now();
        work(STEPS);
        process::nanos(began.elapsed())
    });
    process::nanos(time) * STEPS / tries.min().unwrap_or_default().max(1)
}
