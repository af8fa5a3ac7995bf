//! What a turn is: the threshold, the uncorked writer, the wakes of the flusher, the share of one connection.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::task::Poll;
use std::time::Duration;

use millstream::{ConnectOptions, StreamReader, testing};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::harness::{PATIENCE, Place, announcing};
use crate::support;

/// The cork's threshold, and the share of one connection in a turn, as the contract gives them.
const THRESHOLD: usize = 16 * 1024;
const SHARE: u64 = 256 * 1024;
/// The most of one message that is sent from where it is.
const MESSAGE: u64 = 1024 * 1024;

#[test]
fn what_passes_the_threshold_leaves_before_the_turn_ends() {
    support::run(async {
        let ((_reader, writer), mut peer) = support::tcp_pair(&ConnectOptions::new());
        let data = [7; THRESHOLD];
        writer.write(&data[1..]).expect("the peer is there");
        assert_eq!((writer.stats().writes, writer.stats().queued), (0, THRESHOLD - 1));
        writer.write(&data[..1]).expect("the peer is there");
        assert_eq!((writer.stats().writes, writer.stats().queued), (1, 0));
        writer.write_bytes(data.to_vec()).expect("the peer is there");
        assert_eq!((writer.stats().writes, writer.stats().queued), (2, 0));
        writer.write_lines(&[&data[..THRESHOLD / 2], &data[..THRESHOLD / 2]]).expect("the peer is there");
        assert_eq!((writer.stats().writes, writer.stats().queued), (3, 0));
        peer.read_exact(&mut [0; 3 * THRESHOLD]).expect("all of it was sent");
    });
}

#[test]
fn an_uncorked_writer_sends_each_message_at_once() {
    support::run(async {
        let ((_reader, writer), mut peer) = support::tcp_pair(&ConnectOptions::new());
        writer.write(b"corked ").expect("the peer is there");
        assert_eq!(writer.stats().writes, 0);
        writer.cork(false);
        assert_eq!(writer.stats().writes, 1, "what was corked leaves with the cork");
        for sends in 2..=10 {
            writer.write(b"x").expect("the peer is there");
            assert_eq!(writer.stats().writes, sends);
        }
        writer.cork(true);
        writer.write(b"corked again").expect("the peer is there");
        assert_eq!(writer.stats().writes, 10);
        peer.read_exact(&mut [0; 16]).expect("all of it was sent");
    });
}

#[test]
fn a_message_of_more_than_a_share_leaves_without_a_copy_and_uses_the_share_up() {
    support::run(async {
        let ((_reader, writer), _peer) = testing::pair_with_capacity(4 * 1024 * 1024);
        let message = vec![7; 1024 * 1024];
        writer.write(&message).expect("the peer is there");
        assert_eq!((writer.stats().writes, writer.stats().queued), (1, 0));
        writer.write(&message).expect("the peer is there");
        assert_eq!((writer.stats().writes, writer.stats().queued), (1, message.len()));
        writer.drain().await.expect("the peer is there");
        assert!(writer.stats().writes > 1);
    });
}

#[test]
fn flush_sends_on_a_connection_that_the_runtime_has_not_looked_at_yet() {
    support::run(async {
        let ((_reader, writer), mut peer) = support::tcp_pair(&ConnectOptions::new());
        peer.set_read_timeout(Some(PATIENCE)).expect("a TCP socket");
        for greeting in ["220 example\n", "220 still no await\n"] {
            writer.write(greeting.as_bytes()).expect("the peer is there");
            writer.flush().expect("the peer is there");
            peer.read_exact(&mut vec![0; greeting.len()]).expect("it was sent");
        }
        assert_eq!((writer.stats().writes, writer.stats().stalls), (2, 0));
    });
}

#[test]
fn nothing_corked_ever_waits_for_a_timer() {
    support::run_paused(async {
        let start = Instant::now();
        // The reader is parked when another task writes.
        let ((mut reader, writer), (mut far_reader, far_writer)) = testing::pair();
        let parked = Arc::new(Notify::new());
        let reader_parked = Arc::clone(&parked);
        let reading = tokio::spawn(async move { announcing(&reader_parked, reader.read_line()).await });
        parked.notified().await;
        writer.write(b"request\n").expect("open");
        assert_eq!(far_reader.read_line().await.expect("open").as_deref(), Some(&b"request\n"[..]));
        far_writer.write(b"answer\n").expect("open");
        // The writing task waits for something else.
        assert_eq!(reading.await.expect("no panic").expect("open").as_deref(), Some(&b"answer\n"[..]));
        assert_eq!(start.elapsed(), Duration::ZERO);

        // The writing task sleeps.
        let ((_reader, writer), (mut far_reader, _far_writer)) = testing::pair();
        let sleeping = tokio::spawn(async move {
            writer.write(b"before the hour\n").expect("open");
            tokio::time::sleep(Duration::from_secs(3600)).await;
        });
        far_reader.read_line().await.expect("open").expect("a line");
        assert_eq!(start.elapsed(), Duration::ZERO);
        sleeping.abort();

        // The writer is dropped.
        let ((_reader, writer), (mut far_reader, _far_writer)) = testing::pair();
        writer.write(b"last words").expect("open");
        drop(writer);
        assert_eq!(far_reader.read_to_end(100).await.expect("open"), "last words");
        assert_eq!(start.elapsed(), Duration::ZERO);
    });
}

#[test]
fn a_write_from_a_thread_outside_any_runtime_wakes_the_flusher() {
    Place::MultiThread.run(|setting| async move {
        let got = Arc::new(Notify::new());
        let peer_got = Arc::clone(&got);
        let mut peer = setting
            .connect(move |reader, writer| async move {
                let outside = std::thread::spawn(move || {
                    writer.write(b"from outside\n").expect("the peer is there");
                    writer
                });
                // Its drop would send as well.
                peer_got.notified().await;
                drop((reader, outside.join().expect("no panic in the thread")));
            })
            .await;
        peer.talk(move |socket| {
            let mut bytes = [0; 13];
            socket.read_exact(&mut bytes)?;
            assert_eq!(&bytes, b"from outside\n");
            got.notify_one();
            Ok(())
        })
        .await;
    });
}

#[test]
fn a_thousand_writes_in_one_turn_ask_for_one_wake_and_make_one_send() {
    Place::CurrentThread.run(|setting| async move {
        let (done, finished) = tokio::sync::oneshot::channel();
        let mut peer = setting
            .connect(move |mut reader, writer| async move {
                let before = writer.stats();
                for turn in 1..=5 {
                    assert_eq!(reader.read_exactly(1).await.expect("the peer is there"), "?");
                    for _ in 0..1000 {
                        writer.write(b"ten bytes\n").expect("the peer is there");
                    }
                    let calls = writer.stats().flusher_calls - before.flusher_calls;
                    assert!(calls <= turn, "{setting:?}: {calls}");
                }
                let _ = reader.read(1).await;
                done.send(writer.stats().writes - before.writes).expect("the test waits for it");
            })
            .await;
        peer.talk(|socket| {
            for _ in 0..5 {
                socket.write_all(b"?")?;
                socket.read_exact(&mut [0; 10_000])?;
            }
            socket.end()
        })
        .await;
        assert_eq!(finished.await, Ok(5), "{setting:?}");
    });
}

#[test]
fn a_dropped_writer_still_delivers_what_was_corked() {
    Place::CurrentThread.run(|setting| async move {
        let mut peer = setting
            .connect(|reader, writer| async move {
                let writes = writer.stats().writes;
                writer.write(b"last words").expect("the peer is there");
                assert_eq!(writer.stats().writes, writes);
                drop((reader, writer));
            })
            .await;
        let heard = peer.talk(|socket| {
            let mut all = String::new();
            socket.read_to_string(&mut all).map(|_| all)
        });
        assert_eq!(heard.await, "last words");
    });
}

#[test]
fn messages_of_several_threads_stay_whole_and_in_their_order() {
    const THREADS: usize = 4;
    const MESSAGES: usize = 5000;
    Place::MultiThread.run(|setting| async move {
        let mut peer = setting
            .connect(move |mut reader, writer| async move {
                let (writer, start) = (Arc::new(writer), Arc::new(Barrier::new(THREADS)));
                let threads = [0, 1, 2, 3].map(|thread| {
                    let (writer, start) = (Arc::clone(&writer), Arc::clone(&start));
                    std::thread::spawn(move || {
                        start.wait();
                        for number in 0..MESSAGES {
                            let message = format!("{thread} {number} {}\n", "x".repeat(number % 100));
                            writer.write(message.as_bytes()).expect("the peer is there");
                        }
                    })
                });
                // Until the peer has all of it; the reader flushes as well, whenever it waits.
                assert_eq!(reader.read(1).await.expect("the peer is there"), "!");
                for thread in threads {
                    thread.join().expect("no panic in a thread");
                }
            })
            .await;
        peer.talk(|socket| {
            let mut lines = std::io::BufRead::lines(std::io::BufReader::new(&mut *socket));
            let mut next = [0; THREADS];
            for _ in 0..THREADS * MESSAGES {
                let line = lines.next().expect("more")?;
                let words: Vec<&str> = line.split(' ').collect();
                let thread: usize = words[0].parse().expect("whole lines");
                let expected = format!("{thread} {} {}", next[thread], "x".repeat(next[thread] % 100));
                assert_eq!(line, expected);
                next[thread] += 1;
            }
            socket.write_all(b"!")
        })
        .await;
    });
}

#[test]
fn a_bulk_writer_gives_way_after_its_share() {
    // Its own turn and that of its flusher.
    gives_way_after(2 * SHARE + 64 * 1024, 64 * 1024, false);
}

#[test]
fn a_bulk_writer_that_flushes_each_message_gives_way_all_the_same() {
    gives_way_after(2 * SHARE + 64 * 1024, 64 * 1024, true);
}

#[test]
fn a_writer_of_messages_larger_than_its_share_gives_way_after_each() {
    gives_way_after(2 * SHARE + MESSAGE, 1024 * 1024, false);
    gives_way_after(2 * SHARE + MESSAGE, 1024 * 1024, true);
}

/// Waits for the task's next turn, in the queue with all others; `yield_now` would wait until they are all done.
async fn come_round() {
    let mut was_polled = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut was_polled, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Checks how many bytes a handler sends that writes messages of `len` bytes, before others have their turn.
fn gives_way_after(most_allowed: u64, len: usize, flushes: bool) {
    Place::CurrentThread.run(move |setting| async move {
        let (over, (give, given)) = (Arc::new(AtomicBool::new(false)), oneshot::channel());
        let bulk_over = Arc::clone(&over);
        let mut peer = setting
            .connect(move |_reader, writer| async move {
                let writer = Arc::new(writer);
                assert!(give.send(Arc::clone(&writer)).is_ok(), "the test waits for it");
                let message = vec![7; len];
                for _ in 0..BULK / message.len() {
                    writer.write(&message).expect("the peer is there");
                    if flushes {
                        writer.flush().expect("the peer is there");
                    }
                    writer.drain().await.expect("the peer is there");
                }
                bulk_over.store(true, Ordering::Relaxed);
            })
            .await;
        // A task that is always ready comes round once in each turn of the runtime.
        let other = tokio::spawn(async move {
            let writer = given.await.expect("the handler gives it");
            let (mut before, mut most) = (writer.stats().bytes_written, 0);
            while !over.load(Ordering::Relaxed) {
                come_round().await;
                let now = writer.stats().bytes_written;
                most = most.max(now - before);
                before = now;
            }
            most
        });
        let received = peer.talk(|socket| std::io::copy(socket, &mut std::io::sink()));
        assert_eq!(received.await, BULK as u64);
        let most = other.await.expect("no panic");
        assert!(
            most <= most_allowed,
            "{setting:?}, {len} bytes each: {most} bytes before others had their turn"
        );
    });
}

#[test]
fn a_ping_pong_goes_on_beside_an_endless_bulk_writer() {
    Place::CurrentThread.run(|setting| async move {
        let over = Arc::new(AtomicBool::new(false));
        let bulk_over = Arc::clone(&over);
        let mut bulk = setting
            .connect(move |_reader, writer| async move {
                // Ends only when the other connection got through.
                while !bulk_over.load(Ordering::Relaxed) {
                    writer.write(&[7; 1000]).expect("the peer is there");
                    writer.drain().await.expect("the peer is there");
                }
            })
            .await;
        let mut pings = setting.connect(echo).await;
        let playing = pings.talk(|socket| {
            for _ in 0..200 {
                socket.write_all(b"ping\n")?;
                socket.read_exact(&mut [0; 5])?;
            }
            Ok(())
        });
        let playing = async {
            playing.await;
            over.store(true, Ordering::Relaxed);
        };
        tokio::join!(bulk.talk(|socket| std::io::copy(socket, &mut std::io::sink())), playing);
    });
}

async fn echo(mut reader: StreamReader, writer: millstream::StreamWriter) {
    while let Some(line) = reader.read_line().await.expect("lines") {
        writer.write(&line).expect("the peer is there");
        writer.drain().await.expect("the peer is there");
    }
}

const BULK: usize = 64 * 1024 * 1024;
