//! The open loop: requests arrive at a fixed average rate, whether or not the server keeps up.
//!
//! Latency counts from when a request was due, so a server that stalls is charged for everyone it kept
//! waiting. The load spins, so arrivals are on time and an answer costs the server no wake-up.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::STALLED;
use super::clients::Clients;
use super::histogram::Latencies;
use super::wire::Wire;
use crate::Result;
use crate::process::nanos;

/// Poisson arrivals from a fixed seed: every peer meets the same bursts.
pub(super) struct Arrivals {
    mean: f64,
    state: u64,
}

impl Arrivals {
    /// Arrivals at `rate` a second on average.
    pub(super) fn new(rate: f64) -> Self {
        Self { mean: 1.0 / rate, state: 0x9e37_79b9_7f4a_7c15 }
    }

    /// The time from one arrival to the next.
    fn gap(&mut self) -> Duration {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        // 53 random bits, so the logarithm's argument is above 0 and at most 1.
        let uniform = ((self.state >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        Duration::from_secs_f64(-uniform.ln() * self.mean)
    }
}

/// Loads the server for `window`, then waits for what is outstanding. Returns the lines answered and for how long the
/// load had something to do, and adds the time of each answer to `times`.
pub(super) fn drive<W: Wire>(
    clients: &mut Clients<W>,
    arrivals: &mut Arrivals,
    window: Duration,
    times: &mut Latencies,
) -> Result<(u64, Duration)> {
    let mut now = Instant::now();
    let end = now + window;
    let mut due = now + arrivals.gap();
    let mut last_answer = now;
    let mut idle: VecDeque<usize> = (0..clients.len()).collect();
    // Requests that are due and have no connection to go out on.
    let mut late = VecDeque::new();
    let mut lines = 0;
    let mut busy = Duration::ZERO;
    while now < end || !late.is_empty() || idle.len() < clients.len() {
        while due <= now && due < end {
            late.push_back(due);
            due += arrivals.gap();
        }
        let mut asked = false;
        while let (Some(&since), Some(&number)) = (late.front(), idle.front()) {
            asked = true;
            clients.ask(number, since)?;
            late.pop_front();
            idle.pop_front();
        }
        let any = clients.answers(Duration::ZERO, |number, since| {
            times.push(nanos(since.elapsed()));
            idle.push_back(number);
            lines += 1;
        })?;
        let before = std::mem::replace(&mut now, Instant::now());
        if any || asked {
            busy += now - before;
        }
        if any || idle.len() == clients.len() {
            last_answer = now;
        } else if now - last_answer > STALLED {
            return Err("the server owes answers and is silent".into());
        }
    }
    Ok((lines * clients.depth as u64, busy))
}
