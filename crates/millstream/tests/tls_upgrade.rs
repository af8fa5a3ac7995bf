//! `start_tls` on a live connection: what was written before leaves first in plaintext, what is written meanwhile is
//! encrypted, and one that is given up leaves nothing behind.
//!
//! Bad calls are in `tls_upgrade_calls.rs`, injected plaintext (T1) and failed upgrades (T8) in `tls_upgrade_faults.rs`.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "clippy does not count helpers as tests")]

mod support;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use millstream::testing::{pair, pair_with_capacity};
use millstream::tls::{TlsFault, TlsVersion};
use millstream::{ErrorClass, WriteError, from_io};
use support::tls::{HOST, Realm, SIDES, VERSIONS, all_of, dead, end, every_side, transports};
use support::tls_path::records;
use support::{run, run_on_threads, run_paused};
use tokio::time::timeout;

/// Polls once.
fn begins<F: Future>(future: std::pin::Pin<&mut F>) -> bool {
    future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

#[test]
fn both_sides_upgrade_over_every_transport_and_go_on_talking() {
    run(async {
        let realm = Realm::new();
        for version in VERSIONS {
            for (name, (mut reader, writer), (mut peer_reader, peer_writer)) in transports() {
                let context = format!("{name}, {version}");
                let client = async {
                    writer.write(b"STARTTLS\r\n").unwrap();
                    assert_eq!(reader.read_line().await.unwrap().unwrap(), "220 ready\r\n", "{context}");
                    assert_eq!(writer.tls_info(), None);
                    writer.start_tls(&mut reader, &realm.client(version)).await.unwrap();
                    assert_eq!(writer.tls_info().unwrap().version, version, "{context}");
                    writer.write(&[b'q'; 100_000]).unwrap();
                    writer.write(b"\n").unwrap();
                    assert_eq!(reader.read_line().await.unwrap().unwrap(), "answer\n", "{context}");
                    writer.close();
                    assert_eq!(writer.wait_closed().await, Ok(()), "{context}");
                };
                let server = async {
                    assert_eq!(peer_reader.read_line().await.unwrap().unwrap(), "STARTTLS\r\n", "{context}");
                    peer_writer.write(b"220 ready\r\n").unwrap();
                    peer_writer.start_tls(&mut peer_reader, &realm.server(version)).await.unwrap();
                    assert_eq!(peer_writer.tls_info().unwrap().server_name.as_deref(), Some(HOST));
                    let question = peer_reader.read_exactly(100_001).await.unwrap();
                    assert!(
                        question[..100_000].iter().all(|&byte| byte == b'q') && question[100_000] == b'\n'
                    );
                    peer_writer.write(b"answer\n").unwrap();
                    assert_eq!(peer_reader.read_to_end(1).await.unwrap(), "", "{context}");
                    peer_writer.close();
                    assert_eq!(peer_writer.wait_closed().await, Ok(()), "{context}");
                };
                tokio::join!(client, server);
            }
        }
    });
}

#[test]
fn what_was_written_before_leaves_first_in_plaintext_and_what_is_written_meanwhile_is_encrypted() {
    run_paused(async {
        let realm = Realm::new();
        for (side, version) in every_side() {
            // The first does not leave at once; the peer takes little at a time.
            let big = [b'x'; 100_000];
            for (before, adopted) in
                [(&b""[..], false), (b"220 ready\r\n", false), (&big, false), (&big, true)]
            {
                let ((mut reader, writer), (raw_reader, raw_writer)) = if adopted {
                    let (one, other) = tokio::io::duplex(4096);
                    (from_io(one), from_io(other))
                } else {
                    pair_with_capacity(4096)
                };
                writer.write(before).unwrap();
                {
                    let mut upgrade = pin!(realm.start(side, version, &mut reader, &writer));
                    assert!(begins(upgrade.as_mut()));
                    writer.write(b"secret, corked").unwrap();
                    writer.write(&vec![b's'; 20_000]).unwrap();
                    writer.write_bytes(vec![b's'; 20_000]).unwrap();
                    writer.write_lines(&["secret", "secret"]).unwrap();
                    writer.cork(false);
                    writer.write(b"secret, uncorked").unwrap();
                    writer.flush().unwrap();
                    let wire = tokio::spawn(all_of(raw_reader));
                    tokio::select! {
                        result = &mut upgrade => panic!("without a peer: {result:?}"),
                        () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    }
                    raw_writer.write_eof().unwrap();
                    let error = upgrade.await.unwrap_err();
                    assert_eq!(error.fault(), Some(TlsFault::EndedInHandshake), "{error}");
                    let wire = wire.await.unwrap();
                    assert!(wire.starts_with(before), "{side:?}, {version}: {} bytes", before.len());
                    let sealed = records(&wire[before.len()..]);
                    let behind = &wire[before.len()..];
                    assert!(sealed.is_some(), "in plaintext: {}", behind[..20].escape_ascii());
                }
                dead(&mut reader, &writer).await;
            }
        }
    });
}

#[test]
fn nothing_that_is_written_during_an_upgrade_is_lost_or_reordered() {
    run_on_threads(async {
        let realm = Realm::new();
        for version in VERSIONS {
            for (name, (mut reader, writer), (mut peer_reader, peer_writer)) in transports() {
                const LINES: usize = 2000;
                let (client, server) = (realm.client(version), realm.server(version));
                let writes = async {
                    for n in 0..LINES {
                        writer.write(format!("line {n}\n").as_bytes()).unwrap();
                        tokio::task::yield_now().await;
                    }
                };
                let upgrades = async {
                    writer.start_tls(&mut reader, &client).await.unwrap();
                    assert_eq!(reader.read_line().await.unwrap().unwrap(), "written meanwhile\n", "{name}");
                };
                let reads = async {
                    let upgrade = peer_writer.start_tls(&mut peer_reader, &server);
                    let (result, written) =
                        tokio::join!(upgrade, async { peer_writer.write(b"written meanwhile\n") });
                    result.unwrap();
                    written.unwrap();
                    for n in 0..LINES {
                        let line = peer_reader.read_line().await.unwrap().unwrap();
                        assert_eq!(line, format!("line {n}\n"), "{name}, {version}");
                    }
                };
                // The upgrade first: all that is written comes after its call.
                tokio::join!(biased; upgrades, writes, reads);
                end((reader, writer), (peer_reader, peer_writer)).await;
            }
        }
    });
}

#[test]
fn an_end_that_is_written_during_an_upgrade_comes_after_it_and_after_what_was_written() {
    run_paused(async {
        let realm = Realm::new();
        let ((mut reader, writer), (mut peer_reader, peer_writer)) = pair();
        let (client, server) = (realm.client(TlsVersion::V1_3), realm.server(TlsVersion::V1_3));
        let asks = async {
            {
                let mut upgrade = pin!(writer.start_tls(&mut reader, &client));
                assert!(begins(upgrade.as_mut()));
                writer.write(b"question").unwrap();
                writer.write_eof().unwrap();
                assert_eq!(writer.write(b"more"), Err(WriteError::AfterEof));
                upgrade.await.unwrap();
            }
            assert_eq!(reader.read_to_end(100).await.unwrap(), "answer");
        };
        let answers = async {
            peer_writer.start_tls(&mut peer_reader, &server).await.unwrap();
            assert_eq!(peer_reader.read_to_end(100).await.unwrap(), "question");
            peer_writer.write(b"answer").unwrap();
            peer_writer.close();
            peer_writer.wait_closed().await.unwrap();
        };
        tokio::join!(asks, answers);
    });
}

#[test]
fn closing_or_aborting_during_an_upgrade_ends_it_and_loses_what_was_written_with_an_error() {
    run_paused(async {
        let realm = Realm::new();
        for (side, version) in every_side() {
            for aborts in [false, true] {
                let ((mut reader, writer), (raw_reader, _raw_writer)) = pair();
                {
                    let mut upgrade = pin!(realm.start(side, version, &mut reader, &writer));
                    assert!(begins(upgrade.as_mut()));
                    writer.write(b"secret").unwrap();
                    if aborts {
                        writer.abort()
                    } else {
                        writer.close()
                    }
                    let error = upgrade.await.unwrap_err();
                    let fault = (!aborts).then_some(TlsFault::Cancelled);
                    assert_eq!((error.fault(), error.class()), (fault, ErrorClass::ClosedByUs), "{error}");
                }
                // Whoever aborts expects a loss.
                let closed = writer.wait_closed().await;
                assert_eq!(closed.is_ok(), aborts, "{closed:?}: a message was lost");
                assert!(writer.write(b"secret").is_err() && reader.read(1).await.is_err());
                assert!(records(&all_of(raw_reader).await).is_some(), "plaintext on the wire");
            }
        }
    });
}

#[test]
fn an_upgrade_that_is_dropped_leaves_nothing_readable_or_writable() {
    run(async {
        let realm = Realm::new();
        for side in SIDES {
            for is_begun in [false, true] {
                for (name, (mut reader, writer), (raw_reader, raw_writer)) in transports() {
                    let context = format!("{side:?} over {name}, begun: {is_begun}");
                    raw_writer.write(b"STARTTLS\n").unwrap();
                    raw_writer.flush().unwrap();
                    assert_eq!(reader.read_line().await.unwrap().unwrap(), "STARTTLS\n");
                    let wire = tokio::spawn(all_of(raw_reader));
                    let upgrade = realm.start(side, TlsVersion::V1_3, &mut reader, &writer);
                    if !is_begun {
                        // As long as it was never polled, nothing was done.
                        drop(upgrade);
                        writer.write(b"454 not today\n").unwrap();
                        writer.close();
                        assert_eq!(wire.await.unwrap(), b"454 not today\n", "{context}");
                        continue;
                    }
                    assert!(timeout(Duration::from_millis(2), upgrade).await.is_err(), "{context}");
                    // These come too late to be of any use.
                    let _ = raw_writer.write(b"EVIL\n").is_ok() && raw_writer.flush().is_ok();
                    assert_eq!(dead(&mut reader, &writer).await, Some(TlsFault::Cancelled), "{context}");
                    assert!(records(&wire.await.unwrap()).is_some(), "{context}: plaintext on the wire");
                }
            }
        }
    });
}
