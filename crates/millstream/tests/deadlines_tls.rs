//! Deadlines over TLS: a drip inside a record is one, what TLS itself sends is no item, and a silent peer is told the end.
#![cfg(feature = "tls")]

mod support;

use std::time::Duration;

use millstream::testing::{Pair, pair_between};
use millstream::tls::TlsVersion;
use millstream::{ConnectOptions, DeadlineKind, Deadlines, ReadExactlyError, ReadLineError};
use support::run_paused;
use support::tls::{BarePeer, Realm, VERSIONS};
use tokio::time::{Instant, sleep};

/// A server with these deadlines, and a client that does only what it is told, after their handshake.
async fn connected(deadlines: Deadlines, version: TlsVersion) -> (Pair, BarePeer) {
    let (realm, options) = (Realm::new(), ConnectOptions::new().deadlines(deadlines));
    let ((mut reader, writer), raw) = pair_between(&options, &ConnectOptions::new()).expect("valid");
    let mut peer = realm.bare_client(version, raw);
    let server = realm.server(version);
    let (begun, ()) = tokio::join!(writer.start_tls(&mut reader, &server), peer.handshake());
    begun.expect("a handshake");
    ((reader, writer), peer)
}

fn of_line(error: ReadLineError) -> Option<DeadlineKind> {
    let ReadLineError::Failed(failure) = error else { panic!("{error}") };
    failure.deadline()
}

#[test]
fn a_record_that_comes_byte_by_byte_is_an_item_that_has_begun() {
    for version in VERSIONS {
        run_paused(async {
            let ((mut reader, writer), mut peer) = connected(Deadlines::none().item(secs(10)), version).await;
            assert!(tokio::time::timeout(secs(100), reader.read_line()).await.is_err(), "nothing has begun");
            let record = peer.seal(b"a line\n");
            let dripping = tokio::spawn(async move {
                for byte in record {
                    peer.send(&[byte]);
                    sleep(secs(3)).await;
                }
                peer
            });
            let start = Instant::now();
            assert_eq!(of_line(reader.read_line().await.unwrap_err()), Some(DeadlineKind::Item));
            assert!(secs(10) <= start.elapsed() && start.elapsed() <= secs(13), "{:?}", start.elapsed());
            drop((reader, writer));
            dripping.await.unwrap();
        });
    }
}

#[test]
fn whole_records_with_parts_of_an_item_are_measured_by_the_item() {
    run_paused(async {
        let deadlines = Deadlines::none().item(secs(10)).receive_rate(100, secs(40));
        let ((mut reader, writer), mut peer) = connected(deadlines, TlsVersion::V1_3).await;
        let sending = tokio::spawn(async move {
            for part in [&b"one li"[..], b"ne\n", b"two lines\nand ", b"another\n", b"and then"] {
                let record = peer.seal(part);
                peer.send(&record);
                sleep(secs(7)).await;
            }
            peer
        });
        for line in ["one line\n", "two lines\n", "and another\n"] {
            assert_eq!(reader.read_line().await.unwrap().unwrap(), line);
        }
        let error = reader.read_line().await.unwrap_err();
        assert!(error.to_string().contains("no whole item within 10s: 8 bytes in 10.0s"), "{error}");
        assert_eq!(of_line(error), Some(DeadlineKind::Item));
        drop((reader, writer));
        sending.await.unwrap();
    });
}

#[test]
fn what_tls_says_for_itself_begins_no_item() {
    run_paused(async {
        let realm = Realm::new();
        let options = ConnectOptions::new().item_deadline(secs(10));
        let ((mut reader, writer), raw) = pair_between(&options, &ConnectOptions::new()).unwrap();
        let mut peer = realm.bare_server(TlsVersion::V1_3, raw);
        let client = realm.client(TlsVersion::V1_3);
        let (begun, ()) = tokio::join!(writer.start_tls(&mut reader, &client), peer.handshake());
        begun.unwrap();
        peer.tls.refresh_traffic_keys().unwrap();
        let mut update = peer.ciphertext();
        let rest = update.split_off(3);
        peer.send(&update);
        sleep(secs(1)).await;
        peer.send(&rest);
        assert!(
            tokio::time::timeout(secs(100), reader.read_line()).await.is_err(),
            "an idle client is left alone"
        );
        drop((reader, writer, peer));
    });
}

#[test]
fn a_drip_of_records_is_too_slow_for_a_rate() {
    run_paused(async {
        let ((mut reader, writer), mut peer) = connected(Deadlines::internet(), TlsVersion::V1_3).await;
        let dripping = tokio::spawn(async move {
            for _ in 0..20 {
                let record = peer.seal(b"x");
                peer.send(&record);
                sleep(secs(5)).await;
            }
            peer
        });
        let ReadExactlyError::Failed(failure) = reader.read_exactly(100).await.unwrap_err() else {
            panic!("not a failure");
        };
        assert_eq!(failure.deadline(), Some(DeadlineKind::ReceiveRate), "{failure}");
        drop((reader, writer));
        dripping.await.unwrap();
    });
}

#[test]
fn an_idle_peer_is_told_the_end_inside_of_tls() {
    for version in VERSIONS {
        run_paused(async {
            let ((mut reader, writer), mut peer) = connected(Deadlines::none().idle(secs(60)), version).await;
            writer.write(b"your last answer").unwrap();
            assert_eq!(of_line(reader.read_line().await.unwrap_err()), Some(DeadlineKind::Idle));
            let (all, error) = peer.receive_all().await;
            assert_eq!((all, error), (b"your last answer".to_vec(), None));
            let mut nothing = [0; 1];
            let end = std::io::Read::read(&mut peer.tls.reader(), &mut nothing);
            assert_eq!(end.unwrap(), 0, "a close_notify came before the end");
            drop((reader, writer));
        });
    }
}

#[test]
fn ciphertext_that_the_peer_does_not_take_is_a_stall() {
    run_paused(async {
        let ((reader, writer), peer) =
            connected(Deadlines::none().write_progress(secs(20)), TlsVersion::V1_3).await;
        writer.write(&vec![b'x'; 1 << 20]).unwrap();
        let start = Instant::now();
        let error = writer.drain().await.unwrap_err();
        assert!(error.to_string().contains("the peer took nothing within 20s: "), "{error}");
        assert!(secs(20) <= start.elapsed() && start.elapsed() <= secs(26), "{:?}", start.elapsed());
        drop((reader, peer));
    });
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
