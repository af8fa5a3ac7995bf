//! Accepting (A1, A3): out of descriptors for real, errors of every other kind injected, and handlers that fail.

use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::Result;
use crate::context::Context;
use crate::figures::{grouped, time};
use crate::peer::{PATIENCE, ask, is_ended, read_line};
use crate::row::{Outcome, Tally};
use crate::server::{Server, Setup};
use crate::strace;
use crate::subjects::Subject;

/// A1: the server may have no further descriptor while clients come; then it may again.
pub(super) fn a1(context: &Context) -> Result<Outcome> {
    let outage = Duration::from_millis(context.scaled(5_000, 1_000) as u64);
    let mut outcome =
        context.compare_rust(|subject, tally| out_of_descriptors(context, subject, outage, tally));
    if !strace::usable() {
        outcome.ours += "; errors not injected: strace may not trace";
        return Ok(outcome);
    }
    let mut slowest = Duration::ZERO;
    for errno in ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ECONNABORTED", "EINTR"] {
        let mut tally = Tally::default();
        let took = injected(context, errno, &mut tally);
        slowest = slowest.max(tally.value(took, errno).unwrap_or_default());
        outcome.tally.add(tally);
    }
    outcome.ours += &format!("; 6 injected errnos x 4 times: 0 lost, slowest {}", time(slowest));
    Ok(outcome)
}

/// Clients come while there is no descriptor for them, and wait.
fn out_of_descriptors(
    context: &Context,
    subject: Subject,
    outage: Duration,
    tally: &mut Tally,
) -> Result<String> {
    let server = Server::start(context, subject, &Setup::work("echo"))?;
    let mut first = server.connect()?;
    ask(&mut first, "warm")?;
    server.process.limit_descriptors(server.process.descriptors()? as u64)?;
    let complaints = server.complaints().len();
    let cpu = server.process.cpu()?;
    let mut waiting = Vec::new();
    for _ in 0..CLIENTS {
        let mut socket = server.connect()?;
        socket.write_all(b"ping\n")?;
        waiting.push(socket);
    }
    std::thread::sleep(outage);
    if !server.process.is_alive()
        || server
            .complaints()
            .iter()
            .any(|line| line.contains("Too many open files") && subject == Subject::Tokio)
    {
        tally.check(false, || "the server ended".to_owned());
        return Ok("the server ends at the first EMFILE".to_owned());
    }
    let busy = (server.process.cpu()? - cpu).as_secs_f64() * 100.0 / outage.as_secs_f64();
    let complaints = server.complaints().len() - complaints;
    let living = ask(&mut first, "still here").is_ok_and(|echo| echo == "still here");
    tally.check(living, || "a connection that was there is not served".to_owned());
    server.process.limit_descriptors(1_000)?;
    let began = Instant::now();
    let mut lost = 0;
    for mut socket in waiting {
        let answer = read_line(&mut socket);
        let served = answer.as_ref().is_ok_and(|line| line == "ping");
        lost += u64::from(!tally.check(served, || format!("a client that waited got {answer:?}")));
    }
    let recovery = began.elapsed();
    if subject == Subject::Ours {
        tally.check(busy < 5.0, || format!("{busy:.1} % of a processor in the outage"));
        tally.check(recovery < context.within(Duration::from_millis(1_500)), || {
            format!("recovered after {recovery:?}")
        });
        tally.check(complaints <= 1, || format!("{complaints} lines in one burst"));
    }
    Ok(format!(
        "CPU {busy:.1} % in the outage, {} log lines, recovery {}, {lost} of {CLIENTS} lost",
        grouped(complaints as u64),
        time(recovery)
    ))
}

/// The 3rd to 6th accept fail with this error; everyone is served.
fn injected(context: &Context, errno: &str, tally: &mut Tally) -> Result<Duration> {
    let log = context.folder.path().join(format!("accept-{errno}"));
    let setup = Setup::work("echo").under(strace::inject("accept4", errno, "3..6", &log));
    let server = Server::start(context, Subject::Ours, &setup)?;
    let mut slowest = Duration::ZERO;
    for number in 0..20 {
        let began = Instant::now();
        let answer = ask(&mut server.connect()?, "ping");
        tally.check(answer.as_ref().is_ok_and(|line| line == "ping"), || {
            format!("{errno}: client {number} got {answer:?}")
        });
        slowest = slowest.max(began.elapsed());
    }
    tally.check(strace::injected(&log) == 4, || {
        format!("{errno}: {} accepts failed, not 4", strace::injected(&log))
    });
    let peers = matches!(errno, "ECONNABORTED" | "EINTR");
    let lines = server.complaints().iter().filter(|line| line.contains("pauses")).count();
    tally.check(lines == usize::from(!peers), || format!("{errno}: {lines} log lines"));
    Ok(slowest)
}

/// A3: handlers that fail or panic, a thousand times; then one that does not.
pub(super) fn a3(context: &Context) -> Result<Outcome> {
    let runs = context.scaled(1_000, 20);
    Ok(context.compare_rust(|subject, tally| {
        let server = Server::start(context, subject, &Setup::work("fail"))?;
        let mut socket = server.connect()?;
        ask(&mut socket, "warm")?;
        // Whether the echo's end came or not, its socket is closed by now.
        tally.check(is_ended(&mut socket), || "a connection whose handler returned stays open".to_owned());
        drop(socket);
        let before = server.process.descriptors()?;
        for number in 0..runs {
            let mut socket = server.connect()?;
            socket.write_all(if number % 2 == 0 { b"fail\n" } else { b"panic\n" })?;
            tally.check(is_ended(&mut socket), || "a connection whose handler failed stays open".to_owned());
        }
        let served = ask(&mut server.connect()?, "serve");
        tally.check(served.as_ref().is_ok_and(|line| line == "serve"), || {
            format!("not served after: {served:?}")
        });
        let left = server.settles_at(before, PATIENCE)?.saturating_sub(before);
        tally.check(left == 0, || format!("{left} descriptors left"));
        if subject == Subject::Ours {
            let reports = reports_of(&server, runs);
            tally.check(reports == runs, || format!("{reports} reports of {runs} failures"));
        }
        Ok(format!("{} failures, served after, {left} descriptors left", grouped(runs as u64)))
    }))
}

/// How many handlers the server said had failed, once it is so many or nothing more comes.
fn reports_of(server: &Server, wanted: usize) -> usize {
    let until = Instant::now() + PATIENCE;
    loop {
        let count = server.complaints().iter().filter(|line| line.contains("the handler of")).count();
        if count >= wanted || Instant::now() > until {
            return count;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// As many as wait in an outage: fewer than any backlog.
const CLIENTS: usize = 50;
