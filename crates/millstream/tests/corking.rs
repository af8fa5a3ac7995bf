//! The cases in which corked bytes have to leave, over real sockets, on every kind of runtime, served and opened, plain and
//! over TLS.
//!
//! A case in which bytes must not be held back is a deadlock if they are: what goes on waits for the peer, which waits
//! for the bytes.

#[path = "corking/harness.rs"]
mod harness;
mod support;
#[path = "corking/turns.rs"]
mod turns;
#[path = "corking/wire.rs"]
mod wire;

use std::io::{Read, Write};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use millstream::{ConnectOptions, Stats, StreamWriter};
use tokio::sync::{Notify, oneshot};

use harness::{PATIENCE, Place, Setting, announcing};

const LINE: [u8; 64] = *b"a line of 64 bytes with its line feed, as in the measurements..\n";

macro_rules! on_every_runtime {
    ($($case:ident),* $(,)?) => {
        mod on_a_current_thread_runtime {
            $(#[test] fn $case() { super::Place::CurrentThread.run(super::$case) })*
        }
        mod on_a_multi_thread_runtime {
            $(#[test] fn $case() { super::Place::MultiThread.run(super::$case) })*
        }
        mod in_a_local_set {
            $(#[test] fn $case() { super::Place::LocalSet.run(super::$case) })*
        }
    };
}

on_every_runtime! {
    a_hundred_pipelined_lines_are_answered_in_at_most_two_sends,
    four_writes_in_one_answer_are_one_send,
    a_write_leaves_while_the_reader_is_parked_in_another_task,
    what_a_proxy_writes_to_one_side_leaves_while_it_waits_for_the_other,
    what_a_spawned_task_writes_leaves_after_the_handler_has_returned,
    what_was_written_before_a_sleep_arrives_before_the_sleep_ends,
    a_handler_that_blocks_its_thread_sends_when_it_gives_control_back,
    flush_sends_before_the_handler_blocks_its_thread,
}

async fn a_hundred_pipelined_lines_are_answered_in_at_most_two_sends(setting: Setting) {
    let (done, finished) = oneshot::channel();
    let mut peer = setting
        .connect(|mut reader, writer| async move {
            let before = writer.stats();
            while let Some(line) = reader.read_line().await.expect("lines") {
                writer.write(&line).expect("the peer is there");
                writer.drain().await.expect("the peer is there");
            }
            done.send(calls_since(&before, &writer)).expect("the test waits for it");
        })
        .await;
    peer.talk(|socket| {
        let lines = LINE.repeat(100);
        socket.write_all(&lines)?;
        let mut answers = vec![0; lines.len()];
        socket.read_exact(&mut answers)?;
        assert_eq!(answers, lines);
        socket.end()
    })
    .await;
    let (reads, writes) = finished.await.expect("the handler ends");
    assert_eq!(reads, 2, "{setting:?}: one segment and the end");
    assert!(writes <= 2, "{setting:?}: {writes} sends");
}

async fn four_writes_in_one_answer_are_one_send(setting: Setting) {
    let (done, finished) = oneshot::channel();
    let mut peer = setting
        .connect(|mut reader, writer| async move {
            let before = writer.stats();
            while reader.read_line().await.expect("lines").is_some() {
                for piece in [&b"status: "[..], b"fine", b"\r\n", b"\r\n"] {
                    writer.write(piece).expect("the peer is there");
                }
            }
            done.send(calls_since(&before, &writer)).expect("the test waits for it");
        })
        .await;
    peer.talk(|socket| {
        for _ in 0..ROUNDS {
            socket.write_all(b"how are you?\n")?;
            let mut answer = [0; 16];
            socket.read_exact(&mut answer)?;
            assert_eq!(&answer, b"status: fine\r\n\r\n");
        }
        socket.end()
    })
    .await;
    let calls = finished.await.expect("the handler ends");
    assert_eq!(calls, (ROUNDS + 1, ROUNDS), "{setting:?}");
}

/// The RPC client: one task reads answers, others write requests.
async fn a_write_leaves_while_the_reader_is_parked_in_another_task(setting: Setting) {
    let over = Arc::new(Notify::new());
    let peer_over = Arc::clone(&over);
    let mut peer = setting
        .connect(move |mut reader, writer| async move {
            let parked = Arc::new(Notify::new());
            let reader_parked = Arc::clone(&parked);
            setting.spawn(async move {
                for _ in 0..ROUNDS {
                    reader_parked.notified().await;
                    writer.write(b"request\n").expect("the peer is there");
                }
                // Its drop would send as well.
                peer_over.notified().await;
            });
            for _ in 0..ROUNDS {
                let answer = announcing(&parked, reader.read_line()).await.expect("the peer is there");
                assert_eq!(answer.as_deref(), Some(&b"answer\n"[..]));
            }
        })
        .await;
    peer.talk(move |socket| {
        for _ in 0..ROUNDS {
            let mut request = [0; 8];
            socket.read_exact(&mut request)?;
            assert_eq!(&request, b"request\n");
            socket.write_all(b"answer\n")?;
        }
        over.notify_one();
        Ok(())
    })
    .await;
}

async fn what_a_proxy_writes_to_one_side_leaves_while_it_waits_for_the_other(setting: Setting) {
    let (upstream, other_end) = oneshot::channel();
    let mut client = setting
        .connect(|reader, writer| async move {
            let ((mut from_upstream, to_upstream), socket) = support::tcp_pair(&ConnectOptions::new());
            upstream.send(socket).expect("the test waits for it");
            for _ in 0..ROUNDS {
                writer.write(b"please hold\n").expect("the client is there");
                to_upstream.write(b"question\n").expect("the upstream is there");
                let answer = from_upstream.read_line().await.expect("the upstream is there");
                writer.write(&answer.expect("an answer")).expect("the client is there");
            }
            drop(reader);
        })
        .await;
    let mut upstream = other_end.await.expect("the handler runs");
    client
        .talk(move |client| {
            for _ in 0..ROUNDS {
                let mut hold = [0; 12];
                client.read_exact(&mut hold)?;
                assert_eq!(&hold, b"please hold\n");
                let mut question = [0; 9];
                upstream.read_exact(&mut question)?;
                upstream.write_all(b"answer\n")?;
                let mut answer = [0; 7];
                client.read_exact(&mut answer)?;
                assert_eq!(&answer, b"answer\n");
            }
            Ok(())
        })
        .await;
}

async fn what_a_spawned_task_writes_leaves_after_the_handler_has_returned(setting: Setting) {
    let got = Arc::new(Notify::new());
    let peer_got = Arc::clone(&got);
    let mut peer = setting
        .connect(move |reader, writer| async move {
            let returning = Arc::new(Notify::new());
            let returned = Arc::clone(&returning);
            setting.spawn(async move {
                returned.notified().await;
                for _ in 0..ROUNDS {
                    writer.write(b"late\n").expect("the peer is there");
                    peer_got.notified().await;
                }
            });
            drop(reader);
            returning.notify_one();
        })
        .await;
    peer.talk(move |socket| {
        for _ in 0..ROUNDS {
            let mut late = [0; 5];
            socket.read_exact(&mut late)?;
            assert_eq!(&late, b"late\n");
            got.notify_one();
        }
        Ok(())
    })
    .await;
}

async fn what_was_written_before_a_sleep_arrives_before_the_sleep_ends(setting: Setting) {
    let got = Arc::new(Notify::new());
    let peer_got = Arc::clone(&got);
    let mut peer = setting
        .connect(move |_reader, writer| async move {
            for _ in 0..ROUNDS {
                writer.write(b"early\n").expect("the peer is there");
                tokio::select! {
                    () = peer_got.notified() => {}
                    () = tokio::time::sleep(PATIENCE) => panic!("the peer had nothing when the sleep ended"),
                }
            }
        })
        .await;
    peer.talk(move |socket| {
        for _ in 0..ROUNDS {
            let mut early = [0; 6];
            socket.read_exact(&mut early)?;
            assert_eq!(&early, b"early\n");
            got.notify_one();
        }
        Ok(())
    })
    .await;
}

async fn a_handler_that_blocks_its_thread_sends_when_it_gives_control_back(setting: Setting) {
    let got = Arc::new(Notify::new());
    let peer_got = Arc::clone(&got);
    let mut peer = setting
        .connect(move |_reader, writer| async move {
            for _ in 0..3 {
                writer.write(b"after the block\n").expect("the peer is there");
                std::thread::sleep(Duration::from_millis(50));
                // Any await that has to wait is control given back.
                peer_got.notified().await;
            }
        })
        .await;
    peer.talk(move |socket| {
        for _ in 0..3 {
            let mut bytes = [0; 16];
            socket.read_exact(&mut bytes)?;
            assert_eq!(&bytes, b"after the block\n");
            got.notify_one();
        }
        Ok(())
    })
    .await;
}

async fn flush_sends_before_the_handler_blocks_its_thread(setting: Setting) {
    let (peer_has, has) = mpsc::channel();
    let mut peer = setting
        .connect(move |mut reader, writer| async move {
            // Only once the peer's thread is at work: this thread will do nothing else.
            let _ = reader.read_line().await;
            for _ in 0..ROUNDS {
                writer.write(b"before the block\n").expect("the peer is there");
                writer.flush().expect("the peer is there");
                has.recv_timeout(PATIENCE).expect("flush sends at once");
            }
        })
        .await;
    peer.talk(move |socket| {
        socket.write_all(b"go\n")?;
        for _ in 0..ROUNDS {
            let mut bytes = [0; 17];
            socket.read_exact(&mut bytes)?;
            assert_eq!(&bytes, b"before the block\n");
            peer_has.send(()).expect("the handler waits for it");
        }
        Ok(())
    })
    .await;
}

/// How many receives and sends there were since then.
fn calls_since(before: &Stats, writer: &StreamWriter) -> (u64, u64) {
    let now = writer.stats();
    (now.reads - before.reads, now.writes - before.writes)
}

/// Once could be luck.
const ROUNDS: u64 = 20;
