//! The sweep's server side: our echo server under strace, and blocking clients that note what became of them.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{CONNECTIONS, Kind, QUESTIONS, Run};
use crate::Result;
use crate::context::Context;
use crate::peer::{ask, is_ended};
use crate::row::Tally;
use crate::server::{Server, Setup};
use crate::strace;
use crate::subjects::Subject;

const fn hurting(call: &'static str, errno: &'static str, text: &'static str) -> Kind {
    Kind { call, errno, text, is_harmless: false }
}

const fn harmless(call: &'static str, errno: &'static str) -> Kind {
    Kind { call, errno, text: "", is_harmless: true }
}

pub(super) const KINDS: &[Kind] = &[
    harmless("accept4", "EMFILE"),
    harmless("accept4", "ENOMEM"),
    harmless("accept4", "ECONNABORTED"),
    harmless("accept4", "EINTR"),
    hurting("recvfrom", "ECONNRESET", "reset"),
    hurting("recvfrom", "ENOMEM", "memory"),
    hurting("sendto", "EPIPE", "pipe"),
    hurting("sendto", "ENOBUFS", "buffer"),
    hurting("sendmsg", "EPIPE", "pipe"),
    hurting("writev", "EPIPE", "pipe"),
    hurting("shutdown", "ENOTCONN", "connected"),
    hurting("epoll_ctl", "ENOMEM", "memory"),
];

/// One conversation with the k-th call failing.
pub(super) fn run(context: &Context, kind: &Kind, k: usize, log: &Path, tally: &mut Tally) -> Result<Run> {
    let setup = Setup::work("echo").under(strace::inject(kind.call, kind.errno, &k.to_string(), log));
    let server = match Server::start(context, Subject::Ours, &setup.close(Duration::from_secs(2))) {
        Ok(server) => server,
        Err(error) => {
            // A call of the start itself failed: the start says so.
            let said = error.to_string();
            tally.check(said.contains(kind.text) && !said.contains("panicked"), || said.clone());
            return Ok(Run { hurt: 0, untouched: false });
        }
    };
    let before = server.process.descriptors()?;
    let mut hurt = 0;
    for number in 0..CONNECTIONS / 2 {
        hurt += outcome(server.connect().and_then(|mut socket| talk(&mut socket, number)), tally);
    }
    let mut sockets: Vec<TcpStream> =
        (0..CONNECTIONS / 2).map(|_| server.connect()).collect::<Result<_>>()?;
    let mut failed = vec![false; sockets.len()];
    for question in 0..QUESTIONS {
        for (socket, failed) in sockets.iter_mut().zip(&mut failed).filter(|(_, failed)| !**failed) {
            let answer = asked(socket, question);
            *failed = answer.is_err();
            hurt += outcome(answer, tally);
        }
    }
    drop(sockets);
    let most = u64::from(!kind.is_harmless);
    tally.check(hurt <= most, || format!("{hurt} connections hurt: {:?}", server.complaints()));
    let named = hurt == 0 || complains_of(&server, kind.text);
    let complaints = server.complaints();
    tally.check(named, || format!("no error named {}: {complaints:?}", kind.errno));
    tally.check(!complaints.iter().any(|line| line.contains("panicked")), || format!("{complaints:?}"));
    let left = server.settles_at(before, Duration::from_secs(5))?.saturating_sub(before);
    tally.check(left == 0, || format!("{left} descriptors left"));
    let after = server.connect().and_then(|mut socket| talk(&mut socket, 0));
    // Where the call that fails is one of this last conversation, it is the one that is hurt.
    tally.check(after.is_ok() || (hurt == 0 && !kind.is_harmless), || {
        format!("not served afterwards: {after:?}")
    });
    tally.check(server.process.is_alive(), || "the server has ended".to_owned());
    Ok(Run { hurt, untouched: strace::injected(log) == 0 })
}

/// Whether the server says this on standard error; the line may come after the connection's end.
fn complains_of(server: &Server, text: &str) -> bool {
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        if server.complaints().iter().any(|line| line.to_lowercase().contains(text)) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

/// Questions and answers, and an end of either kind.
fn talk(socket: &mut TcpStream, number: usize) -> Result<()> {
    for question in 0..QUESTIONS {
        asked(socket, question)?;
    }
    if number.is_multiple_of(2) {
        socket.shutdown(std::net::Shutdown::Write)?;
        if !is_ended(socket) {
            return Err("hangs at the end".into());
        }
    }
    Ok(())
}

fn asked(socket: &mut TcpStream, question: usize) -> Result<()> {
    let line = format!("question {question}");
    let answer = ask(socket, &line)?;
    socket.flush()?;
    if answer == line { Ok(()) } else { Err(format!("`{answer}` came back").into()) }
}

/// Counts a failure; a wait that did not end is a broken promise, and so is an answer to something else.
fn outcome(result: Result<()>, tally: &mut Tally) -> u64 {
    let Err(error) = result else { return 0 };
    let text = error.to_string();
    let bad =
        text.contains("hangs") || text.contains("temporarily unavailable") || text.contains("timed out");
    tally.check(!bad, || text.clone());
    // An end in the middle of a line or before one is how a closed connection looks.
    tally.check(!text.contains("question"), || text.clone());
    1
}
