//! Connecting (C1 to C5): routes that say no, addresses that say nothing, connects that are given up, names that cannot be,
//! and a resolver that sleeps. All but C3 and C4 run in namespaces of their own.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _, UdpSocket};
use std::time::{Duration, Instant};

use millstream::{ConnectError, ConnectOptions};

use crate::Result;
use crate::context::Context;
use crate::figures::{grouped, time};
use crate::load::block_on;
use crate::namespaces::{BlackHole, cover, ip};
use crate::process::Process;
use crate::row::{Outcome, Tally};
use crate::scripts::script;
use crate::subjects::Subject;

/// Adds the figures of `peers/connect.py` to the columns of the two Python libraries.
fn with_python(context: &Context, mut outcome: Outcome, args: &[&str]) -> Outcome {
    for subject in [Subject::OursPython, Subject::Asyncio] {
        if context.has(subject) {
            let told = script(context, subject, "connect", args);
            if subject == Subject::Asyncio {
                outcome.asyncio = told.unwrap_or_else(|error| error.to_string());
            } else {
                // The way to connect is the loop's own, so it is no promise of the Python face.
                outcome.python = told.unwrap_or_else(|error| error.to_string());
            }
        }
    }
    outcome
}

/// C1: one name with four addresses, each of which fails in its own way.
pub(super) fn c1(context: &Context) -> Result<Outcome> {
    ip("route add unreachable 10.1.0.0/16")?;
    ip("route add prohibit 10.2.0.0/16")?;
    cover("/etc/hosts", "10.1.0.1 all.test\n10.2.0.1 all.test\n10.3.0.1 all.test\n127.0.0.7 all.test\n")?;
    let expected = [([10, 1, 0, 1], 113), ([10, 2, 0, 1], 13), ([10, 3, 0, 1], 101), ([127, 0, 0, 7], 111)];
    let mut tally = Tally::default();
    let mut named = 0;
    for _ in 0..context.scaled(200, 2) {
        let error = block_on(async { Ok(millstream::open_connection("all.test", 9).await.err()) })?;
        let Some(ConnectError::AllFailed { attempts, .. }) = &error else {
            tally.check(false, || format!("{error:?}"));
            continue;
        };
        let text = error.as_ref().map(ToString::to_string).unwrap_or_default();
        named = 0;
        for (host, errno) in expected {
            let address = SocketAddr::from((host, 9));
            let found = attempts.iter().find(|attempt| attempt.address == address);
            let right = found.and_then(|attempt| attempt.failure.raw_os_error()) == Some(errno);
            named += usize::from(tally.check(right && text.contains(&address.to_string()), || text.clone()));
        }
    }
    let plain = block_on(async { Ok(tokio::net::TcpStream::connect("all.test:9").await.err()) })?;
    let plain = plain.map(|error| error.to_string()).unwrap_or_default();
    let outcome = Outcome::ours(tally, format!("{named} of 4 addresses named with their errno"))
        .tokio(format!("1 errno, no address: {plain}"));
    Ok(with_python(context, outcome, &["c1"]))
}

/// C2: the first address is a black hole. How long after the delay the second one has the connection.
pub(super) fn c2(context: &Context) -> Result<Outcome> {
    cover("/etc/hosts", "127.0.0.2 two.test\n127.0.0.3 two.test\n")?;
    let order: Vec<SocketAddr> = ("two.test", 4000).to_socket_addrs()?.collect();
    let (first, second) = (*order.first().ok_or("no address")?, *order.last().ok_or("no address")?);
    let hole = BlackHole::at(first)?;
    let _good = TcpListener::bind(second)?;
    let mut tally = Tally::default();
    let (mut times, delay) = (Vec::new(), Duration::from_millis(250));
    // The first runtime of a process opens what it has for signals, once and for all.
    block_on(async { Ok(()) })?;
    let before = Process::own().descriptors()?;
    for _ in 0..context.scaled(40, 2) {
        let began = Instant::now();
        let opened = block_on(async {
            let (reader, writer) = millstream::open_connection("two.test", 4000).await?;
            let took = began.elapsed();
            let peer = writer.peer_address();
            writer.abort();
            drop((reader, writer));
            Ok((took, peer))
        });
        if let Some((took, peer)) = tally.value(opened, "the connect") {
            times.push(took.saturating_sub(delay));
            if took < delay || took > delay + context.within(delay) || peer != Some(second.into()) {
                tally.fail(format!("{took:?}, to {peer:?}"));
            }
        }
    }
    let left = Process::own().descriptors()?;
    tally.check(left == before, || format!("{left} descriptors instead of {before}"));
    tally.check(hole.held()? == 1, || "the hole has connections of ours".to_owned());
    // Counting has emptied it.
    drop(hole);
    let _hole = BlackHole::at(first)?;
    let worst = times.iter().max().copied().unwrap_or_default();
    let plain = if context.has(Subject::Tokio) { tokios_wait()? } else { "" };
    let outcome = Outcome::ours(tally, format!("delay 250 ms + at most {}", time(worst))).tokio(plain);
    Ok(with_python(context, outcome, &["c2"]))
}

fn tokios_wait() -> Result<&'static str> {
    let connected = block_on(async {
        let connect = tokio::net::TcpStream::connect("two.test:4000");
        Ok(tokio::time::timeout(STRANGERS_PATIENCE, connect).await.is_ok())
    })?;
    Ok(if connected { "connected" } else { "nothing within 3 s: one address after the other" })
}

/// C3: ten thousand connects to a black hole, cancelled after one poll or timed out.
pub(super) fn c3(context: &Context) -> Result<Outcome> {
    let runs = context.scaled(10_000, 300);
    let hole = BlackHole::at("127.0.0.1:0".parse()?)?;
    let port = hole.address.port();
    let mut tally = Tally::default();
    let ours = block_on(async {
        let before = Process::own().descriptors()?;
        for number in 0..runs {
            if number % 10 == 0 {
                let options = ConnectOptions::new().timeout(Duration::from_millis(1));
                let error = options.open("127.0.0.1", port).await.err();
                tally.check(matches!(error, Some(ConnectError::TimedOut { .. })), || format!("{error:?}"));
            } else {
                let answered = polled_once(millstream::open_connection("127.0.0.1", port)).await;
                tally.check(!answered, || "a black hole answered".to_owned());
            }
        }
        Ok(Process::own().descriptors()?.saturating_sub(before))
    })?;
    tally.check(ours == 0, || format!("{ours} descriptors left"));
    let plain = block_on(async {
        let before = Process::own().descriptors()?;
        for _ in 0..runs {
            polled_once(tokio::net::TcpStream::connect(("127.0.0.1", port))).await;
        }
        Ok(Process::own().descriptors()?.saturating_sub(before))
    })?;
    let runs = grouped(runs as u64);
    let outcome = Outcome::ours(tally, format!("{ours} descriptors left of {runs} connects"))
        .tokio(format!("{plain} left of {runs}"));
    Ok(with_python(context, outcome, &["c3", &port.to_string(), &context.scaled(10_000, 300).to_string()]))
}

async fn polled_once<T>(future: impl Future<Output = T>) -> bool {
    tokio::select! {
        biased;
        _ = future => true,
        () = std::future::ready(()) => false,
    }
}

/// C4: hosts that cannot be are refused without a lookup; a scope stays in its address.
pub(super) fn c4(context: &Context) -> Result<Outcome> {
    let mut tally = Tally::default();
    let long = "a".repeat(254);
    let hosts = ["", "127.0.0.1\0.evil.example", &long];
    block_on(async {
        for host in hosts {
            let began = Instant::now();
            let error = millstream::open_connection(host, 9).await.err();
            let at_once = began.elapsed() < context.within(Duration::from_millis(5));
            tally.check(at_once && matches!(error, Some(ConnectError::BadHost(_))), || {
                format!("{host:?}: {error:?}")
            });
        }
        let error = millstream::open_connection("fe80::1%lo", 9).await.err();
        let scoped = match &error {
            Some(ConnectError::AllFailed { attempts, .. }) => attempts
                .iter()
                .any(|attempt| matches!(attempt.address, SocketAddr::V6(address) if address.scope_id() == 1)),
            _ => false,
        };
        tally.check(scoped, || format!("the scope was lost: {error:?}"));
        Ok(())
    })?;
    let figure = format!(
        "{} of {} as promised (a port of 65,536 does not compile)",
        tally.runs - tally.failures,
        tally.runs
    );
    let plain = block_on(async {
        let mut refused = 0;
        for host in hosts {
            let error = tokio::net::TcpStream::connect((host, 9)).await.err();
            refused +=
                usize::from(error.is_some_and(|error| error.kind() == std::io::ErrorKind::InvalidInput));
        }
        Ok(refused)
    })?;
    let outcome = Outcome::ours(tally, figure).tokio(format!("{plain} of 3 hosts refused before the lookup"));
    Ok(with_python(context, outcome, &["c4"]))
}

/// C5: the name server never answers, so that the lookup blocks its thread for ten seconds. How long the runtime stood
/// still meanwhile, and how fast a cancel comes back.
pub(super) fn c5(context: &Context) -> Result<Outcome> {
    let silent = UdpSocket::bind("127.0.0.9:53")?;
    cover("/etc/resolv.conf", "nameserver 127.0.0.9\noptions timeout:5 attempts:2\n")?;
    cover("/etc/hosts", "127.0.0.1 localhost\n")?;
    cover("/etc/nsswitch.conf", "hosts: files dns\n")?;
    let mut tally = Tally::default();
    let mut cancels = Vec::new();
    let mut stall = Duration::ZERO;
    for _ in 0..context.scaled(10, 1) {
        // The thread of a blocking lookup goes on behind a cancel; what is measured is the caller's wait.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (worst, late, answered) = runtime.block_on(async {
            let ticks = tokio::spawn(worst_tick());
            let began = Instant::now();
            let connect = millstream::open_connection("never.test", 9);
            let answered = tokio::time::timeout(LOOKUP, connect).await.is_ok();
            let late = began.elapsed().saturating_sub(LOOKUP);
            ticks.abort();
            (WORST.load(std::sync::atomic::Ordering::Relaxed), late, answered)
        });
        runtime.shutdown_background();
        tally.check(!answered, || "the resolver answered".to_owned());
        tally.check(late < context.within(MOST_STALL), || format!("the cancel took {late:?}"));
        stall = stall.max(Duration::from_micros(worst));
        cancels.push(late);
    }
    tally.check(stall < context.within(MOST_STALL), || format!("the loop stood still for {stall:?}"));
    let mut buf = [0; 600];
    silent.set_read_timeout(Some(context.within(Duration::from_secs(1))))?;
    tally.check(silent.recv(&mut buf).is_ok(), || "nobody asked the name server".to_owned());
    let cancel = cancels.iter().max().copied().unwrap_or_default();
    let figure = format!("longest stall {}, cancel returns after {}", time(stall), time(cancel));
    let outcome = Outcome::ours(tally, figure).tokio("the same thread pool");
    Ok(with_python(context, outcome, &["c5"]))
}

/// Notes the longest time between two wake-ups that are due each millisecond.
async fn worst_tick() {
    let mut last = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let micros = u64::try_from(last.elapsed().as_micros()).unwrap_or(u64::MAX);
        WORST.fetch_max(micros, std::sync::atomic::Ordering::Relaxed);
        last = Instant::now();
    }
}

static WORST: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
/// The lookup blocks for a hundred times as long.
const MOST_STALL: Duration = Duration::from_millis(100);
const LOOKUP: Duration = Duration::from_millis(500);
const STRANGERS_PATIENCE: Duration = Duration::from_secs(3);
