//! What ends a relay is told with its side, after what came before it was delivered.

mod support;

use std::io::Write;
use std::time::Duration;

use millstream::testing::{Pair, pair, pair_with_capacity};
use millstream::{ConnectOptions, ErrorClass, RelayEnd, RelayOptions, RelaySide, WriteError, relay};
use support::{reset, run, run_paused, tcp_pair};
use tokio::time::{Instant, sleep};

const LIMIT: Duration = Duration::from_secs(100);

async fn relay_within_limit(mut a: Pair, mut b: Pair) -> (RelayEnd, Duration, [Pair; 2]) {
    let start = Instant::now();
    let options = RelayOptions::new().idle_timeout(LIMIT);
    let relayed = options.relay((&mut a.0, &a.1), (&mut b.0, &b.1)).await;
    (relayed.end, start.elapsed(), [a, b])
}

#[test]
fn silence_both_ways_ends_it_at_the_idle_timeout() {
    run_paused(async {
        let ((_client, a), (b, _server)) = (pair(), pair());
        let (end, elapsed, _) = relay_within_limit(a, b).await;
        assert_eq!(end, RelayEnd::Idle { limit: LIMIT });
        assert_eq!(end.class(), Some(ErrorClass::Deadline));
        assert!((LIMIT..LIMIT * 5 / 4 + Duration::from_millis(10)).contains(&elapsed), "{elapsed:?}");
    });
}

#[test]
fn one_byte_in_one_direction_restarts_the_idle_time() {
    run_paused(async {
        let ((client, a), (b, _server)) = (pair(), pair());
        let relay = tokio::spawn(relay_within_limit(a, b));
        for _ in 0..5 {
            sleep(LIMIT * 9 / 10).await;
            client.1.write(b"x").unwrap();
            client.1.flush().unwrap();
        }
        let (end, elapsed, _) = relay.await.unwrap();
        assert_eq!(end, RelayEnd::Idle { limit: LIMIT });
        let since = elapsed - LIMIT * 9 / 10 * 5;
        assert!(
            (LIMIT..LIMIT * 5 / 4 + Duration::from_millis(10)).contains(&since),
            "{since:?} after the last byte"
        );
    });
}

#[test]
fn a_slow_receiver_that_takes_a_little_now_and_then_is_not_idle() {
    run_paused(async {
        let ((client, a), (b, mut server)) = (pair(), pair_with_capacity(100));
        client.1.write(&[7; 1_000]).unwrap();
        client.1.write_eof().unwrap();
        let relay = tokio::spawn(relay_within_limit(a, b));
        for _ in 0..10 {
            sleep(LIMIT * 9 / 10).await;
            server.0.read_exactly(100).await.unwrap();
        }
        server.1.write_eof().unwrap();
        let (end, elapsed, _) = relay.await.unwrap();
        assert_eq!(end, RelayEnd::Complete);
        assert!(elapsed > LIMIT * 8, "{elapsed:?}");
    });
}

#[test]
fn a_receiver_that_takes_nothing_ends_it_as_idle() {
    run_paused(async {
        let ((client, a), (b, _server)) = (pair(), pair_with_capacity(100));
        client.1.write(&[7; 1_000]).unwrap();
        let (end, elapsed, _) = relay_within_limit(a, b).await;
        assert_eq!(end, RelayEnd::Idle { limit: LIMIT });
        assert!(elapsed < LIMIT * 3 / 2, "{elapsed:?}");
    });
}

#[test]
fn a_side_that_never_ends_after_the_other_did_ends_as_idle() {
    run_paused(async {
        let ((client, a), (b, mut server)) = (pair(), pair());
        drop(client);
        let (end, elapsed, [a, b]) = relay_within_limit(a, b).await;
        assert_eq!(end, RelayEnd::Idle { limit: LIMIT });
        assert!(elapsed < LIMIT * 3 / 2, "{elapsed:?}");
        assert!(server.0.read(1).await.unwrap().is_empty(), "the end was not passed on");
        drop((a, b));
    });
}

/// A relay between two plain sockets, and how it ends after this was done to them. The halves of both sides live on.
fn over_tcp(
    play: impl FnOnce(std::net::TcpStream, std::net::TcpStream) -> std::net::TcpStream + Send + 'static,
    check: impl AsyncFnOnce(RelayEnd, [Pair; 2], std::net::TcpStream),
) {
    run(async {
        let (mut a, client) = tcp_pair(&ConnectOptions::new());
        let (mut b, server) = tcp_pair(&ConnectOptions::new());
        let peers = tokio::task::spawn_blocking(move || play(client, server));
        let relayed = relay((&mut a.0, &a.1), (&mut b.0, &b.1)).await;
        let rest = peers.await.expect("the peers play their part");
        check(relayed.end, [a, b], rest).await;
    });
}

#[test]
fn what_a_side_sent_before_its_reset_is_delivered_and_its_end_is_not_invented() {
    over_tcp(
        |mut client, server| {
            client.write_all(&[7; 100_000]).unwrap();
            reset(client);
            server
        },
        async |end, [a, b], mut server| {
            let RelayEnd::ReadFailed { side: RelaySide::A, error } = end else { panic!("{end:?}") };
            assert_eq!(error.class(), ErrorClass::BrokenByPeer);
            // The relay has not ended the other side: what it gets from us comes behind what the client had sent.
            b.1.write(b"the end of it").unwrap();
            b.1.write_eof().unwrap();
            drop((a, b));
            let received = tokio::task::spawn_blocking(move || {
                let mut received = Vec::new();
                std::io::Read::read_to_end(&mut server, &mut received).unwrap();
                received
            });
            let received = received.await.unwrap();
            assert!(received.ends_with(b"the end of it"), "{} bytes", received.len());
            // A reset may overtake bytes in the client's own send queue, not those that had arrived.
            assert!(received[..received.len() - 13].iter().all(|&byte| byte == 7));
        },
    );
}

#[test]
fn bytes_before_a_failure_come_to_the_other_side_first() {
    run_paused(async {
        let (client, a) = millstream::testing::scripted_peer(1_000);
        let script = tokio::spawn(a.send_in_chunks(&[9; 900], 90).reset().run());
        let (mut b, mut server) = pair_with_capacity(10);
        let reads = tokio::spawn(async move { (server.0.read_exactly(900).await, server) });
        let mut a = client;
        let relayed = relay((&mut a.0, &a.1), (&mut b.0, &b.1)).await;
        assert!(matches!(&relayed.end, RelayEnd::ReadFailed { side: RelaySide::A, .. }), "{}", relayed.end);
        assert_eq!(relayed.a_to_b, 900);
        assert_eq!(b.1.stats().queued, 0, "the relay did not wait until all had left");
        assert_eq!(reads.await.unwrap().0.unwrap(), vec![9; 900]);
        script.await.unwrap().unwrap();
    });
}

#[test]
fn a_side_that_answers_and_closes_in_the_middle_of_an_upload_is_heard_to_its_end() {
    run_paused(async {
        let ((mut client, mut a), (mut b, server)) = (pair(), pair());
        let upload = tokio::spawn(async move {
            // Both ways out are right: the relay ended, or nobody reads any more.
            while client.1.write(&[1; 10_000]).is_ok() && client.1.drain().await.is_ok() {}
            client.0.read_to_end(100).await
        });
        let refuses = tokio::spawn(async move {
            server.1.write(b"too large").unwrap();
            server.1.close();
            drop(server.0);
            server.1.wait_closed().await
        });
        let relayed = relay((&mut a.0, &a.1), (&mut b.0, &b.1)).await;
        let RelayEnd::WriteFailed { side: RelaySide::B, error: WriteError::Failed(failure) } = &relayed.end
        else {
            panic!("{:?}", relayed.end)
        };
        assert_eq!(failure.class(), ErrorClass::BrokenByPeer);
        assert_eq!(relayed.b_to_a, 9);
        refuses.await.unwrap().unwrap();
        drop((a, b));
        assert_eq!(upload.await.unwrap().unwrap(), "too large");
    });
}

#[test]
fn a_reset_while_the_other_side_is_waited_for_ends_it_at_once() {
    over_tcp(
        |client, server| {
            reset(server);
            client
        },
        async |end, _, _client| {
            assert!(matches!(end, RelayEnd::ReadFailed { side: RelaySide::B, .. }), "{end:?}");
        },
    );
}

#[test]
fn closing_a_side_from_elsewhere_ends_it() {
    run_paused(async {
        let ((client, mut a), (mut b, _server)) = (pair(), pair());
        b.1.write_eof().unwrap();
        client.1.write(b"too late").unwrap();
        client.1.write_eof().unwrap();
        let options = RelayOptions::new().idle_timeout(LIMIT);
        let relayed = options.relay((&mut a.0, &a.1), (&mut b.0, &b.1)).await;
        assert_eq!(relayed.end, RelayEnd::WriteFailed { side: RelaySide::B, error: WriteError::AfterEof });
        assert_eq!(relayed.end.class(), Some(ErrorClass::ClosedByUs));
        assert_eq!(a.0.buffered(), b"too late", "what could not be passed on is still there");
    });
}

#[cfg(feature = "tls")]
mod tls {
    use millstream::testing::pair;
    use millstream::tls::{TlsFault, TlsVersion};
    use millstream::{RelayEnd, RelaySide, relay};

    use super::support::run_paused;
    use super::support::tls::{Realm, Side, tcp_pairs};

    #[test]
    fn over_tls_1_3_a_half_close_is_passed_on_and_the_answer_comes_back() {
        run_paused(async {
            let ((mut client, says), mut a) = pair();
            let realm = Realm::new();
            let (mut b, mut server) = pair();
            let (one, other) = tokio::join!(
                realm.start(Side::Client, TlsVersion::V1_3, &mut b.0, &b.1),
                realm.start(Side::Server, TlsVersion::V1_3, &mut server.0, &server.1),
            );
            one.and(other).expect("a handshake");
            let peers = async {
                says.write(b"a question").unwrap();
                says.write_eof().unwrap();
                assert_eq!(server.0.read_to_end(100).await.unwrap(), "a question");
                server.1.write(b"an answer").unwrap();
                assert_eq!(client.read_exactly(9).await.unwrap(), "an answer");
                server.1.write_eof().unwrap();
                assert!(client.read(1).await.unwrap().is_empty());
            };
            let (relayed, ()) = tokio::join!(relay((&mut a.0, &a.1), (&mut b.0, &b.1)), peers);
            assert_eq!((relayed.a_to_b, relayed.b_to_a, relayed.end), (10, 9, RelayEnd::Complete));
        });
    }

    #[test]
    fn over_tls_1_2_the_end_is_passed_on_as_a_close_and_what_still_comes_is_relayed() {
        super::run(async {
            let ((mut client, says), mut a) = pair();
            let realm = Realm::new();
            let (mut b, mut server) = realm.connected(Side::Client, TlsVersion::V1_2, tcp_pairs()).await;
            assert!(!b.1.can_write_eof());
            let peers = async {
                says.write(b"a question").unwrap();
                says.write_eof().unwrap();
                let (heard, end) = server.receive_all().await;
                assert_eq!((heard, end), (b"a question".to_vec(), None));
                let answer = server.seal(b"an answer");
                server.send(&answer);
                assert_eq!(client.read_exactly(9).await.unwrap(), "an answer");
                let goodbye = server.goodbye();
                server.send(&goodbye);
                assert!(client.read(1).await.unwrap().is_empty());
                server.writer.close();
            };
            let (relayed, ()) = tokio::join!(relay((&mut a.0, &a.1), (&mut b.0, &b.1)), peers);
            assert_eq!((relayed.a_to_b, relayed.b_to_a, relayed.end), (10, 9, RelayEnd::Complete));
        });
    }

    #[test]
    fn a_stream_that_was_cut_ends_the_relay_at_once_and_is_not_passed_on_as_an_end() {
        for cut in [RelaySide::A, RelaySide::B] {
            run_paused(async {
                let ((mut client, says), mut whole) = pair();
                let realm = Realm::new();
                let (mut tls, mut server) = realm.connected(Side::Client, TlsVersion::V1_3, pair()).await;
                let half = server.seal(b"half an answ");
                server.send(&half);
                // The end of the transport, without a close_notify.
                server.writer.write_eof().unwrap();
                let start = tokio::time::Instant::now();
                let sides = ((&mut whole.0, &whole.1), (&mut tls.0, &tls.1));
                let relayed = match cut {
                    RelaySide::A => relay(sides.1, sides.0).await,
                    RelaySide::B => relay(sides.0, sides.1).await,
                };
                assert!(start.elapsed() < super::LIMIT, "the other direction was waited for");
                let RelayEnd::ReadFailed { side, error: millstream::ReadError::Failed(failure) } =
                    &relayed.end
                else {
                    panic!("{:?}", relayed.end)
                };
                assert_eq!((*side, failure.tls()), (cut, Some(TlsFault::Truncated)));
                assert_eq!((relayed.a_to_b + relayed.b_to_a), 12);
                whole.1.abort();
                assert_eq!(client.read_exactly(12).await.unwrap(), "half an answ");
                assert!(client.read(1).await.is_err(), "the caller's abort was to be seen");
                drop(says);
            });
        }
    }
}
