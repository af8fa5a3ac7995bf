//! Reads that drop bytes as they go have the deadlines of reading too: what was dropped counts as what is kept.

mod support;

use std::future::Future;
use std::time::Duration;

use millstream::testing::{Pair, pair_between};
#[cfg(feature = "tls")]
use millstream::tls::TlsVersion;
use millstream::{ConnectOptions, DeadlineKind, Deadlines, Failure, SkipError, StreamReader, StreamWriter};
use support::run_paused;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep, timeout};

/// Runs a scenario over each kind of transport, with the deadlines on the first pair and none on that of its peer.
fn over_each<F: Future<Output = ()>>(deadlines: Deadlines, scenario: impl Fn(Pair, Pair) -> F) {
    let options = ConnectOptions::new().deadlines(deadlines);
    run_paused(async {
        let (tested, peer) = pair_between(&options, &ConnectOptions::new()).expect("valid");
        scenario(tested, peer).await;
    });
    run_paused(async {
        let (one, other) = tokio::io::duplex(64 * 1024);
        scenario(options.adopt_io(one).expect("a runtime"), millstream::from_io(other)).await;
    });
}

/// The two ways to drop what does not end, or not soon.
#[derive(Clone, Copy, Debug)]
enum Skip {
    Until(&'static [u8]),
    Count,
}

const SKIPS: [Skip; 3] = [Skip::Until(b"\n"), Skip::Until(b"\r\nEND\r\n"), Skip::Count];

impl Skip {
    async fn run(self, reader: &mut StreamReader) -> Result<(), SkipError> {
        match self {
            Self::Until(separator) => reader.skip_until(separator).await.map(drop),
            Self::Count => reader.skip(1_000_000).await,
        }
    }
}

/// Sends so many bytes every so often until the connection ends.
async fn send_slowly(writer: &StreamWriter, bytes: &[u8], every: Duration) {
    while writer.write(bytes).is_ok() && writer.flush().is_ok() {
        sleep(every).await;
    }
}

fn of_skip(result: Result<(), SkipError>) -> Failure {
    let Err(SkipError::Failed(failure)) = result else { panic!("{result:?}") };
    failure
}

#[test]
fn a_drip_into_a_skip_is_cut_by_the_item_deadline() {
    for skip in SKIPS {
        over_each(Deadlines::none().item(secs(10)), |tested, other| async move {
            let ((mut reader, writer), (_keep, peer)) = (tested, other);
            let dripping = tokio::spawn(async move { send_slowly(&peer, b"x", secs(3)).await });
            let start = Instant::now();
            let failure = of_skip(skip.run(&mut reader).await);
            let elapsed = start.elapsed();
            assert!(secs(10) <= elapsed && elapsed <= secs(13), "{skip:?} after {elapsed:?}");
            assert_eq!(failure.deadline(), Some(DeadlineKind::Item));
            let text = failure.to_string();
            assert!(text.starts_with("no whole item within 10s: 5 bytes in 10."), "{skip:?}: {text}");
            drop((reader, writer));
            dripping.await.unwrap();
        });
    }
}

#[test]
fn a_drip_into_a_skip_is_too_slow_for_a_rate_and_a_slow_bulk_is_not() {
    for skip in SKIPS {
        over_each(Deadlines::internet(), |tested, other| async move {
            let ((mut reader, writer), (_keep, peer)) = (tested, other);
            let dripping = tokio::spawn(async move { send_slowly(&peer, b"x", secs(10)).await });
            let start = Instant::now();
            let failure = of_skip(skip.run(&mut reader).await);
            let elapsed = start.elapsed();
            assert!(secs(30) <= elapsed && elapsed <= secs(38), "{skip:?} after {elapsed:?}");
            assert_eq!(failure.deadline(), Some(DeadlineKind::ReceiveRate));
            assert!(failure.to_string().ends_with("and 4 of it in all"), "{skip:?}: {failure}");
            drop((reader, writer));
            dripping.await.unwrap();
        });
        over_each(Deadlines::internet(), |tested, other| async move {
            let ((mut reader, writer), (_keep, peer)) = (tested, other);
            let sending = tokio::spawn(async move { send_slowly(&peer, &[b'x'; 600], secs(1)).await });
            let result = timeout(secs(600), skip.run(&mut reader)).await;
            assert!(result.is_err(), "600 bytes/s for ten minutes: {skip:?} {result:?}");
            drop((reader, writer));
            sending.await.unwrap();
        });
    }
}

#[test]
fn time_adds_up_over_an_overlong_line_its_skips_that_are_given_up_and_the_read_behind_them() {
    for skip in SKIPS {
        for reads_on in [false, true] {
            over_each(Deadlines::none().item(secs(30)), |tested, other| async move {
                let ((mut reader, writer), (_keep, peer)) = (tested, other);
                let dripping = tokio::spawn(async move { send_slowly(&peer, b"0123456789", secs(1)).await });
                let start = Instant::now();
                reader.limited(50).read_line().await.unwrap_err();
                let failure = loop {
                    match timeout(secs(7), skip.run(&mut reader)).await {
                        Ok(result) => break of_skip(result),
                        Err(_) if reads_on && start.elapsed() > secs(20) => {
                            // The peer still owes the rest of what it has begun.
                            let error = reader.read_line().await.unwrap_err();
                            let millstream::ReadLineError::Failed(failure) = error else { panic!("{error}") };
                            break failure;
                        }
                        Err(_) => assert!(start.elapsed() < secs(100), "{skip:?}"),
                    }
                };
                assert_eq!(failure.deadline(), Some(DeadlineKind::Item));
                let elapsed = start.elapsed();
                assert!(secs(30) <= elapsed && elapsed <= secs(45), "{skip:?} after {elapsed:?}");
                drop((reader, writer));
                dripping.await.unwrap();
            });
        }
    }
}

#[test]
fn a_peer_that_has_ended_what_it_began_may_be_silent_before_the_next_skip() {
    let deadlines = Deadlines::none().item(secs(10)).receive_rate(1_000_000, secs(10));
    over_each(deadlines, |tested, other| async move {
        let ((mut reader, _writer), (_keep, peer)) = (tested, other);
        // Skipped whole; and skipped in part, with the rest taken by each kind of read.
        for taken_by in 0..5 {
            peer.write(b"begun").unwrap();
            peer.flush().unwrap();
            assert!(timeout(secs(1), reader.skip_until(b"\n")).await.is_err());
            peer.write(b" and ended\n").unwrap();
            peer.flush().unwrap();
            match taken_by {
                0 => assert_eq!(reader.skip_until(b"\n").await.unwrap(), 11),
                1 => reader.skip(11).await.unwrap(),
                2 => assert_eq!(reader.read_line().await.unwrap().unwrap(), " and ended\n"),
                3 => assert_eq!(reader.read_exactly(11).await.unwrap(), " and ended\n"),
                _ => {
                    // From the buffer, without a receive between.
                    assert_eq!(reader.peek().await.unwrap(), b" and ended\n");
                    assert_eq!(reader.read(100).await.unwrap(), " and ended\n");
                }
            }
            let silent = timeout(secs(3600), reader.skip_until(b"\n")).await;
            assert!(silent.is_err(), "taken by {taken_by}: {silent:?}");
            let silent = timeout(secs(3600), reader.skip(10)).await;
            assert!(silent.is_err(), "taken by {taken_by}: {silent:?}");
        }
    });
}

#[test]
fn skips_that_end_in_time_have_each_their_own_time() {
    over_each(Deadlines::none().item(secs(10)), |tested, other| async move {
        let ((mut reader, writer), (_keep, peer)) = (tested, other);
        let sending = tokio::spawn(async move {
            // Each line takes six seconds, and is ended by the piece that begins the next.
            for _ in 0..20 {
                peer.write(b"end\nbeg").unwrap();
                peer.flush().unwrap();
                sleep(secs(3)).await;
                peer.write(b"in").unwrap();
                peer.flush().unwrap();
                sleep(secs(3)).await;
            }
            peer
        });
        for line in 0..20 {
            assert_eq!(reader.skip_until(b"\n").await.unwrap(), if line == 0 { 4 } else { 9 });
        }
        drop((reader, writer, sending.await.unwrap()));
    });
}

#[cfg(feature = "tls")]
#[test]
fn a_drip_of_records_into_a_skip_is_cut_too() {
    use millstream::tls::TlsVersion;
    for skip in SKIPS {
        run_paused(async {
            let realm = support::tls::Realm::new();
            let options = ConnectOptions::new().item_deadline(secs(10));
            let ((mut reader, writer), raw) = pair_between(&options, &ConnectOptions::new()).unwrap();
            let mut peer = realm.bare_client(TlsVersion::V1_3, raw);
            let server = realm.server(TlsVersion::V1_3);
            let (begun, ()) = tokio::join!(writer.start_tls(&mut reader, &server), peer.handshake());
            begun.unwrap();
            let dripping = tokio::spawn(async move {
                for _ in 0..40 {
                    let record = peer.seal(b"x");
                    peer.send(&record);
                    sleep(secs(3)).await;
                }
                peer
            });
            let start = Instant::now();
            let failure = of_skip(skip.run(&mut reader).await);
            let elapsed = start.elapsed();
            assert!(secs(10) <= elapsed && elapsed <= secs(13), "{skip:?} after {elapsed:?}");
            assert!(failure.to_string().starts_with("no whole item within 10s: 5 bytes in 10."), "{failure}");
            drop((reader, writer));
            dripping.await.unwrap();
        });
    }
}

#[test]
fn a_read_that_waits_for_its_first_byte_is_not_cut_for_what_a_skip_dropped_before() {
    for deadlines in [Deadlines::none().item(secs(10)), Deadlines::internet()] {
        over_each(deadlines, |tested, other| async move {
            let ((mut reader, _writer), (_keep, peer)) = (tested, other);
            for round in 0..3 {
                peer.write(b"what nobody wants").unwrap();
                peer.flush().unwrap();
                assert!(timeout(secs(1), reader.skip(u64::MAX)).await.is_err());
                // Below the 75 s after which it would be cut for silence.
                let waited = match round {
                    0 => timeout(secs(60), reader.read(100)).await.map(drop),
                    1 => timeout(secs(60), reader.peek()).await.map(drop),
                    _ => timeout(secs(60), AsyncReadExt::read(&mut reader, &mut [0; 4])).await.map(drop),
                };
                assert!(waited.is_err(), "{deadlines:?}, round {round}");
            }
        });
    }
}

#[cfg(feature = "tls")]
#[test]
fn what_a_skip_dropped_in_plain_text_is_not_held_against_the_tls_behind_it() {
    run_paused(async {
        let realm = support::tls::Realm::new();
        let options = ConnectOptions::new().item_deadline(secs(10));
        let ((mut reader, writer), raw) = pair_between(&options, &ConnectOptions::new()).unwrap();
        raw.1.write(b"no line").unwrap();
        raw.1.flush().unwrap();
        assert!(timeout(secs(1), reader.skip_until(b"\n")).await.is_err());
        let mut peer = realm.bare_client(TlsVersion::V1_3, raw);
        let server = realm.server(TlsVersion::V1_3);
        let (begun, ()) = tokio::join!(writer.start_tls(&mut reader, &server), peer.handshake());
        begun.unwrap();
        assert!(timeout(secs(3600), reader.read_line()).await.is_err(), "a silent peer is cut");
    });
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
