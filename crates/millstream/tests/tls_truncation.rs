//! Row T6 of the fault table: an end without a close_notify is not the end of the stream. The reader gets what arrived, then
//! an error of its own kind, unless the caller allows it; with a close_notify the end is a clean one.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, reason = "clippy does not count helpers as tests")]

mod support;

use std::io::ErrorKind;

use millstream::testing::pair;
use millstream::tls::{TlsError, TlsFault};
use millstream::{ErrorClass, ReadExactlyError, ReadLineError, ReadToEndError, ReadUntilError, SkipError};
use support::tls::{Realm, Side, VERSIONS, dead, every_side, read_failure, tcp_pairs};
use support::{run, run_paused};
use tokio::io::AsyncReadExt;

#[test]
fn t6_an_end_without_close_notify_comes_after_what_arrived_and_is_no_end_for_any_read() {
    run(async {
        let realm = Realm::new();
        let truncated = |failure: &millstream::Failure| {
            assert_eq!(
                (failure.tls(), failure.kind()),
                (Some(TlsFault::Truncated), ErrorKind::UnexpectedEof)
            );
            assert_eq!(failure.class(), ErrorClass::BrokenByPeer);
        };
        for (side, version) in every_side() {
            for read in 0..8 {
                let ((mut reader, writer), mut bare) = realm.connected(side, version, tcp_pairs()).await;
                let said = bare.seal(b"line\nhalf");
                bare.send(&said);
                bare.writer.write_eof().unwrap();
                assert_eq!(reader.read_line().await.unwrap().unwrap(), "line\n");
                match read {
                    0 => match reader.read_line().await {
                        Err(ReadLineError::Failed(failure)) => truncated(&failure),
                        other => panic!("{other:?}"),
                    },
                    1 => match reader.read_exactly(100).await {
                        Err(ReadExactlyError::Failed(failure)) => truncated(&failure),
                        other => panic!("{other:?}"),
                    },
                    2 => match reader.read_until(b"\r\n").await {
                        Err(ReadUntilError::Failed(failure)) => truncated(&failure),
                        other => panic!("{other:?}"),
                    },
                    3 => match reader.read_until_any(&[b"\r\n", b"\0"]).await {
                        Err(ReadUntilError::Failed(failure)) => truncated(&failure),
                        other => panic!("{other:?}"),
                    },
                    4 => match reader.read_to_end(100).await {
                        Err(ReadToEndError::Failed(failure)) => truncated(&failure),
                        other => panic!("{other:?}"),
                    },
                    5 => {
                        // An adapter hands out as it reads.
                        let mut got = Vec::new();
                        let error = AsyncReadExt::read_to_end(&mut reader, &mut got).await.unwrap_err();
                        assert_eq!((error.kind(), &got[..]), (ErrorKind::UnexpectedEof, &b"half"[..]));
                    }
                    6 => assert_eq!(reader.peek().await.unwrap(), b"half"),
                    _ => match reader.skip_until(b"\r\n").await {
                        Err(SkipError::Failed(failure)) => truncated(&failure),
                        other => panic!("{other:?}"),
                    },
                }
                match read {
                    5 => {}
                    // It keeps what could be the beginning of a separator.
                    7 => assert_eq!(reader.read(100).await.unwrap(), "f"),
                    _ => assert_eq!(reader.read(100).await.unwrap(), "half", "read {read}"),
                }
                truncated(&read_failure(&mut reader).await);

                // The other direction does not depend on it.
                writer.write(b"still here\n").unwrap();
                writer.drain().await.unwrap();
                writer.close();
                writer.wait_closed().await.unwrap();
                assert_eq!(bare.receive_all().await, (b"still here\n".to_vec(), None), "{side:?}, {version}");
            }
        }
    });
}

#[test]
fn t6_whoever_allows_truncation_gets_an_end_as_without_tls() {
    run(async {
        let realm = Realm::new();
        for (side, version) in every_side() {
            let ((mut reader, writer), raw) = tcp_pairs();
            let mut bare = realm.bare_peer_of(side, version, raw);
            let start = async {
                match side {
                    Side::Client => {
                        writer.start_tls(&mut reader, &realm.client(version).allow_truncation(true)).await
                    }
                    Side::Server => {
                        writer.start_tls(&mut reader, &realm.server(version).allow_truncation(true)).await
                    }
                }
            };
            tokio::join!(async { start.await.unwrap() }, bare.handshake());
            let said = bare.seal(b"line\nhalf");
            bare.send(&said);
            bare.writer.write_eof().unwrap();
            assert_eq!(reader.read_line().await.unwrap().unwrap(), "line\n");
            let incomplete = Err(ReadExactlyError::Incomplete { partial: "half".into(), expected: 100 });
            assert_eq!(reader.read_exactly(100).await, incomplete);
            assert!(reader.at_eof());
            assert_eq!(reader.read_to_end(10).await.unwrap(), "");
        }
    });
}

#[test]
fn t6_no_opt_out_makes_an_end_of_half_a_handshake() {
    run_paused(async {
        let realm = Realm::new();
        for version in VERSIONS {
            let ((mut reader, writer), (raw_reader, raw_writer)) = pair();
            drop((raw_reader, raw_writer));
            let client = realm.client(version).allow_truncation(true);
            let result = writer.start_tls(&mut reader, &client).await;
            assert_eq!(result.as_ref().err().and_then(TlsError::fault), Some(TlsFault::EndedInHandshake));
            assert_eq!(dead(&mut reader, &writer).await, Some(TlsFault::EndedInHandshake));
        }
    });
}

#[test]
fn t6_a_close_notify_is_a_clean_end_however_the_transport_goes_on() {
    run(async {
        let realm = Realm::new();
        for (side, version) in every_side() {
            for then in 0..4 {
                let ((mut reader, _writer), mut bare) = realm.connected(side, version, tcp_pairs()).await;
                let said = [bare.seal(b"line\nhalf"), bare.goodbye()].concat();
                match then {
                    0 => bare.send(&said),
                    1 => {
                        bare.send(&said);
                        bare.writer.write_eof().unwrap();
                    }
                    // What follows a close_notify is void.
                    2 => bare.send(&[&said, &b"garbage"[..]].concat()),
                    _ => {
                        bare.send(&said);
                        reader.peek().await.unwrap();
                        bare.writer.abort();
                    }
                }
                assert_eq!(reader.read_line().await.unwrap().unwrap(), "line\n");
                assert_eq!(reader.read_to_end(100).await.unwrap(), "half", "{side:?}, {version}, {then}");
                assert!(reader.at_eof());
                assert_eq!(reader.read_line().await.unwrap(), None);
            }
        }
    });
}

#[test]
fn t6_a_reset_is_told_as_a_reset_after_what_arrived() {
    run(async {
        let realm = Realm::new();
        for (side, version) in every_side() {
            let ((mut reader, _writer), mut bare) = realm.connected(side, version, tcp_pairs()).await;
            let said = bare.seal(b"line\nhalf");
            bare.send(&said);
            bare.writer.abort();
            assert_eq!(reader.read_line().await.unwrap().unwrap(), "line\n");
            assert_eq!(reader.read(100).await.unwrap(), "half");
            for _ in 0..2 {
                let error = reader.read(100).await.unwrap_err();
                assert_eq!(std::io::Error::from(error).kind(), ErrorKind::ConnectionReset);
            }
        }
    });
}
