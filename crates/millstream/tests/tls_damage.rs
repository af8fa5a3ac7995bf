//! Row T3 of the fault table: whatever the path between two sides of TLS changes, nothing that the peer did not send is
//! delivered; what came before is, then a failure that stays, and the peer gets an alert.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "clippy does not count helpers as tests")]

mod support;

use std::io::Write;
use std::time::Duration;

use millstream::testing::{Pair, pair};
use millstream::tls::{TlsClient, TlsFault, TlsServer, TlsVersion};
use millstream::{ErrorClass, Failure, ReadError, StreamReader};
use support::tls::{BarePeer, Realm, Side, dead, duplex_pairs, every_side, read_failure, tcp_pairs};
use support::tls_path::{ALERT, CHANGE_CIPHER_SPEC, DATA, HANDSHAKE, Lane, path, record, records};
use support::{run, run_paused};
use tokio::time::timeout;

const QUESTION: [&[u8]; 3] = [b"first question\n", b"second\n", b"the third question, a longer one\n"];
const ANSWER: [&[u8]; 3] = [b"one\n", b"two, which is not the last\n", b"three\n"];

/// Longer than every deadline here, on the paused clock.
const SILENCE: Duration = Duration::from_secs(60);

/// What one side met.
#[derive(Debug)]
struct Met {
    handshake: Result<(), Failure>,
    got: Vec<u8>,
    /// How its reading ended; `None` if it waited in vain.
    end: Option<Result<(), Failure>>,
}

/// Asks over TLS and reads the answer to its end.
async fn ask((mut reader, writer): Pair, tls: &TlsClient) -> Met {
    if let Err(error) = writer.start_tls(&mut reader, tls).await {
        let fault = dead(&mut reader, &writer).await;
        assert_eq!(fault, error.fault());
        return Met { handshake: Err(fault.unwrap().failure("")), got: Vec::new(), end: None };
    }
    for message in QUESTION {
        let _ = writer.write(message);
        let _ = writer.flush();
    }
    let mut got = Vec::new();
    let end = listen(&mut reader, &mut got, usize::MAX).await;
    Met { handshake: Ok(()), got, end }
}

/// Reads the whole question, then answers and closes.
async fn answer((mut reader, writer): Pair, tls: &TlsServer) -> Met {
    if let Err(error) = writer.start_tls(&mut reader, tls).await {
        let fault = dead(&mut reader, &writer).await;
        assert_eq!(fault, error.fault());
        return Met { handshake: Err(fault.unwrap().failure("")), got: Vec::new(), end: None };
    }
    let mut got = Vec::new();
    let end = listen(&mut reader, &mut got, QUESTION.concat().len()).await;
    if matches!(end, Some(Ok(()))) {
        for message in ANSWER {
            let _ = writer.write(message);
            let _ = writer.flush();
        }
        writer.close();
        let _ = writer.wait_closed().await;
    }
    Met { handshake: Ok(()), got, end }
}

/// Reads until there are so many bytes, or the end, or a failure, which has to be the same for ever.
async fn listen(reader: &mut StreamReader, got: &mut Vec<u8>, len: usize) -> Option<Result<(), Failure>> {
    while got.len() < len {
        match timeout(SILENCE, reader.read(usize::MAX)).await.ok()? {
            Ok(bytes) if bytes.is_empty() => break,
            Ok(bytes) => got.extend(bytes),
            Err(ReadError::Failed(failure)) => {
                assert_eq!(read_failure(reader).await, failure);
                return Some(Err(failure));
            }
            Err(other) => panic!("{other}"),
        }
    }
    Some(Ok(()))
}

/// One conversation over a path that flips bits of one byte in one lane.
struct Damaged {
    asked: Met,
    answered: Met,
    passed: [Vec<u8>; 2],
}

impl Damaged {
    async fn talk(client: &TlsClient, server: &TlsServer, lanes: [Lane; 2]) -> Self {
        let (client_end, server_end, path) = path(lanes);
        let (asked, answered) = tokio::join!(ask(client_end, client), answer(server_end, server));
        Self { asked, answered, passed: path.await.unwrap() }
    }

    /// The one who got the damage, and the other.
    fn met(&self, lane: usize) -> (&Met, &Met) {
        if lane == 0 { (&self.answered, &self.asked) } else { (&self.asked, &self.answered) }
    }

    /// The number of the record that has this byte, and whether nothing depends on the byte: the version of a record that is
    /// not encrypted, the type and version of one that is, in TLS 1.3, where both are constants, and a change_cipher_spec
    /// there (RFC 8446, sections 5 to 5.2).
    fn record_at(&self, version: TlsVersion, lane: usize, at: usize) -> (usize, bool) {
        let records = records(&self.passed[lane]).unwrap();
        let number = records.iter().position(|(_, range)| range.contains(&at)).unwrap();
        let (kind, range) = &records[number];
        let means_nothing = matches!(
            (version, *kind, at - range.start),
            (TlsVersion::V1_3, CHANGE_CIPHER_SPEC, _)
                | (TlsVersion::V1_3, DATA, 0..3)
                | (_, HANDSHAKE | CHANGE_CIPHER_SPEC, 1..3)
        );
        (number, means_nothing)
    }
}

#[test]
fn t3_no_flipped_byte_escapes_in_tls_1_2() {
    run_paused(flip_every_byte(TlsVersion::V1_2));
}

#[test]
fn t3_no_flipped_byte_escapes_in_tls_1_3() {
    run_paused(flip_every_byte(TlsVersion::V1_3));
}

async fn flip_every_byte(version: TlsVersion) {
    let realm = Realm::new();
    let (client, server) = (realm.client(version), realm.server(version));
    let clean = Damaged::talk(&client, &server, [Lane::default(); 2]).await;
    let lens = [QUESTION, ANSWER].map(|messages| messages.concat().len());
    let whole = [(lens[0], lens[1]), (lens[1], lens[0])];
    for (lane, messages) in [QUESTION, ANSWER].iter().enumerate() {
        assert_eq!(clean.met(lane).0.got, messages.concat());
        assert_eq!(clean.met(lane).0.end, Some(Ok(())));
        let records = records(&clean.passed[lane]).unwrap();
        // Behind the messages is the close_notify. That of the client comes when the server has closed already.
        let first_message = records.len() - messages.len() - 1;
        let len = records[records.len() - 1 - usize::from(lane == 0)].1.end;
        for at in 0..len {
            let mut lanes = [Lane::default(); 2];
            lanes[lane].flip = Some((at, 1 << (at % 8)));
            let run = Damaged::talk(&client, &server, lanes).await;
            if at >= run.passed[lane].len() {
                // A signature that was a byte shorter.
                continue;
            }
            let context = format!("{version}, lane {lane}, byte {at}: {:?}, {:?}", run.asked, run.answered);
            assert!(QUESTION.concat().starts_with(&run.answered.got), "escaped: {context}");
            assert!(ANSWER.concat().starts_with(&run.asked.got), "escaped: {context}");
            let (hit, other) = run.met(lane);
            let (failure, told) = (failure_of(hit), failure_of(other));
            assert!(
                [failure, told].iter().flatten().all(|failure| failure.tls().is_some()),
                "untyped: {context}"
            );
            let (number, means_nothing) = run.record_at(version, lane, at);
            // A record that seems longer than it is makes its receiver wait for the rest.
            let waits = hit.handshake.is_ok() && hit.end.is_none();
            if !waits && failure.is_none() && told.is_none() {
                assert!(means_nothing, "not noticed: {context}");
                assert_eq!((hit.got.len(), other.got.len()), whole[lane], "lost: {context}");
            } else if let Some(before) = number.checked_sub(first_message) {
                let before = &messages[..before.min(messages.len())];
                assert_eq!(hit.got, before.concat(), "not all or too much of what came before: {context}");
                assert!(!matches!(hit.end, Some(Ok(()))), "a clean end: {context}");
                // The server has closed when its answer is read, and a client that has waited in vain has closed too.
                let alert = matches!(told.and_then(Failure::tls), Some(TlsFault::Refused { .. }));
                let is_gone = waits || lane == 1 || run.asked.end.is_none();
                assert!(is_gone || alert, "the sender of the record was not told: {context}");
            } else {
                assert!(told.is_some(), "the other side was not told: {context}");
            }
        }
    }
}

fn failure_of(met: &Met) -> Option<&Failure> {
    match met {
        Met { handshake: Err(failure), .. } | Met { end: Some(Err(failure)), .. } => Some(failure),
        _ => None,
    }
}

/// What arrives instead of the next record.
type Damage = (&'static str, fn(&mut BarePeer) -> Vec<u8>, TlsFault);

const DAMAGE: [Damage; 6] = [
    ("garbage", |_| b"\r\n\r\nno TLS at all".to_vec(), TlsFault::BadRecord),
    ("a record of TLS 4.7", |_| [&[DATA, 4, 7, 0, 40][..], &[7; 40]].concat(), TlsFault::BadRecord),
    (
        "a record longer than TLS allows",
        |_| [&[DATA, 3, 3, 0x48, 1][..], &[7; 0x4801]].concat(),
        TlsFault::BadRecord,
    ),
    ("a record that nobody sealed", |_| record(DATA, &[7; 40]), TlsFault::BadRecord),
    (
        "a record that came before",
        |bare| {
            let record = bare.seal(b"once\n");
            [&record[..], &record].concat()
        },
        TlsFault::BadRecord,
    ),
    (
        "a record whose last byte was changed",
        |bare| {
            let mut record = bare.seal(b"changed\n");
            *record.last_mut().unwrap() ^= 1;
            record
        },
        TlsFault::BadRecord,
    ),
];

#[test]
fn t3_after_damage_the_peer_gets_an_alert_and_the_reader_what_came_before() {
    run(async {
        let realm = Realm::new();
        for (side, version) in every_side() {
            for (name, damage, fault) in DAMAGE {
                for (glued, adopted) in [(false, false), (true, false), (true, true)] {
                    let context = format!("{name}, {side:?}, {version}, {glued}, {adopted}");
                    let pairs = if adopted { duplex_pairs() } else { tcp_pairs() };
                    let ((mut reader, writer), mut bare) = realm.connected(side, version, pairs).await;
                    let good = bare.seal(b"good\nhalf of ");
                    if glued {
                        let damage = damage(&mut bare);
                        bare.send(&[good, damage].concat());
                    } else {
                        bare.send(&good);
                        reader.peek().await.unwrap();
                        let damage = damage(&mut bare);
                        bare.send(&damage);
                    }
                    assert_eq!(reader.read_line().await.unwrap().unwrap(), "good\n", "{context}");
                    let rest =
                        if name == "a record that came before" { "half of once\n" } else { "half of " };
                    assert_eq!(reader.read_exactly(rest.len()).await.unwrap(), rest, "{context}");
                    let failure = read_failure(&mut reader).await;
                    assert_eq!(
                        (failure.tls(), failure.class()),
                        (Some(fault), ErrorClass::BrokenByPeer),
                        "{context}"
                    );
                    assert_eq!(dead(&mut reader, &writer).await, Some(fault), "{context}");
                    let (said, error) = bare.receive_all().await;
                    assert!(said.is_empty(), "{context}");
                    assert!(matches!(error, Some(rustls::Error::AlertReceived(_))), "{context}: {error:?}");
                }
            }
        }
    });
}

#[test]
fn t3_damage_instead_of_a_handshake_is_told_to_both_sides() {
    run(async {
        let realm = Realm::new();
        let table = [
            ("garbage", b"no TLS at all".to_vec(), TlsFault::NotTls),
            ("a record of TLS 4.7", record(HANDSHAKE, &[7; 40]), TlsFault::NotTls),
            (
                "a record longer than TLS allows",
                [&[HANDSHAKE, 3, 3, 0xff, 0xff][..], &[1; 70_000]].concat(),
                TlsFault::BadRecord,
            ),
            ("data before keys", record(DATA, b"secret"), TlsFault::Misbehaved),
            ("a message of the wrong kind", record(HANDSHAKE, &[20, 0, 0, 2, 1, 1]), TlsFault::Misbehaved),
        ];
        for (side, version) in every_side() {
            for (name, damage, fault) in &table {
                let context = format!("{name}, {side:?}, {version}");
                let mut damage = damage.clone();
                if name.ends_with("4.7") {
                    damage[1] = 4;
                }
                for pairs in [tcp_pairs(), duplex_pairs()] {
                    let ((mut reader, writer), (mut raw_reader, raw_writer)) = pairs;
                    raw_writer.write(&damage).unwrap();
                    raw_writer.flush().unwrap();
                    let error = realm.start(side, version, &mut reader, &writer).await.unwrap_err();
                    assert_eq!(
                        (error.fault(), error.class()),
                        (Some(*fault), ErrorClass::BrokenByPeer),
                        "{context}: {error}"
                    );
                    assert_eq!(dead(&mut reader, &writer).await, Some(*fault), "{context}");
                    let wire = raw_reader.read_to_end(100_000).await;
                    let wire = wire.unwrap_or_else(|_| raw_reader.buffered().to_vec().into());
                    let (kind, range) = records(&wire).unwrap().pop().expect("an alert");
                    // Its level and its description.
                    assert_eq!((kind, wire[range][5]), (ALERT, 2), "{context}");
                }
            }
        }
    });
}

#[test]
fn t3_what_came_with_the_end_of_the_handshake_is_delivered_before_the_damage_behind_it() {
    run(async {
        let realm = Realm::new();
        // Where the other side ends its handshake with a message of its own, and may go on at once.
        for (side, version) in [(Side::Server, TlsVersion::V1_3), (Side::Client, TlsVersion::V1_2)] {
            let ((mut reader, writer), raw) = pair();
            let mut bare = realm.bare_peer_of(side, version, raw);
            let hurried = async {
                bare.tls.writer().write_all(b"good\n").unwrap();
                while bare.tls.is_handshaking() {
                    bare.send_pending();
                    bare.receive().await.unwrap();
                }
                let flight = [bare.ciphertext(), b"garbage".to_vec()].concat();
                bare.send(&flight);
            };
            let (result, ()) = tokio::join!(realm.start(side, version, &mut reader, &writer), hurried);
            result.unwrap();
            assert_eq!(reader.read_line().await.unwrap().unwrap(), "good\n");
            assert_eq!(dead(&mut reader, &writer).await, Some(TlsFault::BadRecord));
        }
    });
}
