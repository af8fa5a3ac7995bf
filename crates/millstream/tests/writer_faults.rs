//! Rows W1 to W4 of the fault table: what a writer does with peers that do not read or read in crumbs, and with empty
//! and tiny messages.
//!
//! Ends and losses (W5 and W6) are in `writer_losses.rs`.
#![allow(clippy::unwrap_used, reason = "clippy does not count helpers as tests")]

mod support;

use std::io::Read;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use millstream::testing::{pair, pair_with_capacity, scripted_peer};
use millstream::{ConnectOptions, StreamWriter, WriteError};
use socket2::SockRef;
use support::{Random, tcp_pair};

const KIB: usize = 1024;

type WriteFn = fn(&StreamWriter, &[u8]) -> Result<(), WriteError>;

/// The ways to write one message.
const WRITES: [WriteFn; 3] = [
    |writer, message| writer.write(message),
    |writer, message| writer.write_bytes(message.to_vec()),
    |writer, message| {
        let (head, tail) = message.split_at(message.len() / 2);
        writer.write_lines(&[head, b"", tail])
    },
];

/// Bytes that tell their place.
fn pattern(len: usize) -> Vec<u8> {
    let mut random = Random::new(42);
    (0..len).map(|_| random.byte()).collect()
}

/// Whether the future completes with one poll.
fn is_ready<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

#[test]
fn w1_drain_waits_above_the_high_mark_until_the_low_one() {
    support::run(async {
        for write in WRITES {
            const MESSAGE: usize = 10_000;
            let ((_reader, writer), (mut peer, _writer)) = pair_with_capacity(KIB);
            let (high, low) = (writer.watermarks().high(), writer.watermarks().low());
            let mut written = 0;
            while is_ready(writer.drain()).is_some() {
                assert!(writer.stats().queued <= high, "drain did not wait");
                write(&writer, &[b'x'; MESSAGE]).unwrap();
                written += MESSAGE;
            }
            let queued = writer.stats().queued;
            assert!(high < queued && queued <= high + MESSAGE, "{queued} bytes queued");
            assert!(writer.stats().peak_queued <= high + MESSAGE, "{:?}", writer.stats());

            let mut drain = pin!(writer.drain());
            let mut read = 0;
            loop {
                let ready =
                    tokio::select! { biased; result = &mut drain => Some(result), () = async {} => None };
                let queued = writer.stats().queued;
                match ready {
                    Some(result) => break result.unwrap(),
                    None => assert!(queued > low, "drain waits with {queued} bytes queued"),
                }
                read += peer.read(100).await.unwrap().len();
                tokio::task::yield_now().await;
            }
            let queued = writer.stats().queued;
            assert!(queued <= low && low < queued + 2 * KIB, "drain went on with {queued} bytes queued");
            writer.close();
            assert_eq!(read + peer.read_to_end(written).await.unwrap().len(), written);
        }
    });
}

#[test]
fn w1_a_socket_whose_peer_never_reads_is_bounded_too() {
    support::run(async {
        for write in WRITES {
            const MESSAGE: usize = 30_000;
            let ((_reader, writer), mut peer) = tcp_pair(&ConnectOptions::new());
            let high = writer.watermarks().high();
            let mut written = 0;
            while let Ok(result) = tokio::time::timeout(Duration::from_millis(200), writer.drain()).await {
                result.unwrap();
                write(&writer, &[b'x'; MESSAGE]).unwrap();
                written += MESSAGE;
                assert!(written < 64 << 20, "drain never waits");
            }
            let stats = writer.stats();
            assert!(high < stats.peak_queued && stats.peak_queued <= high + MESSAGE, "{stats:?}");
            // The system takes a little more when its buffers have settled; drain waits for the low mark all the same.
            assert!(stats.queued > writer.watermarks().low(), "{stats:?}");
            let draining = tokio::spawn(async move {
                writer.drain().await.unwrap();
                assert!(writer.stats().queued <= writer.watermarks().low(), "{:?}", writer.stats());
                writer.close();
                writer.wait_closed().await.unwrap();
            });
            let reading = std::thread::spawn(move || peer.read_to_end(&mut Vec::new()).unwrap());
            draining.await.unwrap();
            assert_eq!(reading.join().unwrap(), written);
        }
    });
}

#[test]
fn w1_a_hard_cap_refuses_the_message_that_would_pass_it_whole() {
    support::run(async {
        for write in WRITES {
            const CAP: usize = 100_000;
            const MESSAGE: usize = 7_000;
            let ((_reader, writer), (mut peer, _writer)) = pair_with_capacity(KIB);
            writer.set_hard_cap(Some(CAP)).unwrap();
            let mut written = 0;
            let error = loop {
                match write(&writer, &[b'x'; MESSAGE]) {
                    Ok(()) => written += MESSAGE,
                    Err(error) => break error,
                }
            };
            let queued = writer.stats().queued;
            assert_eq!(error, WriteError::Full { len: MESSAGE, queued, hard_cap: CAP });
            assert!(queued <= CAP && queued + MESSAGE > CAP && writer.stats().peak_queued <= CAP);
            // The stream goes on: a smaller message still fits, and room comes back.
            let rest = CAP - queued;
            write(&writer, &vec![b'x'; rest]).unwrap();
            assert_eq!(write(&writer, b"x"), Err(WriteError::Full { len: 1, queued: CAP, hard_cap: CAP }));
            peer.skip((written / 2) as u64).await.unwrap();
            tokio::task::yield_now().await;
            write(&writer, &[b'x'; MESSAGE]).unwrap();
            writer.close();
            let all = written + rest + MESSAGE;
            assert_eq!(peer.read_to_end(all).await.unwrap().len(), all - written / 2);
        }
    });
}

/// Writes everything in messages of all sizes and kinds, small ones between large ones.
async fn write_in_pieces(writer: &StreamWriter, all: &[u8], seed: u64) {
    let mut random = Random::new(seed);
    let mut left = all;
    while !left.is_empty() {
        let most = [3, 100, 5 * KIB, 20 * KIB][random.below(4)];
        let (message, rest) = left.split_at(left.len().min(1 + random.below(most)));
        WRITES[random.below(3)](writer, message).unwrap();
        left = rest;
        if random.below(3) == 0 {
            writer.drain().await.unwrap();
        }
    }
}

#[test]
fn w2_sends_that_take_one_to_k_bytes_keep_every_byte_in_order() {
    support::run_paused(async {
        let all = pattern(40 * KIB);
        for most in (1..=9).chain([63, 64, 65, 1000, 4095, 4096, 4097, 16 * KIB]) {
            for capacity in [most, 64 * KIB] {
                let ((_reader, writer), peer) = scripted_peer(capacity);
                let peer = tokio::spawn(peer.take_at_most(most).expect(&all).expect_end().run());
                // A write that comes before the script has begun would not be cut.
                tokio::task::yield_now().await;
                write_in_pieces(&writer, &all, most as u64).await;
                writer.close();
                writer.wait_closed().await.unwrap();
                peer.await.unwrap().unwrap();
                assert!(writer.stats().writes >= (all.len() / most) as u64, "{most}: {:?}", writer.stats());
            }
        }
    });
}

#[test]
fn w2_sockets_with_tiny_buffers_keep_every_byte_in_order() {
    support::run(async {
        let all = pattern(2 << 20);
        for seed in [1, 2, support::fresh_seed()] {
            println!("seed {seed:#x}");
            let ((_reader, writer), mut peer) = tcp_pair(&ConnectOptions::new());
            writer.with_socket(|fd| SockRef::from(&fd).set_send_buffer_size(1)).unwrap().unwrap();
            // Less than a segment of the loopback's would bring the timers of silly-window avoidance into play.
            SockRef::from(&peer).set_recv_buffer_size(64 * KIB).unwrap();
            let reading = std::thread::spawn(move || {
                let (mut random, mut received, mut crumb) = (Random::new(seed), Vec::new(), [0; 5000]);
                loop {
                    let most = 1 + random.below(crumb.len());
                    match peer.read(&mut crumb[..most]).unwrap() {
                        0 => return received,
                        n => received.extend_from_slice(&crumb[..n]),
                    }
                }
            });
            write_in_pieces(&writer, &all, seed).await;
            writer.close();
            writer.wait_closed().await.unwrap();
            assert!(reading.join().unwrap() == all);
            assert!(writer.stats().stalls > 10, "nothing was ever cut: {:?}", writer.stats());
        }
    });
}

#[test]
fn w3_empty_messages_send_nothing_and_closing_completes() {
    support::run(async {
        for corked in [true, false] {
            let ((_reader, writer), (mut peer, _writer)) = pair();
            writer.cork(corked);
            for last in 0..2 {
                for _ in 0..100 {
                    writer.write(b"").unwrap();
                    writer.write_bytes(Bytes::new()).unwrap();
                    writer.write_lines::<&[u8]>(&[]).unwrap();
                    writer.write_lines(&[b"", b"", b""]).unwrap();
                    writer.drain().await.unwrap();
                    writer.flush().unwrap();
                }
                let stats = writer.stats();
                assert_eq!((stats.queued, stats.writes, stats.stalls), (0, last, 0), "corked: {corked}");
                if last == 0 {
                    writer.write_lines(&[&b""[..], b"something", b""]).unwrap();
                    writer.flush().unwrap();
                }
            }
            writer.close();
            writer.wait_closed().await.unwrap();
            assert_eq!(peer.read_to_end(100).await.unwrap(), "something");
        }
    });
}

#[test]
fn w3_a_million_tiny_messages_take_the_memory_of_their_bytes() {
    const COUNT: usize = 1_000_000;
    support::run(async {
        let ((_reader, writer), (mut peer, _writer)) = pair_with_capacity(64 * KIB);
        let before = support::restart_peak_memory();
        for n in 0..COUNT / 2 {
            writer.write(b"x").unwrap();
            writer.write_bytes(Bytes::from_static(b"y")).unwrap();
            if n % 10_000 == 0 {
                assert_eq!(writer.stats().queued as u64 + writer.stats().bytes_written, 2 * (n as u64 + 1));
            }
        }
        let rise = support::peak_memory().saturating_sub(before);
        assert!(rise < 4 * COUNT, "{rise} bytes of memory for {COUNT} queued ones");
        writer.close();
        let received = peer.read_to_end(COUNT).await.unwrap();
        assert!(received.len() == COUNT && received.chunks(2).all(|two| two == b"xy"));
        writer.wait_closed().await.unwrap();
    });
}

#[test]
fn w4_what_is_sent_is_what_was_written_whatever_becomes_of_it_afterwards() {
    support::run(async {
        let ((_reader, writer), (mut peer, _writer)) = pair_with_capacity(16);
        let mut expected = Vec::new();
        let mut message = vec![0; 20 * KIB];
        for letter in b'a'..=b'z' {
            for len in [1, 100, message.len()] {
                message.fill(letter);
                writer.write(&message[..len]).unwrap();
                writer.write_lines(&[&message[..len]]).unwrap();
                expected.extend(std::iter::repeat_n(letter, 2 * len));
                message.fill(b'!');
            }
        }
        writer.close();
        assert!(peer.read_to_end(expected.len()).await.unwrap() == expected);
    });
}
