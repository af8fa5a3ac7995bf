//! The rows of the fault table, in files by their groups.

mod accept;
mod cancel;
mod concurrency;
mod connect;
mod crowds;
mod exhaustion;
mod limits;
mod proxy;
mod proxy_cases;
mod python;
mod reader;
mod reader_core;
mod restart;
mod shutdown;
mod soak;
mod stop;
mod tls_damage;
mod tls_stalls;
mod tls_upgrade;
mod unix;
mod vanished;
mod wakes;
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
    row("R9", "PROXY header: long, cut, wrong, slow", proxy::r9),
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
    row("A2", "5,000 slow clients, 1,000 silent TLS peers", crowds::a2),
    row("A3", "handlers that fail or panic", accept::a3),
    row("A4", "Unix path stale, long, replaced; its rights", unix::a4),
    row("A5", "10,000 idle connections", crowds::a5),
    row("T1", "plaintext buffered at an upgrade", tls_upgrade::t1),
    row("T2", "ClientHello glued to a greeting, cut per byte", tls_upgrade::t2),
    row("T3", "flipped bit in byte k", tls_damage::t3),
    row("T4", "1,000 handshakes that stall", tls_stalls::t4),
    row("T5", "whatever ends a handshake early", tls_stalls::t5),
    row("T6", "end without close_notify", tls_damage::t6),
    row("T7", "TLS peer stops reading, close", tls_stalls::t7),
    row("T8", "upgrade refused or failed", tls_upgrade::t8),
    row("X1", "every read cancelled at every k", cancel::x1),
    row("X2", "reads under a timeout, half expiring", cancel::x2),
    row("S1", "close with unread input and unsent output", shutdown::s1),
    row("S2", "half-close, then a long read", shutdown::s2),
    apart("S3", "peer vanishes", vanished::s3),
    row("S4", "server stops with 1,000 live clients", stop::s4),
    row("P1", "SIGINT at random moments", python::p1),
    row("P2", "loop closed with work pending", python::p2),
    row("P3", "interpreter exits with streams at work", python::p3),
    row("P4", "fork, sub-interpreter", python::p4),
    row("P5", "connections dropped in every way", python::p5),
    row("P6", "one stream, two threads", python::p6),
    row("E1", "descriptor limit hit in connect, accept, upgrade", exhaustion::e1),
    row("E2", "sink full or broken while copying", exhaustion::e2),
    row("E3", "one flooder among 100 quiet", exhaustion::e3),
    row("K1", "wake-ups race register, cancel, drop", concurrency::k1),
    row("K2", "soak through the chaos proxy", soak::k2),
    row("K3", "descriptor numbers used again", concurrency::k3),
];

/// The processes that rows need beside servers.
pub(crate) fn probe(mut args: Args) -> Result<()> {
    match args.word().as_deref() {
        Some("descriptors") => exhaustion::descriptors(args),
        _ => Err(crate::USAGE.into()),
    }
}
