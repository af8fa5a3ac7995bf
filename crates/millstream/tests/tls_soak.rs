//! Row K2, reduced: connections through a proxy that splits, stalls, ends and resets, plain and over TLS. Every byte read is
//! the right one; where bytes are missing, an error says so; at the end nothing is left.
//!
//! `MILLSTREAM_SOAK_SECONDS` says for how long; `make soak` is the whole of it.
#![cfg(feature = "tls")]

#[path = "soak/proxy.rs"]
mod proxy;
mod support;
#[path = "soak/talk.rs"]
mod talk;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millstream::tls::TlsVersion;
use millstream::{ConnectOptions, ErrorClass, Server, ServerOptions, StreamReader, StreamWriter};
use support::tls::{HOST, Realm};
use support::{Held, Random};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use proxy::{Fate, carry};
use talk::{Talk, Trouble};

/// How many connections there are at a time.
const WORKERS: usize = 50;
/// No conversation takes this long, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a connection is carried by.
const WAYS: [Option<TlsVersion>; 3] = [None, Some(TlsVersion::V1_2), Some(TlsVersion::V1_3)];

/// What all of them came to.
#[derive(Debug, Default)]
struct Tally {
    complete: usize,
    bytes: usize,
    /// Failures that were reported, by what they say on which side.
    reported: BTreeMap<String, usize>,
    /// What must not be.
    wrong: Vec<String>,
}

type Shared = Arc<Mutex<Tally>>;

fn with<R>(tally: &Shared, f: impl FnOnce(&mut Tally) -> R) -> R {
    f(&mut tally.lock().unwrap_or_else(PoisonError::into_inner))
}

#[test]
fn k2_through_a_chaos_proxy_every_byte_is_right_or_its_lack_is_reported() {
    let seconds = std::env::var("MILLSTREAM_SOAK_SECONDS").map_or(4, |text| text.parse().expect("seconds"));
    let seed = support::fresh_seed();
    println!("seed {seed:#x}, {seconds} s");
    support::run_on_threads(async move {
        let (realm, tally) = (Realm::new(), Shared::default());
        let mut servers = Vec::new();
        for version in WAYS {
            servers.push(serve(&realm, version, &tally).await);
        }
        let clients = WAYS.map(|version| match version {
            None => ConnectOptions::new(),
            Some(version) => ConnectOptions::new().tls(realm.client(version)),
        });
        let began = Instant::now();
        let until = began + Duration::from_secs(seconds);
        let mut workers = JoinSet::new();
        let mut random = Random::new(seed);
        let mut ports = [0; WAYS.len()];
        for (port, server) in ports.iter_mut().zip(&servers) {
            *port = server.sockets()[0].port().expect("TCP");
        }
        for _ in 0..WORKERS {
            let worker = work(clients.clone(), ports, Random::new(random.next()), until, Arc::clone(&tally));
            workers.spawn(worker);
        }
        watch(began, until, Arc::clone(&tally)).await;
        while let Some(worker) = workers.join_next().await {
            worker.expect("no panic in a worker");
        }
        for server in servers {
            server.close();
            tokio::time::timeout(PATIENCE, server.wait_closed()).await.expect("every handler ends");
        }
        report(&tally, began);
    });
}

fn report(tally: &Shared, began: Instant) {
    with(tally, |tally| {
        println!("{:.0?}: {} complete, {} bytes", began.elapsed(), tally.complete, tally.bytes);
        tally.reported.iter().for_each(|(text, times)| println!("  {times} x {text}"));
        assert!(tally.wrong.is_empty(), "{:#?}", tally.wrong);
        assert!(tally.complete >= WORKERS && tally.bytes >= 1_000_000, "{} connections", tally.complete);
        let reported: usize = tally.reported.values().sum();
        assert!(reported >= 10, "only {reported} failures: the proxy is too kind");
    });
}

/// Prints now and then what is held, and ends with the workers' time.
async fn watch(began: Instant, until: Instant, tally: Shared) {
    let mut last = usize::MAX;
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let minute = usize::try_from(began.elapsed().as_secs() / 60).expect("minutes");
        if minute != last {
            last = minute;
            let (complete, bytes) = with(&tally, |tally| (tally.complete, tally.bytes));
            let (held, memory) = (Held::now(), support::memory("VmRSS:") / 1024);
            println!("{minute} min: {complete} complete, {bytes} bytes, {memory} KiB resident, {held:?}");
        }
    }
}

async fn serve(realm: &Realm, version: Option<TlsVersion>, tally: &Shared) -> Server {
    let options = match version {
        None => ServerOptions::new(),
        Some(version) => ServerOptions::new().tls(realm.server(version)),
    };
    let handlers_tally = Arc::clone(tally);
    let handler = move |mut reader: StreamReader, writer: StreamWriter| {
        let tally = Arc::clone(&handlers_tally);
        async move {
            let talk = match Talk::asked(&mut reader).await {
                Ok(talk) => talk,
                Err(trouble) => return note(&tally, "server", version, &trouble, false),
            };
            match talk.answer(&mut reader, &writer).await {
                Ok(received) => with(&tally, |tally| tally.bytes += received),
                Err(trouble) => note(&tally, "server", version, &trouble, talk.is_kept),
            }
        }
    };
    let tally = Arc::clone(tally);
    options
        .on_failure(move |failure| {
            with(&tally, |tally| match failure.tls_handshake() {
                Some(failure) => {
                    *tally.reported.entry(format!("handshake, server: {failure}")).or_default() += 1
                }
                None => tally.wrong.push(format!("{failure}")),
            });
        })
        .start("127.0.0.1", 0, handler)
        .await
        .expect("a port")
}

/// One connection after the other until the time is up.
async fn work(
    clients: [ConnectOptions; WAYS.len()],
    ports: [u16; WAYS.len()],
    mut random: Random,
    until: Instant,
    tally: Shared,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let proxy = listener.local_addr().expect("bound").port();
    while Instant::now() < until {
        let way = random.below(WAYS.len());
        let mut talk = Talk::choose(&mut random);
        let fate = Fate::choose(&mut random, talk.lens);
        talk.is_kept = fate == Fate::Kept;
        let carrying = carry(&listener, ports[way], fate, Random::new(random.next()));
        let talking = async {
            let pair = clients[way].open(if WAYS[way].is_some() { HOST } else { "127.0.0.1" }, proxy).await?;
            talk.ask(pair).await
        };
        let both = tokio::time::timeout(PATIENCE, async { tokio::join!(carrying, talking) });
        match both.await {
            Err(_) => {
                let text = format!("stuck: {:?}, {talk:?}, {fate:?}", WAYS[way]);
                with(&tally, |tally| tally.wrong.push(text));
            }
            Ok(((), Ok(received))) => with(&tally, |tally| {
                tally.complete += 1;
                tally.bytes += received;
            }),
            Ok(((), Err(trouble))) => note(&tally, "client", WAYS[way], &trouble, talk.is_kept),
        }
    }
}

/// Anything but the peer's end, or what looks like it, is wrong; and so is that where every byte has passed.
fn note(tally: &Shared, side: &str, version: Option<TlsVersion>, trouble: &Trouble, is_kept: bool) {
    let over = version.map_or("plain".to_owned(), |version| version.to_string());
    with(tally, |tally| match trouble {
        Trouble::Reported(error) if error.class() == ErrorClass::BrokenByPeer && !is_kept => {
            // The numbers differ from case to case.
            let text: String = error.to_string().chars().filter(|letter| !letter.is_ascii_digit()).collect();
            *tally.reported.entry(format!("{over}, {side}: {text}")).or_default() += 1;
        }
        Trouble::Reported(error) => {
            tally.wrong.push(format!("{over}, {side}, kept: {is_kept}: {error}, {:?}", error.class()));
        }
        Trouble::Mismatch(text) => tally.wrong.push(format!("{over}, {side}, kept: {is_kept}: {text}")),
    });
}
