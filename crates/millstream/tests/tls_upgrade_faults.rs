//! Rows T1 and T8 of the fault table: plaintext that someone slips in before an upgrade never reaches the caller, and a
//! connection whose upgrade failed neither reads nor writes, in plaintext least of all.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "clippy does not count helpers as tests")]

mod support;

use std::time::Duration;

use millstream::testing::pair;
use millstream::tls::{CertificateFault, TlsClient, TlsError, TlsFault, TlsServer, TlsVersion};
use millstream::{ErrorClass, StreamReader, StreamWriter};
use support::certificates::Authority;
use support::tls::{HOST, Realm, Side, VERSIONS, all_of, dead, every_side, transports};
use support::tls_path::{ALERT, CHANGE_CIPHER_SPEC, DATA, HANDSHAKE, record, records};
use support::{run, run_paused};

/// What someone slips in behind the last line of plaintext.
fn injections() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("a command", b"MAIL FROM:<evil>\r\n".to_vec()),
        ("one byte", b"E".to_vec()),
        ("a lot", b"EVIL\r\n".repeat(10_000)),
        ("a record of data", record(DATA, b"MAIL FROM:<evil>\r\n")),
        ("a record of the handshake", record(HANDSHAKE, b"MAIL FROM:<evil>\r\n")),
        ("half a record", record(DATA, b"MAIL FROM:<evil>\r\n")[..9].to_vec()),
        (
            "a change_cipher_spec and data",
            [record(CHANGE_CIPHER_SPEC, &[1]), record(DATA, b"EVIL\r\n")].concat(),
        ),
        ("a close_notify", record(ALERT, &[1, 0])),
        ("a close_notify and a command", [record(ALERT, &[1, 0]), b"EVIL\r\n".to_vec()].concat()),
        ("a fatal alert", record(ALERT, &[2, 40])),
    ]
}

#[test]
fn t1_plaintext_behind_the_last_line_never_reaches_the_caller_of_either_side() {
    run(async {
        let realm = Realm::new();
        for (side, version) in every_side() {
            for (name, evil) in injections() {
                for (transport, (mut reader, writer), (raw_reader, raw_writer)) in transports() {
                    let context = format!("{name} into {side:?}, {version}, over {transport}");
                    let line: &[u8] = if side == Side::Server { b"STARTTLS\r\n" } else { b"220 ready\r\n" };
                    let wire = tokio::spawn(all_of(raw_reader));
                    raw_writer.write(&[line, &evil].concat()).unwrap();
                    raw_writer.write_eof().unwrap();
                    assert_eq!(reader.read_line().await.unwrap().unwrap(), line, "{context}");
                    let error = realm.start(side, version, &mut reader, &writer).await.unwrap_err();
                    assert!(error.fault().is_some(), "{context}: {error}");
                    assert_eq!(dead(&mut reader, &writer).await, error.fault(), "{context}");
                    assert!(records(&wire.await.unwrap()).is_some(), "{context}: an answer in plaintext");
                }
            }
        }
    });
}

#[test]
fn t1_injected_plaintext_in_front_of_a_real_handshake_never_reaches_the_caller() {
    run(async {
        let realm = Realm::new();
        for version in VERSIONS {
            for (name, evil) in injections() {
                let context = format!("{name}, {version}");
                let ((mut reader, writer), raw) = pair();
                let mut bare = realm.bare_client(version, raw);
                let flight = [b"STARTTLS\r\n".to_vec(), evil, bare.ciphertext()].concat();
                bare.send(&flight);
                bare.send(b"EVIL\r\n");
                assert_eq!(reader.read_line().await.unwrap().unwrap(), "STARTTLS\r\n", "{context}");
                let error = writer.start_tls(&mut reader, &realm.server(version)).await.unwrap_err();
                assert_eq!(dead(&mut reader, &writer).await, error.fault(), "{context}");
                assert!(error.fault().is_some(), "{context}");
                assert!(bare.receive_all().await.0.is_empty());
            }
        }
    });
}

#[test]
fn t1_a_real_handshake_behind_the_last_line_is_taken_wherever_it_was_cut() {
    run(async {
        let realm = Realm::new();
        for version in VERSIONS {
            // How much of the flight comes in one piece with the line.
            for glued in [1, 5, 100, usize::MAX] {
                for (name, (mut reader, writer), raw) in transports() {
                    let mut bare = realm.bare_client(version, raw);
                    let hello = bare.ciphertext();
                    let (glued, later) = hello.split_at(glued.min(hello.len()));
                    bare.send(&[b"STARTTLS\r\n", glued].concat());
                    assert_eq!(reader.read_line().await.unwrap().unwrap(), "STARTTLS\r\n", "{name}");
                    reader.peek().await.unwrap();
                    let server = realm.server(version);
                    let handshake = async {
                        bare.send(later);
                        bare.handshake().await;
                        let message = bare.seal(b"secure\n");
                        bare.send(&message);
                    };
                    let (result, ()) = tokio::join!(writer.start_tls(&mut reader, &server), handshake);
                    result.unwrap();
                    assert_eq!(reader.read_line().await.unwrap().unwrap(), "secure\n", "{name}, {version}");
                }
            }
        }
    });
}

/// What a peer does to an upgrade, and what the tested side makes of it.
struct Refusal {
    name: &'static str,
    tested: Result<TlsClient, TlsServer>,
    peer: Peer,
    fault: TlsFault,
}

enum Peer {
    Client(TlsClient),
    Server(TlsServer),
    /// Sends this and waits.
    Says(Vec<u8>),
    /// Sends this and ends.
    Ends(Vec<u8>),
}

fn refusals(realm: &Realm, version: TlsVersion) -> Vec<Refusal> {
    let (client, server) = (realm.client(version), realm.server(version));
    let stranger = Authority::new("a stranger");
    let distrusts = TlsClient::builder().root_certificates(stranger.root()).build().unwrap();
    let elsewhere = client.clone().server_name("elsewhere.example").unwrap();
    let distrusts = distrusts.server_name(HOST).unwrap();
    let hurried = client.clone().handshake_timeout(Duration::from_secs(1));
    let refusal = |name, tested, peer, fault| Refusal { name, tested, peer, fault };
    let wrong = TlsFault::BadCertificate;
    let alert = |alert| TlsFault::Refused { alert };
    vec![
        refusal(
            "a stranger",
            Ok(distrusts.clone()),
            Peer::Server(server.clone()),
            wrong(CertificateFault::UnknownIssuer),
        ),
        refusal(
            "another host",
            Ok(elsewhere),
            Peer::Server(server.clone()),
            wrong(CertificateFault::WrongName),
        ),
        refusal("a distrustful client", Err(server.clone()), Peer::Client(distrusts), alert(48)),
        refusal("an alert", Ok(client.clone()), Peer::Says(record(ALERT, &[2, 40])), alert(40)),
        refusal("an alert", Err(server.clone()), Peer::Says(record(ALERT, &[2, 80])), alert(80)),
        refusal("a refusal", Ok(client.clone()), Peer::Says(b"454 not today\r\n".to_vec()), TlsFault::NotTls),
        refusal("a refusal", Ok(client.clone()), Peer::Ends(b"454 not today\r\n".to_vec()), TlsFault::NotTls),
        refusal("an end", Ok(client), Peer::Ends(Vec::new()), TlsFault::EndedInHandshake),
        refusal("an end", Err(server), Peer::Ends(Vec::new()), TlsFault::EndedInHandshake),
        refusal("silence", Ok(hurried), Peer::Says(Vec::new()), TlsFault::TimedOut),
    ]
}

#[test]
fn t8_after_a_refused_upgrade_no_byte_passes_in_plaintext_in_either_direction() {
    run(async {
        let realm = Realm::new();
        for version in VERSIONS {
            for Refusal { name, tested, peer, fault } in refusals(&realm, version) {
                let context = format!("{name}, {version}");
                // A path that records what the tested side sends.
                let ((mut reader, writer), (mut from_tested, to_tested)) = pair();
                let ((peer_reader, peer_writer), (mut from_peer, to_peer)) = pair();
                let there = tokio::spawn(async move {
                    let mut sent = Vec::new();
                    while let Ok(bytes) = from_tested.read(usize::MAX).await
                        && !bytes.is_empty()
                    {
                        sent.extend_from_slice(&bytes);
                        let _ = (to_peer.write(&bytes), to_peer.flush());
                    }
                    sent
                });
                let back = tokio::spawn(async move {
                    while let Ok(bytes) = from_peer.read(usize::MAX).await
                        && !bytes.is_empty()
                    {
                        let _ = (to_tested.write(&bytes), to_tested.flush());
                    }
                });
                writer.write(b"STARTTLS\r\n").unwrap();
                let upgrade = async {
                    match &tested {
                        Ok(client) => writer.start_tls(&mut reader, client).await,
                        Err(server) => writer.start_tls(&mut reader, server).await,
                    }
                };
                let written_meanwhile = async { writer.write(b"secret, written meanwhile").unwrap() };
                let (result, (), peer) =
                    tokio::join!(upgrade, written_meanwhile, play(peer, (peer_reader, peer_writer)));
                let error = result.unwrap_err();
                assert_eq!(error.fault(), Some(fault), "{context}: {error}");
                let class =
                    if fault == TlsFault::TimedOut { ErrorClass::Deadline } else { ErrorClass::BrokenByPeer };
                assert_eq!(error.class(), class, "{context}");
                assert!(matches!(error, TlsError::Handshake { .. } | TlsError::TimedOut { .. }));

                // The peer goes on in plaintext, as if nothing had happened.
                if let Some((_, peer_writer)) = &peer {
                    let _ = (peer_writer.write(b"250 EVIL\r\n"), peer_writer.flush());
                }
                for _ in 0..2 {
                    assert_eq!(dead(&mut reader, &writer).await, Some(fault), "{context}");
                    tokio::task::yield_now().await;
                }
                drop((reader, writer, peer));
                let wire = there.await.unwrap();
                back.await.unwrap();
                let sealed = wire.strip_prefix(b"STARTTLS\r\n").map(records);
                assert!(matches!(sealed, Some(Some(_))), "{context}: {}", wire.escape_ascii());
            }
        }
    });
}

/// Plays the peer of an upgrade. Gives back its halves if it has not ended them.
async fn play(
    peer: Peer,
    (mut reader, writer): (StreamReader, StreamWriter),
) -> Option<(StreamReader, StreamWriter)> {
    reader.read_line().await.unwrap();
    match peer {
        // Whoever has no objection may not have heard of the other's yet.
        Peer::Client(tls) => drop(writer.start_tls(&mut reader, &tls).await),
        Peer::Server(tls) => drop(writer.start_tls(&mut reader, &tls).await),
        Peer::Says(bytes) => {
            writer.write(&bytes).unwrap();
            writer.flush().unwrap();
        }
        Peer::Ends(bytes) => {
            writer.write(&bytes).unwrap();
            writer.write_eof().unwrap();
            return None;
        }
    }
    Some((reader, writer))
}

#[test]
fn t8_a_deadline_ends_an_upgrade_that_gets_nowhere_or_a_byte_at_a_time() {
    run_paused(async {
        let realm = Realm::new();
        for (side, version) in every_side() {
            for trickle in [false, true] {
                let ((mut reader, writer), (_raw_reader, raw_writer)) = pair();
                let begin = tokio::time::Instant::now();
                let slow = async {
                    if trickle {
                        for byte in record(HANDSHAKE, &[1; 60]) {
                            let _ = (raw_writer.write(&[byte]), raw_writer.flush());
                            tokio::time::sleep(Duration::from_secs(1)).await;
                        }
                    }
                    std::future::pending::<()>().await;
                };
                let result = tokio::select! {
                    result = realm.start(side, version, &mut reader, &writer) => result,
                    () = slow => unreachable!(),
                };
                let error = result.unwrap_err();
                assert!(
                    matches!(&error, TlsError::TimedOut { timeout, .. } if *timeout == Duration::from_secs(10))
                );
                assert_eq!((error.fault(), error.class()), (Some(TlsFault::TimedOut), ErrorClass::Deadline));
                let took = begin.elapsed();
                assert!((Duration::from_secs(10)..Duration::from_millis(10_010)).contains(&took), "{took:?}");
                assert_eq!(dead(&mut reader, &writer).await, Some(TlsFault::TimedOut), "{trickle}");
            }
        }
    });
}
