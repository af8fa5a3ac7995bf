//! A relay of two connections carries every byte both ways, passes on half-closes and slowness, and needs no help.

#[allow(clippy::unwrap_used, reason = "clippy does not count helpers as tests")]
mod cancelling;
mod support;

use std::sync::Arc;
use std::time::Duration;

use cancelling::drop_after;
use millstream::testing::{Pair, pair, pair_with_capacity};
use millstream::{ConnectOptions, RelayEnd, RelayOptions, Watermarks, relay};
use support::{Random, fresh_seed, run, run_on_threads, run_paused, tcp_pair};

fn tcp() -> (Pair, Pair) {
    let (one, other) = tcp_pair(&ConnectOptions::new());
    (one, ConnectOptions::new().adopt_tcp(other).expect("a connected socket"))
}

fn duplex(capacity: usize) -> (Pair, Pair) {
    let (one, other) = tokio::io::duplex(capacity);
    (millstream::from_io(one), millstream::from_io(other))
}

/// A client, the two sides of the proxy between, and a server.
fn path((client, a): (Pair, Pair), (b, server): (Pair, Pair)) -> [Pair; 4] {
    [client, a, b, server]
}

/// The same over each transport.
fn paths() -> Vec<(&'static str, [Pair; 4])> {
    vec![
        ("TCP", path(tcp(), tcp())),
        ("memory", path(pair(), pair())),
        ("7 bytes of memory to TCP", path(pair_with_capacity(7), tcp())),
        ("TCP to a duplex of 7 bytes", path(tcp(), duplex(7))),
        ("duplex to memory", path(duplex(64 * 1024), pair())),
    ]
}

/// Writes what the seed says and ends; reads what the other seed says. Bytes, not messages: sizes differ.
async fn talk((mut reader, writer): Pair, says: u64, hears: u64, len: usize) {
    let sends = async {
        let mut random = Random::new(says);
        let mut left = len;
        while left > 0 {
            let n = [1, 60, 3_000, 50_000, 200_000][random.below(5)].min(left);
            writer.write(&(0..n).map(|_| random.byte()).collect::<Vec<_>>()).expect("open");
            writer.drain().await.expect("open");
            left -= n;
        }
        writer.write_eof().expect("open");
    };
    let receives = async {
        let mut expected = expected_bytes(hears, len);
        loop {
            let got = reader.read(usize::MAX).await.expect("no failure");
            if got.is_empty() {
                break;
            }
            assert!(expected.starts_with(&got), "other bytes came");
            expected.drain(..got.len());
        }
        assert!(expected.is_empty(), "{} bytes are missing", expected.len());
    };
    tokio::join!(sends, receives);
}

/// What a talker with this seed says: the sizes cost a number each, as its bytes do.
fn expected_bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut all = Vec::with_capacity(len);
    while all.len() < len {
        let n = [1, 60, 3_000, 50_000, 200_000][random.below(5)].min(len - all.len());
        all.extend((0..n).map(|_| random.byte()));
    }
    all
}

#[test]
fn every_byte_comes_through_both_ways_over_every_transport() {
    let seed = fresh_seed();
    println!("seed {seed}");
    run(async {
        for (name, [client, mut a, mut b, server]) in paths() {
            println!("{name}");
            const LEN: usize = 700_000;
            let (there, back) = (seed, seed ^ 0xABCD);
            let client = tokio::spawn(talk(client, there, back, LEN));
            let server = tokio::spawn(talk(server, back, there, LEN));
            let relayed = relay((&mut a.0, &a.1), (&mut b.0, &b.1)).await;
            assert_eq!(relayed.end, RelayEnd::Complete);
            assert_eq!((relayed.a_to_b, relayed.b_to_a), (LEN as u64, LEN as u64));
            client.await.expect("all came");
            server.await.expect("all came");
        }
    });
}

#[test]
fn the_end_of_one_direction_is_passed_on_and_the_other_goes_on() {
    run(async {
        for (name, [mut client, mut a, mut b, mut server]) in paths() {
            println!("{name}");
            let proxy = async { relay((&mut a.0, &a.1), (&mut b.0, &b.1)).await };
            let peers = async {
                client.1.write(b"a question").unwrap();
                client.1.write_eof().unwrap();
                assert_eq!(server.0.read_to_end(100).await.unwrap(), "a question");
                for _ in 0..3 {
                    server.1.write(b"an answer").unwrap();
                    assert_eq!(client.0.read_exactly(9).await.unwrap(), "an answer");
                }
                server.1.write_eof().unwrap();
                assert!(client.0.read(1).await.unwrap().is_empty());
            };
            let (relayed, ()) = tokio::join!(proxy, peers);
            assert_eq!((relayed.a_to_b, relayed.b_to_a, relayed.end), (10, 27, RelayEnd::Complete));
        }
    });
}

#[test]
fn what_a_reader_has_buffered_already_goes_first() {
    run(async {
        let [client, (mut a_reader, a_writer), (mut b_reader, b_writer), mut server] = path(tcp(), tcp());
        client.1.write(b"CONNECT there\nbehind the head").unwrap();
        client.1.flush().unwrap();
        assert_eq!(a_reader.read_line().await.unwrap().as_deref(), Some(&b"CONNECT there\n"[..]));
        assert_eq!(a_reader.buffered(), b"behind the head");
        let proxy = relay((&mut a_reader, &a_writer), (&mut b_reader, &b_writer));
        let peers = async {
            assert_eq!(server.0.read_exactly(15).await.unwrap(), "behind the head");
            client.1.write(b" and more").unwrap();
            client.1.write_eof().unwrap();
            server.1.write_eof().unwrap();
            assert_eq!(server.0.read_to_end(100).await.unwrap(), " and more");
        };
        assert!(tokio::join!(proxy, peers).0.is_complete());
    });
}

#[test]
fn a_slow_side_stops_the_reading_of_the_other_and_memory_is_bounded_by_the_watermarks() {
    run_paused(async {
        for high in [100_000, 8 * 1024, 0] {
            let options = ConnectOptions::new().watermarks(Watermarks::new(high, high / 4).unwrap());
            let (client, (mut a_reader, a_writer)) = pair();
            let ((mut b_reader, b_writer), (mut server, _server_writer)) =
                millstream::testing::pair_with(&options).unwrap();
            client.1.write(&vec![7; 2_000_000]).unwrap();
            client.1.write_eof().unwrap();
            let b_stats = Arc::new(b_writer);
            let for_relay = Arc::clone(&b_stats);
            let proxy = tokio::spawn(async move {
                let relayed = relay((&mut a_reader, &a_writer), (&mut b_reader, &for_relay)).await;
                (relayed, a_reader.peak_buffered())
            });
            // Under the paused clock, time passes when nobody can do anything more.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let stuck = client.1.stats().bytes_written;
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(client.1.stats().bytes_written, stuck, "the client goes on sending");
            // Two pipes of 64 KiB, the receive buffer, and the queue.
            assert!(stuck <= 3 * 65_536 + high.max(8 * 1024) as u64, "{stuck} bytes have left the client");

            assert_eq!(server.read_exactly(2_000_000).await.unwrap().len(), 2_000_000);
            assert!(server.read(1).await.unwrap().is_empty());
            _server_writer.write_eof().unwrap();
            let (relayed, peak_read) = proxy.await.unwrap();
            assert!(relayed.is_complete());
            let peak_queued = b_stats.stats().peak_queued;
            assert!(
                peak_queued <= high.max(8 * 1024) + 1,
                "{peak_queued} bytes were queued, high mark {high}"
            );
            assert!(peak_read <= 65_536, "{peak_read} bytes were buffered");
        }
    });
}

#[test]
fn a_message_costs_one_receive_and_one_send_and_wakes_no_other_task() {
    run(async {
        let [mut client, mut a, mut b, mut server] = path(tcp(), tcp());
        let mut proxy = Box::pin(relay((&mut a.0, &a.1), (&mut b.0, &b.1)));
        for i in 0..100 {
            let peers = async {
                client.1.write(b"there").unwrap();
                client.1.flush().unwrap();
                assert_eq!(server.0.read_exactly(5).await.unwrap(), "there");
                server.1.write(b"back").unwrap();
                server.1.flush().unwrap();
                assert_eq!(client.0.read_exactly(4).await.unwrap(), "back");
            };
            tokio::select! {
                relayed = &mut proxy => panic!("ended in message {i}: {relayed:?}"),
                () = peers => {}
            }
        }
        drop(proxy);
        for (side, writer) in [("a", &a.1), ("b", &b.1)] {
            let stats = writer.stats();
            assert_eq!((stats.reads, stats.writes, stats.flusher_calls), (100, 100, 0), "{side}: {stats:?}");
        }
    });
}

#[test]
fn a_hundred_messages_that_arrive_together_leave_together() {
    run(async {
        let [client, mut a, mut b, mut server] = path(tcp(), tcp());
        for _ in 0..100 {
            client.1.write(b"0123456789").unwrap();
        }
        client.1.write_eof().unwrap();
        let proxy = relay((&mut a.0, &a.1), (&mut b.0, &b.1));
        let peers = async {
            assert_eq!(server.0.read_to_end(2_000).await.unwrap().len(), 1_000);
            server.1.write_eof().unwrap();
        };
        assert!(tokio::join!(proxy, peers).0.is_complete());
        assert_eq!(b.1.stats().writes, 1);
    });
}

#[test]
fn the_counters_can_be_read_while_the_relay_works() {
    run_paused(async {
        let [client, mut a, mut b, mut server] = path(pair(), pair());
        let proxy = relay((&mut a.0, &a.1), (&mut b.0, &b.1));
        let counters = proxy.counters();
        let peers = async {
            client.1.write(&[1; 300]).unwrap();
            server.0.read_exactly(300).await.unwrap();
            assert_eq!((counters.a_to_b(), counters.b_to_a()), (300, 0));
            client.1.write_eof().unwrap();
            server.1.write(&[2; 20]).unwrap();
            server.1.write_eof().unwrap();
        };
        let (relayed, ()) = tokio::join!(proxy, peers);
        assert_eq!((relayed.a_to_b, relayed.b_to_a), (300, 20));
        assert_eq!((counters.a_to_b(), counters.b_to_a()), (300, 20));
    });
}

#[test]
fn a_relay_that_is_dropped_after_any_number_of_polls_loses_nothing_and_a_new_one_goes_on() {
    let seed = fresh_seed();
    println!("seed {seed}");
    run_on_threads(async {
        let mut random = Random::new(seed);
        for (name, [client, mut a, mut b, server]) in paths() {
            println!("{name}");
            const LEN: usize = 300_000;
            let client = tokio::spawn(talk(client, seed, seed + 1, LEN));
            let server = tokio::spawn(talk(server, seed + 1, seed, LEN));
            let (mut there, mut back) = (0, 0);
            loop {
                let proxy = relay((&mut a.0, &a.1), (&mut b.0, &b.1));
                let counters = proxy.counters();
                let end = drop_after(1 + random.below(4), proxy).await;
                there += counters.a_to_b();
                back += counters.b_to_a();
                if let Some(relayed) = end {
                    assert!(relayed.is_complete(), "{relayed:?}");
                    break;
                }
                tokio::task::yield_now().await;
            }
            assert_eq!((there, back), (LEN as u64, LEN as u64));
            client.await.expect("all came");
            server.await.expect("all came");
        }
    });
}

#[test]
fn halves_of_different_connections_make_a_side_as_well() {
    run_paused(async {
        let [(mut client, client_says), mut a, (mut b_reader, _b_writer), (_server, server_says)] =
            path(pair(), pair());
        // What comes from the client goes to a third one, whose own reader nobody asks.
        let ((_c_reader, c_writer), (mut third, _third_says)) = pair();
        let proxy = relay((&mut a.0, &a.1), (&mut b_reader, &c_writer));
        let peers = async {
            client_says.write(b"to the third").unwrap();
            assert_eq!(third.read_exactly(12).await.unwrap(), "to the third");
            server_says.write(b"from the server").unwrap();
            assert_eq!(client.read_exactly(15).await.unwrap(), "from the server");
            client_says.write_eof().unwrap();
            server_says.write_eof().unwrap();
        };
        let both = async { tokio::join!(proxy, peers).0 };
        assert!(tokio::time::timeout(Duration::from_secs(1), both).await.expect("no wait").is_complete());
    });
}

#[test]
fn one_that_has_no_idle_timeout_waits_for_ever() {
    run_paused(async {
        let [_client, mut a, mut b, _server] = path(pair(), pair());
        let proxy = RelayOptions::new().idle_timeout(None).relay((&mut a.0, &a.1), (&mut b.0, &b.1));
        let year = Duration::from_secs(365 * 24 * 3600);
        assert!(tokio::time::timeout(year, proxy).await.is_err());
    });
}
