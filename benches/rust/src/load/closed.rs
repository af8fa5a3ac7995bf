//! The closed loop: every connection sends its next batch as soon as the last one is back.

use std::time::{Duration, Instant};

use super::clients::Clients;
use super::histogram::Latencies;
use super::wire::Wire;
use crate::Result;
use crate::process::nanos;

/// Loads the server for `window` or until `most` batches are back, then waits for what is outstanding. Returns the lines answered and adds
/// the time of each batch to `times`.
pub(super) fn drive<W: Wire>(
    clients: &mut Clients<W>,
    window: Duration,
    most: Option<u64>,
    times: &mut Latencies,
) -> Result<u64> {
    let end = Instant::now() + window;
    let mut back = Vec::with_capacity(clients.len());
    for number in 0..clients.len() {
        clients.ask(number, Instant::now())?;
    }
    let mut outstanding = clients.len();
    let mut batches = 0;
    while outstanding > 0 {
        clients.answers_or_stalled(|number, since| back.push((number, since)))?;
        for (number, since) in back.drain(..) {
            let now = Instant::now();
            times.push(nanos(now - since));
            batches += 1;
            if most.map_or(now < end, |most| batches + outstanding as u64 <= most) {
                clients.ask(number, now)?;
            } else {
                outstanding -= 1;
            }
        }
    }
    Ok(batches * clients.depth as u64)
}
