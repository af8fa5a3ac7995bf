//! Row X1 over TLS: reads, drains, flushes, closes, handshakes and connects that are given up at any moment. The wait of a
//! handshake cannot be given up and gone on with; everything else can, and loses no byte.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "clippy does not count helpers as tests")]

mod cancelling;
mod support;

use std::task::Poll;

use cancelling::reads::{self, INPUT, KINDS, Kind};
use cancelling::{drop_after, poll_once, poll_times};
use millstream::testing::{Pair, pair, pair_with_capacity};
use millstream::tls::{TlsError, TlsFault, TlsVersion};
use millstream::{
    CloseError, ConnectOptions, ErrorClass, ReadError, ServerOptions, StreamReader, StreamWriter, WriteError,
};
use support::tls::{HOST, Realm, VERSIONS};
use support::{echo, ping};
use tokio::io::AsyncWriteExt;

/// Does the handshake on both ends.
async fn secured(realm: &Realm, version: TlsVersion, mut pairs: (Pair, Pair)) -> (Pair, Pair) {
    let ((reader, writer), (peer_reader, peer_writer)) = &mut pairs;
    let (client, server) = (realm.client(version), realm.server(version));
    let both = tokio::join!(writer.start_tls(reader, &client), peer_writer.start_tls(peer_reader, &server));
    assert_eq!(both, (Ok(()), Ok(())));
    pairs
}

#[test]
fn x1_every_read_over_tls_can_be_dropped_after_any_poll() {
    support::run(async {
        let realm = Realm::new();
        let mut cancelled = 0;
        for version in VERSIONS {
            for first in KINDS {
                // What goes on in its place; every pair of kinds is tried without TLS.
                for then in [Kind::Read, Kind::UntilAny, Kind::ToEnd] {
                    let mut k = 0;
                    while !reads::completes(first, then, k, secured(&realm, version, pair()).await).await {
                        k += 1;
                        assert!(k <= INPUT.len() + 2, "{first:?} never completes");
                    }
                    assert!(k >= 2, "{first:?} was never left waiting");
                    cancelled += k;
                }
            }
        }
        println!("{cancelled} cancelled reads");
        assert!(cancelled >= 500, "only {cancelled} cancellations");
    });
}

#[test]
fn x1_a_hundred_thousand_cancelled_reads_over_tls_lose_no_byte() {
    support::run(async {
        let realm = Realm::new();
        let (mut cancelled, mut passed) = (0, 0);
        for (version, seed) in VERSIONS.into_iter().zip([0x715_5eed, support::fresh_seed()]) {
            println!("seed {seed:#x}");
            let (reads, bytes) = reads::random_run(seed, 50_000, secured(&realm, version, pair()).await);
            cancelled += reads;
            passed += bytes;
        }
        println!("{cancelled} cancelled reads, {passed} bytes");
        assert!(cancelled >= 100_000 && passed > 100_000, "{cancelled} reads, {passed} bytes");
    });
}

#[test]
fn x1_a_select_with_a_timer_loses_no_byte_over_tls_in_memory() {
    support::run_paused(async {
        let realm = Realm::new();
        for version in VERSIONS {
            let pairs = secured(&realm, version, pair_with_capacity(64)).await;
            let ((reader, _writer), (_reader, writer)) = pairs;
            reads::give_up_and_go_on(reader, writer, 1000).await;
        }
    });
}

#[test]
fn x1_a_select_with_a_timer_loses_no_byte_over_tls_and_tcp() {
    support::run_on_threads(async {
        let realm = Realm::new();
        let options = ConnectOptions::new();
        let (tested, peer) = support::tcp_pair(&options);
        let pairs = (tested, options.adopt_tcp(peer).unwrap());
        let ((reader, _writer), (_reader, writer)) = secured(&realm, TlsVersion::V1_3, pairs).await;
        reads::give_up_and_go_on(reader, writer, 300).await;
    });
}

const FIRST: &[u8] = b"the first message, ";
const SECOND: &[u8] = b"the second one";

/// What is dropped while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Drain,
    Flush,
    Shutdown,
    Close,
}

async fn perform(wait: Wait, writer: &mut StreamWriter) {
    match wait {
        Wait::Drain => writer.drain().await.unwrap(),
        Wait::Flush => AsyncWriteExt::flush(writer).await.unwrap(),
        Wait::Shutdown => writer.shutdown().await.unwrap(),
        Wait::Close => {
            writer.close();
            writer.wait_closed().await.unwrap();
        }
    }
}

/// Cancels `wait` after `k` polls while the transport takes three bytes of ciphertext after each. Returns whether it
/// completed instead.
async fn completes(wait: Wait, k: usize, pairs: (Pair, Pair)) -> bool {
    let ((_reader, mut writer), (mut peer, _writer)) = pairs;
    writer.set_watermarks(4, 1).unwrap();
    writer.write(FIRST).unwrap();
    let mut received = Vec::new();
    let done = poll_times(k, perform(wait, &mut writer), async || {
        // A read that is dropped has taken what the transport held, and waits for the rest of the record.
        if let Poll::Ready(bytes) = poll_once(&mut Box::pin(peer.read(100))).await {
            received.extend_from_slice(&bytes.unwrap());
        }
        // The driver's turn, to send the next bytes.
        tokio::task::yield_now().await;
    })
    .await
    .is_some();
    let mut expected = FIRST.to_vec();
    // Shutting down and closing are done by their first poll; only waiting for them was cancelled.
    if k == 0 || !matches!(wait, Wait::Shutdown | Wait::Close) {
        writer.write(SECOND).unwrap();
        expected.extend_from_slice(SECOND);
    } else {
        assert!(writer.write(SECOND).is_err());
    }
    writer.close();
    received.extend_from_slice(&peer.read_to_end(100).await.unwrap());
    writer.wait_closed().await.unwrap();
    assert_eq!(received.escape_ascii().to_string(), expected.escape_ascii().to_string(), "{wait:?}, {k}");
    done
}

#[test]
fn x1_every_wait_of_a_writer_over_tls_can_be_dropped_after_any_poll_and_no_message_is_cut() {
    support::run(async {
        let realm = Realm::new();
        for version in VERSIONS {
            for wait in [Wait::Drain, Wait::Flush, Wait::Shutdown, Wait::Close] {
                let mut k = 0;
                while !completes(wait, k, secured(&realm, version, pair_with_capacity(3)).await).await {
                    k += 1;
                    assert!(k <= 100, "{wait:?} never completes");
                }
                println!("{version}, {wait:?}: dropped after 0 to {k} polls");
                assert!(k > 10, "{wait:?} was left waiting only {k} times");
            }
        }
    });
}

/// Neither half reads or writes any more, and both say why.
async fn check_given_up((mut reader, writer): Pair) {
    let Err(ReadError::Failed(failure)) = reader.read(1).await else { panic!("no failure") };
    assert_eq!(failure.tls(), Some(TlsFault::Cancelled), "{failure}");
    assert_eq!(failure.class(), ErrorClass::ClosedByUs);
    assert!(matches!(writer.write(b"x"), Err(WriteError::Failed(_))));
    assert!(matches!(writer.wait_closed().await, Err(CloseError::Failed(_))));
    assert_eq!(writer.stats().queued, 0);
}

/// Drops the handshake of one side after `k` polls. Returns whether it completed instead.
async fn upgrade_completes(realm: &Realm, version: TlsVersion, is_client: bool, k: usize) -> bool {
    let ((mut reader, writer), (mut peer_reader, peer_writer)) = pair_with_capacity(200);
    let (client, server) = (realm.client(version), realm.server(version));
    // What is written before goes in plaintext, what is written meanwhile is encrypted or lost, never sent as it is.
    writer.write(b"hi").unwrap();
    peer_writer.write(b"hi").unwrap();
    let dropped = async {
        assert_eq!(reader.read_exactly(2).await.unwrap(), "hi");
        let dropped = if is_client {
            drop_after(k, writer.start_tls(&mut reader, &client)).await
        } else {
            drop_after(k, writer.start_tls(&mut reader, &server)).await
        };
        let is_over = dropped.is_some();
        match dropped {
            Some(result) => result.unwrap(),
            // Not even begun: nothing has happened to the connection.
            None if k == 0 => writer.close(),
            None => check_given_up((reader, writer)).await,
        }
        is_over
    };
    let other = async {
        assert_eq!(peer_reader.read_exactly(2).await.unwrap(), "hi");
        let result = if is_client {
            peer_writer.start_tls(&mut peer_reader, &server).await
        } else {
            peer_writer.start_tls(&mut peer_reader, &client).await
        };
        let after = peer_reader.read(1).await;
        (result, after)
    };
    let (is_over, (result, after)) = tokio::join!(dropped, other);
    let context = format!("{version}, client: {is_client}, {k}: {result:?}, {after:?}");
    match (is_over, result) {
        // The halves were dropped with a close_notify.
        (true, Ok(())) => assert_eq!(after.unwrap(), "", "{context}"),
        // The other side may be done one flight before.
        (false, Ok(())) => assert!(after.is_err(), "{context}"),
        (_, Err(TlsError::Handshake { failure, .. })) => {
            assert!(!is_over, "{context}");
            assert_eq!(failure.class(), ErrorClass::BrokenByPeer, "{context}");
        }
        _ => panic!("{context}"),
    }
    is_over
}

#[test]
fn x1_an_upgrade_that_is_dropped_after_any_poll_ends_its_connection() {
    support::run(async {
        let realm = Realm::new();
        for version in VERSIONS {
            for is_client in [true, false] {
                let mut k = 0;
                while !upgrade_completes(&realm, version, is_client, k).await {
                    k += 1;
                    assert!(k < 200, "the handshake never completes");
                }
                println!("{version}, client: {is_client}: dropped after 0 to {k} polls");
                assert!(k >= 3, "it was left waiting only {k} times");
            }
        }
    });
}

#[test]
fn x1_connecting_over_tls_can_be_dropped_after_any_poll_and_leaves_nothing_behind() {
    support::run(async {
        let realm = Realm::new();
        for version in VERSIONS {
            let server = ServerOptions::new().tls(realm.server(version));
            let server = server.start("127.0.0.1", 0, echo).await.unwrap();
            let port = server.sockets()[0].port().unwrap();
            let options = ConnectOptions::new().tls(realm.client(version));
            for host in ["127.0.0.1", HOST] {
                let mut k = 0;
                let pair = loop {
                    if let Some(result) = drop_after(k, options.open(host, port)).await {
                        break result.unwrap();
                    }
                    k += 1;
                    assert!(k < 200, "connecting never completes");
                };
                println!("{version}, {host}: dropped after 0 to {k} polls");
                assert!(k >= 2);
                is_answered(pair).await;
            }
            // The server has got over all of them.
            is_answered(options.open(HOST, port).await.unwrap()).await;
            server.close();
            server.wait_closed().await;
        }
    });
}

async fn is_answered((mut reader, writer): (StreamReader, StreamWriter)) {
    ping(&mut reader, &writer).await;
    writer.close();
    writer.wait_closed().await.unwrap();
}
