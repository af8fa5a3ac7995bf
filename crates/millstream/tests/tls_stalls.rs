//! Rows T4 and T7 of the fault table: peers that stop in the middle of TLS. Those that never finish a handshake delay nobody
//! and end at their deadline; one that reads no ciphertext holds a writer to its watermarks and a close to its deadline.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "clippy does not count helpers as tests")]

mod support;

use std::net::{SocketAddr, TcpStream};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use millstream::testing::{pair, pair_with};
use millstream::tls::{DEFAULT_HANDSHAKE_TIMEOUT, TlsFault, TlsVersion};
use millstream::{
    Address, CloseError, ConnectOptions, ErrorClass, Failure, Server, ServerOptions, StreamWriter, WriteError,
};
use support::tls::{Realm, every_side, tcp_pairs};
use support::{echo, ping, run, run_paused, tcp_pair};
use tokio::time::timeout;

/// What a server told of its failed handshakes, and when on tokio's clock.
type Told = Arc<Mutex<Vec<(SocketAddr, Failure, tokio::time::Instant)>>>;

/// An echo over TLS with room for many in its backlog.
async fn server(realm: &Realm, options: ServerOptions) -> (Server, u16, Told) {
    let told = Told::default();
    let tell = Arc::clone(&told);
    let options = options.backlog(2000).tls(realm.server(TlsVersion::V1_3)).on_failure(move |failure| {
        if let (Some(cause), Some(Address::Ip(peer))) = (failure.tls_handshake(), failure.address()) {
            tell.lock().unwrap().push((*peer, cause.clone(), tokio::time::Instant::now()));
        }
    });
    let server = options.start("127.0.0.1", 0, echo).await.unwrap();
    let port = server.sockets()[0].port().unwrap();
    (server, port, told)
}

/// Waits until the server has so many connections.
async fn has(server: &Server, connections: usize) {
    let wait = async {
        while server.connections() != connections {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(4 * DEFAULT_HANDSHAKE_TIMEOUT, wait).await.expect("as many connections");
}

/// A client that does all of it; returns how long that took.
async fn good_client(realm: &Realm, port: u16) -> Duration {
    let begin = Instant::now();
    let options = ConnectOptions::new().tls(realm.client(TlsVersion::V1_3));
    let (mut reader, writer) = options.open("127.0.0.1", port).await.unwrap();
    ping(&mut reader, &writer).await;
    writer.close();
    writer.wait_closed().await.unwrap();
    begin.elapsed()
}

#[test]
fn t4_a_good_client_is_served_at_once_beside_a_thousand_silent_ones() {
    run(async {
        const SILENT: usize = 1000;
        let realm = Realm::new();
        let (server, port, told) = server(&realm, ServerOptions::new().handshakes_at_once(SILENT + 1)).await;
        good_client(&realm, port).await;
        has(&server, 0).await;
        let alone = good_client(&realm, port).await;
        let silent: Vec<_> = (0..SILENT).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
        for n in 0..10 {
            let took = good_client(&realm, port).await;
            // Far from the deadline of the others, whatever this machine is busy with.
            assert!(took < DEFAULT_HANDSHAKE_TIMEOUT / 4, "client {n}: {took:?}, alone {alone:?}");
        }
        assert!(server.connections() >= SILENT, "the silent ones are still there");
        assert_eq!(told.lock().unwrap().len(), 0);
        drop(silent);
        has(&server, 0).await;
        server.close();
        server.wait_closed().await;
        assert_eq!(told.lock().unwrap().len(), SILENT);
    });
}

#[test]
fn t4_each_of_a_thousand_silent_peers_ends_at_its_deadline() {
    run_paused(async {
        const SILENT: usize = 1000;
        let realm = Realm::new();
        let (server, port, told) = server(&realm, ServerOptions::new()).await;
        let begin = tokio::time::Instant::now();
        let silent: Vec<_> = (0..SILENT).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
        while told.lock().unwrap().len() < SILENT {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(begin.elapsed() < 2 * DEFAULT_HANDSHAKE_TIMEOUT, "{} told", told.lock().unwrap().len());
        }
        has(&server, 0).await;
        for (peer, failure, at) in &*told.lock().unwrap() {
            assert_eq!(
                (failure.tls(), failure.class()),
                (Some(TlsFault::TimedOut), ErrorClass::Deadline),
                "{peer}"
            );
            assert!(at.duration_since(begin) >= DEFAULT_HANDSHAKE_TIMEOUT, "{peer} ended early");
        }
        drop(silent);
        server.close();
        server.wait_closed().await;
    });
}

#[test]
fn t4_too_many_handshakes_push_out_the_oldest_of_them_and_no_one_else() {
    run(async {
        const MOST: usize = 8;
        let realm = Realm::new();
        let (server, port, told) = server(&realm, ServerOptions::new().handshakes_at_once(MOST)).await;
        let options = ConnectOptions::new().tls(realm.client(TlsVersion::V1_3));
        let (mut reader, writer) = options.open("127.0.0.1", port).await.unwrap();
        ping(&mut reader, &writer).await;
        let mut silent = Vec::new();
        for n in 1..=20 {
            silent.push(TcpStream::connect(("127.0.0.1", port)).unwrap());
            // With the one that is served.
            has(&server, 1 + n.min(MOST)).await;
            let gone = n.saturating_sub(MOST);
            while told.lock().unwrap().len() < gone {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        good_client(&realm, port).await;
        ping(&mut reader, &writer).await;
        let expected: Vec<_> = silent.iter().map(|peer| peer.local_addr().unwrap()).take(13).collect();
        {
            let told = told.lock().unwrap();
            assert_eq!(told.iter().map(|(peer, ..)| *peer).collect::<Vec<_>>(), expected, "the oldest first");
            for (peer, failure, _) in &*told {
                assert_eq!(
                    (failure.tls(), failure.class()),
                    (Some(TlsFault::Overloaded), ErrorClass::Limit),
                    "{peer}"
                );
                assert!(failure.to_string().contains('8'), "{failure}");
            }
        }
        drop((silent, reader, writer));
        has(&server, 0).await;
        server.close();
        server.wait_closed().await;
    });
}

type WriteFn = fn(&StreamWriter, &[u8]) -> Result<(), WriteError>;

const WRITES: [WriteFn; 3] = [
    |writer, message| writer.write(message),
    |writer, message| writer.write_bytes(message.to_vec()),
    |writer, message| writer.write_lines(&[&message[..1], b"", &message[1..]]),
];

#[test]
fn t7_ciphertext_that_nobody_reads_counts_toward_the_watermarks() {
    run_paused(async {
        const MESSAGE: usize = 10_000;
        let realm = Realm::new();
        for (side, version) in every_side() {
            for write in WRITES {
                let ((_reader, writer), mut bare) = realm.connected(side, version, pair()).await;
                let (high, low) = (writer.watermarks().high(), writer.watermarks().low());
                let mut written = 0;
                while timeout(Duration::from_secs(1), writer.drain()).await.is_ok() {
                    assert!(writer.stats().queued <= high, "drain did not wait");
                    write(&writer, &[b'x'; MESSAGE]).unwrap();
                    written += MESSAGE;
                }
                let stats = writer.stats();
                assert!(high < stats.queued && stats.peak_queued <= high + MESSAGE, "{stats:?}");
                // What was encrypted and has not left is still queued.
                assert!(stats.queued + usize::try_from(stats.bytes_written).unwrap() >= written, "{stats:?}");

                let mut drain = pin!(writer.drain());
                let mut read = 0;
                loop {
                    let ready = tokio::select! {
                        biased;
                        result = &mut drain => Some(result),
                        () = async {} => None,
                    };
                    let queued = writer.stats().queued;
                    match ready {
                        Some(result) => break result.unwrap(),
                        None => assert!(queued > low, "drain waits with {queued} bytes queued"),
                    }
                    read += bare.receive().await.unwrap().unwrap().len();
                    tokio::task::yield_now().await;
                }
                assert!(writer.stats().queued <= low, "{:?}", writer.stats());
                writer.close();
                read += bare.receive_all().await.0.len();
                assert_eq!(read, written, "{side:?}, {version}");
                writer.wait_closed().await.unwrap();
            }
        }
    });
}

#[test]
fn t7_the_hard_cap_holds_over_tls_and_what_was_taken_arrives() {
    run_paused(async {
        const MESSAGE: usize = 10_000;
        const CAP: usize = 150_000;
        let realm = Realm::new();
        for (side, version) in every_side() {
            for write in WRITES {
                let pairs = pair_with(&ConnectOptions::new().hard_cap(CAP)).unwrap();
                let ((_reader, writer), mut bare) = realm.connected(side, version, pairs).await;
                let mut written = 0;
                let full = loop {
                    match write(&writer, &[b'x'; MESSAGE]) {
                        Ok(()) => written += MESSAGE,
                        Err(full) => break full,
                    }
                };
                let queued = writer.stats().queued;
                assert_eq!(full, WriteError::Full { len: MESSAGE, queued, hard_cap: CAP });
                assert!(writer.stats().peak_queued <= CAP && queued + MESSAGE > CAP, "{:?}", writer.stats());
                writer.close();
                let (arrived, error) = bare.receive_all().await;
                assert_eq!((arrived.len(), error), (written, None), "{side:?}, {version}");
                writer.wait_closed().await.unwrap();
            }
        }
    });
}

#[test]
fn t7_a_close_to_a_peer_that_reads_nothing_ends_at_its_deadline_and_says_what_was_not_sent() {
    run_paused(async {
        let realm = Realm::new();
        for (side, version) in every_side() {
            for seconds in [1, 7] {
                let deadline = Duration::from_secs(seconds);
                let pairs = pair_with(&ConnectOptions::new().close_deadline(deadline)).unwrap();
                let ((_reader, writer), bare) = realm.connected(side, version, pairs).await;
                writer.write(&vec![b'x'; 1_000_000]).unwrap();
                let begin = tokio::time::Instant::now();
                writer.close();
                let closed = writer.wait_closed().await;
                let took = begin.elapsed();
                assert!(deadline <= took && took < deadline + Duration::from_millis(10), "{took:?}");
                let Err(CloseError::Deadline { unsent }) = closed else { panic!("{closed:?}") };
                // What was encrypted together and left in part is counted whole.
                let sent = 1_000_000_usize.checked_sub(unsent).expect("no more than was written");
                assert!(sent <= 64 * 1024, "{side:?}, {version}: {unsent}");
                drop(bare);
            }
        }
    });
}

#[test]
fn t7_a_close_notify_that_is_never_answered_delays_a_close_by_a_second() {
    run(async {
        let realm = Realm::new();
        let closes = every_side().map(|(side, version)| {
            let realm = &realm;
            async move {
                let ((_reader, writer), mut bare) = realm.connected(side, version, tcp_pairs()).await;
                writer.write(b"the last words").unwrap();
                writer.close();
                let begin = Instant::now();
                timeout(Duration::from_secs(5), writer.wait_closed())
                    .await
                    .expect("a bounded close")
                    .unwrap();
                assert!(begin.elapsed() > Duration::from_millis(500), "the peer was given no time");
                assert_eq!(bare.receive_all().await, (b"the last words".to_vec(), None));
                assert!(bare.tls.process_new_packets().unwrap().peer_has_closed(), "no close_notify");
            }
        });
        all(closes.collect()).await;
    });
}

#[test]
fn t7_a_peer_that_talks_on_and_never_closes_ends_with_the_close_deadline() {
    run(async {
        let realm = Realm::new();
        let closes = every_side().map(|(side, version)| {
            let realm = &realm;
            async move {
                let deadline = Duration::from_millis(1500);
                let (tested, raw) = tcp_pair(&ConnectOptions::new().close_deadline(deadline));
                let raw = ConnectOptions::new().adopt_tcp(raw).unwrap();
                let ((_reader, writer), mut bare) = realm.connected(side, version, (tested, raw)).await;
                writer.write(b"the last words").unwrap();
                writer.close();
                let begin = Instant::now();
                let talk = async {
                    loop {
                        let more = bare.seal(b"and another thing");
                        bare.send(&more);
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                };
                let closed = tokio::select! {
                    closed = timeout(4 * deadline, writer.wait_closed()) => closed.expect("a bounded close"),
                    () = talk => unreachable!(),
                };
                assert_eq!(closed, Ok(()));
                assert!(begin.elapsed() >= deadline, "{side:?}, {version}: {:?}", begin.elapsed());
            }
        });
        all(closes.collect()).await;
    });
}

/// Runs them beside each other.
async fn all(futures: Vec<impl Future<Output = ()>>) {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        futures.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if futures.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await
}
