//! PROXY headers (R9) from bad peers: too long, without an end, of a wrong family or length, cut at every byte, missing, slow,
//! changed at random. Beside them good ones, whose bytes behind the header have to arrive whatever the cuts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::proxy_cases::{Case, Cases, DEADLINE, Fate, SHORTEST};
use crate::Result;
use crate::context::Context;
use crate::figures::{grouped, time};
use crate::load::block_on;
use crate::peer::PATIENCE;
use crate::random::Random;
use crate::row::{Outcome, Tally};
use crate::server::{Server, Setup, number_after};
use crate::subjects::Subject;

/// R9: each header from a peer of its own, to a server that requires headers and to one that takes them.
pub(super) fn r9(context: &Context) -> Result<Outcome> {
    let mut tally = Tally::default();
    let mut cases = Cases::new(Random::new(context.seed));
    cases.good();
    cases.broken();
    cases.cut_short();
    cases.changed(context.scaled(20_000, 200));
    let slow = cases.slow();
    let (mut run, mut slowest, mut latest) = (0, Duration::ZERO, Duration::ZERO);
    for mode in ["required", "optional"] {
        let setup = Setup::work("name").option("--proxy", mode);
        // These deadlines must not pass; those of the slow ones must.
        let patient = Server::start(context, Subject::Ours, &setup.clone().option("--proxy-ms", 60_000))?;
        let strict = setup.option("--proxy-ms", DEADLINE.as_millis());
        let strict = Server::start(context, Subject::Ours, &strict)?;
        let at_once = meet(&patient, mode, &cases.all, &mut tally)?;
        let in_time = meet(&strict, mode, &slow, &mut tally)?;
        for took in &in_time {
            tally.check(DEADLINE <= *took + EARLY && *took < DEADLINE + SLACK, || {
                format!("{mode}: a silent peer was refused after {took:?} instead of {DEADLINE:?}")
            });
        }
        run += cases.all.len() + slow.len();
        slowest = slowest.max(at_once.into_iter().max().unwrap_or_default());
        latest = latest.max(in_time.into_iter().max().unwrap_or_default());
    }
    tally.check(slowest < SLACK, || format!("a broken header was refused after {slowest:?} only"));
    let figure = format!(
        "{} cases, {} mismatches; a broken header refused by {}, a silent or dripping one by {} (deadline {})",
        grouped(run as u64),
        tally.failures,
        time(slowest),
        time(latest),
        time(DEADLINE)
    );
    let mut outcome = Outcome::ours(tally, figure).asyncio(NONE).tokio(NONE);
    NONE.clone_into(&mut outcome.python);
    Ok(outcome)
}

/// Lets the server meet them, some hundred at once. How long each refusal of a broken header took.
fn meet(server: &Server, mode: &str, cases: &[Case], tally: &mut Tally) -> Result<Vec<Duration>> {
    let (mut times, mut refused_in_all) = (Vec::new(), 0);
    for batch in cases.chunks(AT_ONCE) {
        let peers = block_on(async {
            let mut peers = JoinSet::new();
            for (number, case) in batch.iter().cloned().enumerate() {
                let port = server.port;
                peers.spawn(async move { (number, peer(port, &case).await) });
            }
            let mut all = Vec::new();
            while let Some(peer) = peers.join_next().await {
                all.push(peer?);
            }
            Ok(all)
        })?;
        let mut seen = Vec::new();
        for (number, result) in peers {
            let case = &batch[number];
            if let Some(peer) = tally.value(result, &format!("{mode}: {case:?}")) {
                seen.push((case, peer));
            }
        }
        // Whoever got no answer was refused; for each there is one report.
        let expected = seen.iter().filter(|(_, peer)| peer.answer.is_empty()).count();
        let mut causes = BTreeMap::new();
        for _ in 0..expected {
            let line = server.report(PATIENCE)?;
            let port = number_after(&line, "refused").unwrap_or(0);
            let cause = line.splitn(3, ' ').nth(2).unwrap_or_default().to_owned();
            if causes.insert(port, cause).is_some() {
                tally.fail(format!("{mode}: one refusal was told twice: {line}"));
            }
        }
        for (case, peer) in seen {
            let cause = causes.remove(&u64::from(peer.local.port()));
            if matches!(case.fate, Fate::Refused(_)) {
                times.push(peer.took);
            }
            if let Err(what) = judge(case, mode, &peer, cause.as_deref()) {
                tally.fail(format!("{mode}: {what}: {:?}", case.parts.concat().escape_ascii().to_string()));
            }
        }
        refused_in_all += expected as u64;
    }
    let stats = server.told("stats", "stats", PATIENCE)?;
    let counted = number_after(&stats, "refused_headers");
    tally.check(counted == Some(refused_in_all), || {
        format!("{mode}: {counted:?} refusals counted of {refused_in_all}")
    });
    let left = number_after(&stats, "connections");
    tally.check(left == Some(0), || format!("{mode}: {left:?} connections left"));
    Ok(times)
}

/// How a peer fared.
#[derive(Debug)]
struct Peer {
    local: SocketAddr,
    answer: Vec<u8>,
    /// From its last byte, or from its connection if it was cut off before, to the server's end.
    took: Duration,
}

async fn peer(port: u16, case: &Case) -> Result<Peer> {
    let socket = TcpSocket::new_v4()?;
    let host = if case.is_stranger { 2 } else { 1 };
    socket.bind(([127, 0, 0, host], 0).into())?;
    let mut began = Instant::now();
    let stream = socket.connect(([127, 0, 0, 1], port).into()).await?;
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let (mut input, mut output) = stream.into_split();
    let keeps_open = case.keeps_open;
    let (parts, pace) = (case.parts.clone(), case.pace);
    let sending = async {
        for (number, part) in parts.iter().enumerate() {
            if number > 0 {
                sleep(pace).await;
            }
            // It may have been refused already.
            if output.write_all(part).await.is_err() {
                break;
            }
        }
        if keeps_open {
            std::future::pending::<()>().await;
        }
        let _ = output.shutdown().await;
    };
    let mut answer = Vec::new();
    let mut block = [0; 4096];
    let receiving = async {
        loop {
            match input.read(&mut block).await {
                Ok(0) => return,
                Ok(n) => answer.extend(&block[..n]),
                // A refused peer that goes on sending may be reset.
                Err(_) => return,
            }
        }
    };
    tokio::pin!(sending, receiving);
    let ended = timeout(PATIENCE, async {
        tokio::select! {
            () = &mut receiving => return,
            () = &mut sending => began = Instant::now(),
        }
        receiving.await;
    });
    ended.await.map_err(|_| "the server keeps the connection")?;
    Ok(Peer { local, answer, took: began.elapsed() })
}

/// Whether it is as it has to be.
fn judge(case: &Case, mode: &str, peer: &Peer, cause: Option<&str>) -> std::result::Result<(), String> {
    let sent = case.parts.concat();
    let own = peer.local.to_string();
    let served = |name: &str, bytes: &[u8]| {
        let expected = [name.as_bytes(), b"\n", bytes].concat();
        if cause.is_none() && peer.answer == expected {
            return Ok(());
        }
        Err(format!("{:?}, {cause:?}, not {name}", peer.answer.escape_ascii().to_string()))
    };
    let refused = |wanted: &str| match cause {
        Some(cause) if peer.answer.is_empty() && cause.starts_with(wanted) => Ok(()),
        other => Err(format!("{other:?}, not {wanted}; answer {:?}", peer.answer.escape_ascii().to_string())),
    };
    match &case.fate {
        Fate::Served(name, bytes) => served(name.unwrap_or(&own), bytes),
        Fate::Refused(wanted) => refused(wanted),
        Fate::NoHeader(wanted) if mode == "required" => refused(wanted),
        Fate::NoHeader(_) => served(&own, &sent),
        Fate::Either if cause.is_some() => refused(""),
        Fate::Either => {
            let (name, bytes) = split_line(&peer.answer);
            if name == own {
                // No header at all, where that is allowed, or one without addresses.
                let whole = bytes == sent && mode == "optional";
                let behind = sent.strip_suffix(bytes).is_some_and(|header| header.len() >= SHORTEST);
                return (whole || behind).then_some(()).ok_or_else(|| format!("{} bytes came", bytes.len()));
            }
            let header = sent.strip_suffix(bytes).ok_or("other bytes came than were sent")?;
            holds(header, &name).then_some(()).ok_or_else(|| format!("{name} was guessed"))
        }
    }
}

/// Whether this header has this address in it, as text or as bytes.
fn holds(header: &[u8], address: &str) -> bool {
    let Ok(address) = address.parse::<SocketAddr>() else { return false };
    let has = |needle: &[u8]| header.windows(needle.len()).any(|window| window == needle);
    if header.starts_with(b"PROXY ") {
        // Another spelling of the same IPv6 address is possible, and then the parts are its own.
        let words: Vec<_> = header.split(|&byte| byte == b' ').collect();
        let ip = words.get(2).and_then(|word| std::str::from_utf8(word).ok()?.parse().ok());
        return ip == Some(address.ip()) && has(address.port().to_string().as_bytes());
    }
    let port = address.port().to_be_bytes();
    match address {
        SocketAddr::V4(address) => has(&address.ip().octets()) && has(&port),
        SocketAddr::V6(address) => has(&address.ip().octets()) && has(&port),
    }
}

fn split_line(answer: &[u8]) -> (String, &[u8]) {
    let at = answer.iter().position(|&byte| byte == b'\n').unwrap_or(answer.len());
    let (line, rest) = answer.split_at(at);
    (String::from_utf8_lossy(line).into_owned(), rest.get(1..).unwrap_or_default())
}

/// What the others' columns say.
const NONE: &str = "no PROXY headers";
const AT_ONCE: usize = 250;
/// What the clocks of two processes may be apart.
const EARLY: Duration = Duration::from_millis(5);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(5);
