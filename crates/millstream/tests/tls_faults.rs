//! Row T2 of the fault table: however the path between two sides of TLS cuts their bytes, nothing is lost.
//!
//! Changed bytes (T3) are in `tls_damage.rs`, ends and silence (T4 to T7) in `tls_ends.rs` and `tls_stalls.rs`, upgrades
//! (T1 and T8) in `tls_upgrade.rs`.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "clippy does not count helpers as tests")]

mod support;

use millstream::testing::pair;
use millstream::tls::{TlsClient, TlsServer};
use support::tls::{HOST, Realm, Side, VERSIONS, every_side};
use support::tls_path::{HANDSHAKE, Lane, path, record, records};
use support::{run, run_paused};

/// A client that upgrades without waiting for an answer, so that its ClientHello comes right behind its line, and a server
/// that answers over TLS. Returns what went into each lane of the path.
async fn upgrade_and_talk(client: &TlsClient, server: &TlsServer, lane: Lane) -> [Vec<u8>; 2] {
    let (client_end, server_end, path) = path([lane; 2]);
    let asks = async {
        let (mut reader, writer) = client_end;
        writer.write(b"STARTTLS\r\n").unwrap();
        writer.start_tls(&mut reader, client).await.unwrap();
        writer.write(b"question\n").unwrap();
        assert_eq!(reader.read_line().await.unwrap().unwrap(), "answer\n");
        writer.close();
        writer.wait_closed().await.unwrap();
    };
    let answers = async {
        let (mut reader, writer) = server_end;
        assert_eq!(reader.read_line().await.unwrap().unwrap(), "STARTTLS\r\n");
        writer.start_tls(&mut reader, server).await.unwrap();
        assert_eq!(reader.read_line().await.unwrap().unwrap(), "question\n");
        writer.write(b"answer\n").unwrap();
        assert_eq!(reader.read_line().await.unwrap(), None, "a clean end");
        writer.close();
        writer.wait_closed().await.unwrap();
    };
    tokio::join!(asks, answers);
    path.await.unwrap()
}

#[test]
fn t2_a_conversation_cut_at_every_byte_succeeds_and_loses_nothing() {
    run_paused(async {
        let realm = Realm::new();
        for version in VERSIONS {
            let (client, server) = (realm.client(version), realm.server(version));
            let [there, back] = upgrade_and_talk(&client, &server, Lane::default()).await;
            // Signatures differ by a byte or two in length.
            for cut in 1..there.len().max(back.len()) + 4 {
                upgrade_and_talk(&client, &server, Lane { cut: Some(cut), ..Lane::default() }).await;
            }
        }
    });
}

#[test]
fn t2_a_conversation_in_segments_of_one_byte_succeeds_and_loses_nothing() {
    run_paused(async {
        let realm = Realm::new();
        for version in VERSIONS {
            let lane = Lane { crumbs: true, ..Lane::default() };
            upgrade_and_talk(&realm.client(version), &realm.server(version), lane).await;
        }
    });
}

#[test]
fn t2_a_conversation_in_the_smallest_records_succeeds_and_loses_nothing() {
    run_paused(async {
        let realm = Realm::new();
        for version in VERSIONS {
            let (mut client, mut server) = (realm.client_config(version), realm.server_config(version));
            client.max_fragment_size = Some(32);
            server.max_fragment_size = Some(32);
            let client = TlsClient::from_config(client).server_name(HOST).unwrap();
            let server = TlsServer::from_config(server);
            for crumbs in [false, true] {
                let lane = Lane { crumbs, ..Lane::default() };
                let [there, back] = upgrade_and_talk(&client, &server, lane).await;
                assert!(records(&there[10..]).unwrap().len() > 10, "the ClientHello was not fragmented");
                assert!(records(&back).unwrap().len() > 20, "the certificate was not fragmented");
            }
        }
    });
}

/// The same handshake messages, in records of one byte each as far as they are not encrypted.
fn fragmented(flight: &[u8]) -> Vec<u8> {
    let mut fragments = Vec::new();
    let mut plain = true;
    for (kind, range) in records(flight).unwrap() {
        plain &= kind == HANDSHAKE;
        match plain {
            true => flight[range][5..].iter().for_each(|&byte| fragments.extend(record(HANDSHAKE, &[byte]))),
            false => fragments.extend_from_slice(&flight[range]),
        }
    }
    fragments
}

#[test]
fn t2_handshake_messages_in_records_of_one_byte_are_put_together() {
    run(async {
        let realm = Realm::new();
        for (side, version) in every_side() {
            let ((mut reader, writer), raw) = pair();
            let mut bare = realm.bare_peer_of(side, version, raw);
            let fragments = async {
                if side == Side::Client {
                    bare.receive().await.unwrap();
                }
                let flight = fragmented(&bare.ciphertext());
                assert!(flight.len() > 500, "{side:?}, {version:?}: {} bytes", flight.len());
                bare.send(&flight);
                bare.handshake().await;
                bare
            };
            let (result, mut bare) =
                tokio::join!(realm.start(side, version, &mut reader, &writer), fragments);
            result.unwrap();
            let message = bare.seal(b"whole\n");
            bare.send(&message);
            assert_eq!(reader.read_line().await.unwrap().unwrap(), "whole\n", "{side:?}, {version:?}");
        }
    });
}
