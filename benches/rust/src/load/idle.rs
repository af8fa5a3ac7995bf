//! The idle load: connections that had one line answered and keep quiet, and what the server keeps for them.

use std::time::Duration;

use super::clients::Clients;
use super::wire::Wire;
use super::{Plan, closed, histogram::Latencies};
use crate::{Result, process};

/// Connections before the first look: what a server needs once is in use then.
const WARM: usize = 64;
/// How long the server gets to come to rest.
const SETTLE: Duration = Duration::from_millis(100);

/// Opens the plan's connections and returns by how many bytes the server has grown for them.
pub(super) fn grow<W: Wire>(plan: &Plan) -> Result<u64> {
    let _warm = open::<W>(&Plan { connections: WARM, ..*plan })?;
    let before = process::resident(plan.server)?;
    let _all = open::<W>(plan)?;
    let after = process::resident(plan.server)?;
    Ok(after.saturating_sub(before))
}

fn open<W: Wire>(plan: &Plan) -> Result<Clients<W>> {
    let mut clients = Clients::connect(plan)?;
    closed::drive(&mut clients, Duration::ZERO, None, &mut Latencies::new())?;
    std::thread::sleep(SETTLE);
    Ok(clients)
}
