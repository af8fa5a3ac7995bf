//! Deadlines and caps against crowds (part of A2): slow clients are cut off in time while good ones go on, and a burst above
//! the cap meets the policy that was chosen.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::Result;
use crate::context::Context;
use crate::figures::{grouped, percentile, time};
use crate::load::{Target, block_on, good_clients};
use crate::peer::{PATIENCE, is_ended, read_line};
use crate::row::Tally;
use crate::server::{Server, Setup, number_after};
use crate::subjects::{FAREWELL, Subject};

/// What a server of ours does with `slow` clients of which each sends a byte in ten seconds, and with twice as many as it may
/// have.
pub(super) fn held(context: &Context, slow: usize, tally: &mut Tally) -> Result<String> {
    let cut = cut_off(context, slow, tally)?;
    let cap = context.scaled(1_000, 50);
    let wait = burst(context, cap, false, tally)?;
    let refuse = burst(context, cap, true, tally)?;
    Ok(format!("{cut}; a burst of {} on a cap of {}: {wait} or {refuse}", 2 * cap, grouped(cap as u64)))
}

/// Half of them have begun a line, half have said nothing: the one deadline or the other.
fn cut_off(context: &Context, slow: usize, tally: &mut Tally) -> Result<String> {
    let millis = DEADLINE.as_millis();
    let setup = Setup::work("echo").option("--item-ms", millis).option("--idle-ms", millis);
    let server = Server::start(context, Subject::Ours, &setup)?;
    let target = Target::plain(server.port);
    let length = 2 * DEADLINE;
    let good = std::thread::spawn(move || block_on(good_clients(&target, GOOD, length)));
    let began = Instant::now();
    let mut sockets = Vec::with_capacity(slow);
    for number in 0..slow {
        let mut socket = open(server.port, number)?;
        if number % 2 == 0 {
            socket.write_all(b"z")?;
        }
        sockets.push((socket, Instant::now()));
    }
    let connected = began.elapsed();
    let mut cut = 0;
    for (socket, since) in &mut sockets {
        socket.set_read_timeout(Some(PATIENCE))?;
        let ended = is_ended(socket);
        // Whoever is looked at later has ended earlier than that.
        let early = since.elapsed() < DEADLINE;
        cut += u64::from(tally.check(ended && !early, || {
            format!("a slow client: ended {ended} after {:?}, deadline {DEADLINE:?}", since.elapsed())
        }));
    }
    let took = began.elapsed();
    // A deadline passes between its time and a quarter more.
    let bound = connected + DEADLINE * 5 / 4 + SLACK;
    tally.check(took < bound, || {
        format!("the last was cut off after {took:?}, {connected:?} of it to connect")
    });
    let mut times = good.join().map_err(|_| "the good clients panicked")??;
    tally.check(!times.is_empty(), || "the good clients got no answer".to_owned());
    let p99 = percentile(&mut times, 99);
    Ok(format!(
        "with deadlines of {}, {cut} of {} slow cut off within {} while the good p99 was {}",
        time(DEADLINE),
        grouped(slow as u64),
        time(took),
        time(p99)
    ))
}

/// Twice as many connections as the cap, which all ask at once.
fn burst(context: &Context, cap: usize, refuse: bool, tally: &mut Tally) -> Result<String> {
    let setup = Setup::work("echo").option("--cap", cap).option("--refuse", refuse);
    let server = Server::start(context, Subject::Ours, &setup)?;
    let mut sockets = Vec::with_capacity(2 * cap);
    for number in 0..2 * cap {
        let mut socket = open(server.port, number)?;
        // A refused one may be closed already.
        let sent = socket.write_all(b"ping\n");
        if !refuse {
            sent?;
        }
        sockets.push(socket);
    }
    let mut above = sockets.split_off(cap);
    let mut served = 0;
    for socket in &mut sockets {
        served += u64::from(is_served(socket));
    }
    tally.check(served == cap as u64, || format!("{served} of the first {cap} are served"));
    let policy = if refuse {
        let mut told = 0;
        for socket in &mut above {
            let mut all = String::new();
            let farewell = socket.read_to_string(&mut all).is_ok() && all == FAREWELL;
            told += u64::from(tally.check(farewell, || format!("a refused peer got {all:?}")));
        }
        let stats = server.told("stats", "stats", PATIENCE)?;
        let counted = number_after(&stats, "refused_full");
        tally.check(counted == Some(cap as u64), || format!("{counted:?} refusals counted of {cap}"));
        format!("{} served and {told} told that it is full", grouped(served))
    } else {
        // The first have all been served, so the server had its time to serve others, too.
        let mut waiting = 0;
        for socket in &mut above {
            socket.set_nonblocking(true)?;
            let mut byte = [0];
            let waits = matches!(socket.peek(&mut byte), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
            waiting += u64::from(tally.check(waits, || "one above the cap was answered".to_owned()));
            socket.set_nonblocking(false)?;
        }
        drop(sockets);
        let mut later = 0;
        for socket in &mut above {
            later +=
                u64::from(tally.check(is_served(socket), || "one above the cap was never served".to_owned()));
        }
        format!("{} served, {waiting} wait and {later} of them are served later", grouped(served))
    };
    let stats = server.told("stats", "stats", PATIENCE)?;
    let peak = number_after(&stats, "peak");
    tally.check(peak == Some(cap as u64), || format!("{peak:?} connections at once"));
    Ok(policy)
}

fn is_served(socket: &mut TcpStream) -> bool {
    read_line(socket).is_ok_and(|line| line == "ping")
}

/// A connection from one of several loopback addresses, with timeouts.
fn open(port: u16, number: usize) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let host = u8::try_from(2 + number % 4)?;
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, host], 0)).into())?;
    socket.connect(&std::net::SocketAddr::from(([127, 0, 0, 1], port)).into())?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket.into())
}

const GOOD: usize = 50;
/// Of an item and of silence. Much shorter than anybody would set it, for the row's sake.
const DEADLINE: Duration = Duration::from_secs(3);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(5);
