//! Row T5 of the fault table: a transport that ends or breaks before the handshake is over is an error at once, and nothing
//! is readable. The sweep over every byte of a conversation covers T6 as well, whose other tests are in
//! `tls_truncation.rs`.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "clippy does not count helpers as tests")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use millstream::tls::{DEFAULT_HANDSHAKE_TIMEOUT, TlsFault, TlsVersion};
use millstream::{ErrorClass, ServerOptions, StreamReader, StreamWriter};
use support::tls::{Realm, Side, counting_polls, dead, every_side, read_failure, tcp_pairs};
use support::tls_path::{ALERT, HANDSHAKE, Lane, path, record};
use support::{run, run_paused};

/// What a peer does instead of a handshake.
type Ending = (&'static str, fn(&StreamWriter), TlsFault);

const ENDINGS: [Ending; 7] = [
    ("an end", |peer| peer.write_eof().unwrap(), TlsFault::EndedInHandshake),
    ("a reset", StreamWriter::abort, TlsFault::EndedInHandshake),
    (
        "plaintext and an end",
        |peer| {
            send(peer, b"DELETE everything\r\n");
            peer.write_eof().unwrap();
        },
        TlsFault::NotTls,
    ),
    (
        "plaintext and a reset",
        |peer| {
            send(peer, b"DELETE everything\r\n");
            peer.abort();
        },
        TlsFault::NotTls,
    ),
    ("a close_notify", |peer| send(peer, &record(ALERT, &[1, 0])), TlsFault::EndedInHandshake),
    (
        "a close_notify and an end",
        |peer| {
            send(peer, &record(ALERT, &[1, 0]));
            peer.write_eof().unwrap();
        },
        TlsFault::EndedInHandshake,
    ),
    (
        "half a record and an end",
        |peer| {
            send(peer, &record(HANDSHAKE, &[1; 100])[..50]);
            peer.write_eof().unwrap();
        },
        TlsFault::EndedInHandshake,
    ),
];

fn send(peer: &StreamWriter, bytes: &[u8]) {
    peer.write(bytes).unwrap();
    peer.flush().unwrap();
}

#[test]
fn t5_whatever_ends_a_handshake_is_an_error_at_once_and_nothing_is_readable() {
    run(async {
        let realm = Realm::new();
        for (side, version) in every_side() {
            for (name, end, fault) in ENDINGS {
                for waits in [false, true] {
                    let context = format!("{name}, {side:?}, {version}, under way: {waits}");
                    let ((mut reader, writer), (_raw_reader, raw_writer)) = tcp_pairs();
                    let begin = Instant::now();
                    let ending = async {
                        if waits {
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                        end(&raw_writer);
                    };
                    let handshake = counting_polls(realm.start(side, version, &mut reader, &writer));
                    let ((result, polls), ()) = tokio::join!(handshake, ending);
                    let error = result.unwrap_err();
                    assert_eq!(
                        (error.fault(), error.class()),
                        (Some(fault), ErrorClass::BrokenByPeer),
                        "{context}: {error}"
                    );
                    assert_eq!(dead(&mut reader, &writer).await, Some(fault), "{context}");
                    assert!(
                        begin.elapsed() < DEFAULT_HANDSHAKE_TIMEOUT / 4,
                        "{context}: {:?}",
                        begin.elapsed()
                    );
                    let reads = writer.stats().reads;
                    assert!(polls <= 10 && reads <= 10, "{context}: {polls} polls, {reads} reads");
                }
            }
        }
    });
}

#[test]
fn t5_a_server_is_told_once_of_each_ended_handshake_and_frees_it_at_once() {
    run(async {
        let realm = Realm::new();
        let told = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&told);
        let options = ServerOptions::new().tls(realm.server(TlsVersion::V1_3)).on_failure(move |failure| {
            counter.fetch_add(usize::from(failure.tls_handshake().is_some()), Ordering::Relaxed);
        });
        let called = Arc::new(AtomicUsize::new(0));
        let calls = Arc::clone(&called);
        let handler = move |_: StreamReader, _: StreamWriter| {
            calls.fetch_add(1, Ordering::Relaxed);
        };
        let server = options.start("127.0.0.1", 0, handler).await.unwrap();
        let port = server.sockets()[0].port().unwrap();
        let begin = Instant::now();
        for (_, end, _) in ENDINGS {
            let (_reader, writer) = millstream::open_connection("127.0.0.1", port).await.unwrap();
            let before = told.load(Ordering::Relaxed);
            end(&writer);
            while told.load(Ordering::Relaxed) == before || server.connections() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        assert!(begin.elapsed() < DEFAULT_HANDSHAKE_TIMEOUT / 2, "{:?}", begin.elapsed());
        server.close();
        server.wait_closed().await;
        assert_eq!(told.load(Ordering::Relaxed), ENDINGS.len());
        assert_eq!(called.load(Ordering::Relaxed), 0, "a handler without a handshake");
    });
}

const MESSAGES: [&[u8]; 3] = [b"first\n", b"the second, which is longer\n", b"third\n"];

#[test]
fn t5_t6_a_transport_cut_at_any_byte_is_an_error_at_once_and_never_an_end() {
    run_paused(async {
        let realm = Realm::new();
        for (listens, version) in every_side() {
            let len = hear_until_cut(&realm, listens, version, None).await.unwrap();
            for end in 0..len {
                let heard = hear_until_cut(&realm, listens, version, Some(end)).await;
                // Signatures differ by a byte or two in length.
                assert!(
                    heard.is_none_or(|shorter| shorter <= end),
                    "{listens:?}, {version}: {heard:?} of {end}"
                );
            }
        }
    });
}

/// One side says its messages and closes; the other hears them, until the path to it ends. Returns the length of what was
/// sent, if all of it arrived.
async fn hear_until_cut(
    realm: &Realm,
    listens: Side,
    version: TlsVersion,
    end: Option<usize>,
) -> Option<usize> {
    let lane = usize::from(listens == Side::Client);
    let mut lanes = [Lane::default(); 2];
    lanes[lane].end = end;
    let (client, server, path) = path(lanes);
    let (mut hearer, sayer, says) = match listens {
        Side::Client => (client, server, Side::Server),
        Side::Server => (server, client, Side::Client),
    };
    let saying = async {
        let (mut reader, writer) = sayer;
        if realm.start(says, version, &mut reader, &writer).await.is_ok() {
            for message in MESSAGES {
                let _ = (writer.write(message), writer.flush());
            }
            writer.close();
            let _ = writer.wait_closed().await;
        }
    };
    let begin = tokio::time::Instant::now();
    let hearing = async {
        let (reader, writer) = &mut hearer;
        if let Err(error) = realm.start(listens, version, reader, writer).await {
            assert_eq!(error.fault(), Some(TlsFault::EndedInHandshake), "{end:?}");
            assert_eq!(dead(reader, writer).await, error.fault());
            return false;
        }
        let mut got = Vec::new();
        let is_end = loop {
            match reader.read(usize::MAX).await {
                Ok(bytes) if bytes.is_empty() => break true,
                Ok(bytes) => got.extend(bytes),
                Err(_) => break false,
            }
        };
        assert!(begin.elapsed() < Duration::from_secs(1), "{end:?}: {:?}", begin.elapsed());
        if is_end {
            assert_eq!(got, MESSAGES.concat(), "{end:?}");
        } else {
            assert!((0..=3).any(|n| got == MESSAGES[..n].concat()), "{end:?}: part of a record");
            assert_eq!(read_failure(reader).await.tls(), Some(TlsFault::Truncated), "{end:?}");
        }
        is_end
    };
    let ((), is_end) = tokio::join!(saying, hearing);
    drop(hearer);
    let sent = path.await.unwrap();
    is_end.then_some(sent[lane].len())
}
