//! The rows of the fault table, in files by their groups.

mod accept;
mod cancel;
mod concurrency;
mod connect;
mod exhaustion;
mod reader;
mod reader_core;
mod writer;
mod writer_losses;

use crate::Result;
use crate::args::Args;
use crate::row::{Outcome, Place, Row};

/// A row that runs as the rig itself.
const fn row(
    id: &'static str,
    title: &'static str,
    run: fn(&crate::context::Context) -> Result<Outcome>,
) -> Row {
    Row { id, title, place: Place::Here, run }
}

/// A row that needs namespaces.
const fn apart(
    id: &'static str,
    title: &'static str,
    run: fn(&crate::context::Context) -> Result<Outcome>,
) -> Row {
    Row { id, title, place: Place::Namespaces, run }
}

/// All of them, in the table's order.
pub(crate) static ROWS: &[Row] = &[
    row("R1", "endless line", reader::r1),
    row("R2", "separator on any edge, lines at the limit", reader_core::r2),
    row("R3", "end inside a line or a counted item", reader::r3),
    row("R4", "reset behind bytes that arrived", reader::r4),
    row("R5", "one-byte segments", reader_core::r5),
    row("R6", "exact read of 2^62 bytes", reader::r6),
    row("R7", "calls that cannot be meant", reader_core::r7),
    row("R8", "lone CR, NUL, bad UTF-8", reader::r8),
    row("W1", "peer that never reads", writer::w1),
    row("W2", "sends that take 1 to k bytes", writer::w2),
    row("W3", "empty chunks, a million tiny writes", writer::w3),
    row("W4", "buffers changed after the write, odd shapes", writer::w4),
    row("W5", "writes after close, end, loss", writer_losses::w5),
    row("W6", "reset while four wait in drain", writer_losses::w6),
    apart("C1", "refused, unreachable, prohibited, no route", connect::c1),
    apart("C2", "first address a black hole", connect::c2),
    row("C3", "connects cancelled or timed out", connect::c3),
    row("C4", "hosts that cannot be", connect::c4),
    apart("C5", "resolver blocks for 10 s", connect::c5),
    row("A1", "accept fails", accept::a1),
    row("A3", "handlers that fail or panic", accept::a3),
    row("X1", "every read cancelled at every k", cancel::x1),
    row("X2", "reads under a timeout, half expiring", cancel::x2),
    row("E1", "descriptor limit hit in connect, accept, upgrade", exhaustion::e1),
    row("E2", "sink full or broken while copying", exhaustion::e2),
    row("E3", "one flooder among 100 quiet", exhaustion::e3),
    row("K1", "wake-ups race register, cancel, drop", concurrency::k1),
    row("K3", "descriptor numbers used again", concurrency::k3),
];

/// The processes that rows need beside servers.
pub(crate) fn probe(mut args: Args) -> Result<()> {
    match args.word().as_deref() {
        Some("descriptors") => exhaustion::descriptors(args),
        _ => Err(crate::USAGE.into()),
    }
}
