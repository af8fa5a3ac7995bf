//! Row X1 for everything but readers: draining, flushing, closing, connecting and serving, dropped after k polls for
//! each k until it completes, have cut no message and hurt nobody.
#![allow(clippy::unwrap_used, reason = "clippy does not count helpers as tests")]

mod cancelling;
mod support;

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use cancelling::{drop_after, poll_times};
use millstream::testing::pair_with_capacity;
use millstream::{ConnectOptions, Server, StreamReader, StreamWriter, open_connection, start_server};
use tokio::io::AsyncWriteExt;

const FIRST: &[u8] = b"the first message, ";
const SECOND: &[u8] = b"the second one";

/// What is dropped while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Drain,
    Flush,
    Shutdown,
    /// Waits as `drain` does, then queues its bytes.
    Write,
    WriteVectored,
    /// Closes, and waits for its end.
    Close,
}

const WAITS: [Wait; 6] =
    [Wait::Drain, Wait::Flush, Wait::Shutdown, Wait::Write, Wait::WriteVectored, Wait::Close];
/// What fits below the high watermark of 4 once the queue is down to 1.
const LATE: &[u8] = b"ah,";

async fn perform(wait: Wait, writer: &mut StreamWriter) {
    match wait {
        Wait::Drain => writer.drain().await.unwrap(),
        Wait::Flush => AsyncWriteExt::flush(writer).await.unwrap(),
        Wait::Shutdown => writer.shutdown().await.unwrap(),
        Wait::Write => assert_eq!(AsyncWriteExt::write(writer, LATE).await.unwrap(), LATE.len()),
        Wait::WriteVectored => {
            let (head, tail) = LATE.split_at(2);
            let slices = [std::io::IoSlice::new(head), std::io::IoSlice::new(tail)];
            assert_eq!(writer.write_vectored(&slices).await.unwrap(), LATE.len());
        }
        Wait::Close => {
            writer.close();
            writer.wait_closed().await.unwrap();
        }
    }
}

/// Cancels `wait` after `k` polls while the peer takes one byte after each poll. Returns whether it completed instead.
async fn completes(wait: Wait, k: usize) -> bool {
    let ((_reader, mut writer), (mut peer, _writer)) = pair_with_capacity(1);
    writer.set_watermarks(4, 1).unwrap();
    writer.write(FIRST).unwrap();
    let mut received = Vec::new();
    let done = poll_times(k, perform(wait, &mut writer), async || {
        if received.len() < FIRST.len() {
            received.extend_from_slice(&peer.read(1).await.unwrap());
        }
        // The driver's turn, to send the next byte.
        tokio::task::yield_now().await;
    })
    .await
    .is_some();

    let mut expected = FIRST.to_vec();
    if done && matches!(wait, Wait::Write | Wait::WriteVectored) {
        expected.extend_from_slice(LATE);
    }
    // Shutting down and closing are done by their first poll; only waiting for them was cancelled.
    if k == 0 || !matches!(wait, Wait::Shutdown | Wait::Close) {
        writer.write(SECOND).unwrap();
        expected.extend_from_slice(SECOND);
    } else {
        assert!(writer.write(SECOND).is_err());
    }
    writer.close();
    received.extend_from_slice(&peer.read_to_end(100).await.unwrap());
    writer.wait_closed().await.unwrap();
    assert_eq!(received.escape_ascii().to_string(), expected.escape_ascii().to_string(), "{wait:?}, {k}");
    done
}

#[test]
fn x1_every_wait_of_a_writer_can_be_dropped_after_any_poll_and_no_message_is_cut() {
    support::run(async {
        for wait in WAITS {
            let mut k = 0;
            while !completes(wait, k).await {
                k += 1;
                assert!(k <= 3 * FIRST.len(), "{wait:?} never completes");
            }
            assert!(k > 10, "{wait:?} was left waiting only {k} times");
        }
    });
}

#[test]
fn x1_a_drain_that_is_dropped_takes_no_wake_from_the_others() {
    support::run(async {
        for k in 0..FIRST.len() {
            let ((_reader, writer), (mut peer, _writer)) = pair_with_capacity(1);
            writer.set_watermarks(4, 1).unwrap();
            writer.write(FIRST).unwrap();
            let (before, after) = (writer.drain(), writer.drain());
            let world = async {
                let mut received = 0;
                let dropped = poll_times(k, writer.drain(), async || {
                    received += peer.read(1).await.unwrap().len();
                    tokio::task::yield_now().await;
                });
                dropped.await;
                peer.read_exactly(FIRST.len() - received).await.unwrap();
            };
            // Polled in this order: the one that is dropped waits between the others.
            let (before, (), after) = tokio::join!(biased; before, world, after);
            assert_eq!((before, after), (Ok(()), Ok(())), "{k}");
        }
    });
}

#[test]
fn x1_a_wait_that_is_dropped_keeps_no_waker() {
    /// Wakes nobody; its references are counted.
    struct Counted;
    impl Wake for Counted {
        fn wake(self: Arc<Self>) {}
    }
    support::run(async {
        let ((_reader, writer), _peer) = pair_with_capacity(1);
        writer.set_watermarks(4, 1).unwrap();
        writer.write(FIRST).unwrap();
        let counted = Arc::new(Counted);
        let waker = Waker::from(Arc::clone(&counted));
        let mut cx = Context::from_waker(&waker);
        let mut drains: Vec<_> = (0..10).map(|_| Box::pin(writer.drain())).collect();
        let mut closes: Vec<_> = (0..10).map(|_| Box::pin(writer.wait_closed())).collect();
        for waiting in (1..=10).rev() {
            assert!(drains.iter_mut().all(|drain| drain.as_mut().poll(&mut cx).is_pending()));
            assert!(closes.iter_mut().all(|close| close.as_mut().poll(&mut cx).is_pending()));
            assert_eq!(Arc::strong_count(&counted), 2 + 2 * waiting);
            // Not in the order they came.
            drop((drains.swap_remove(waiting / 2), closes.remove(0)));
            assert_eq!(Arc::strong_count(&counted), 2 * waiting);
        }
    });
}

async fn echo(mut reader: StreamReader, writer: StreamWriter) -> Result<(), millstream::Error> {
    while let Some(line) = reader.read_line().await? {
        writer.write_bytes(line)?;
        writer.drain().await?;
    }
    Ok(())
}

async fn echo_server() -> (Server, u16) {
    let server = start_server("127.0.0.1", 0, echo).await.expect("a port");
    let port = server.sockets()[0].port().expect("TCP");
    (server, port)
}

async fn is_answered((reader, writer): &mut (StreamReader, StreamWriter)) {
    StreamWriter::write(writer, b"anyone there?\n").unwrap();
    assert_eq!(reader.read_line().await.unwrap().unwrap(), "anyone there?\n");
}

async fn close(server: Server) {
    server.close();
    server.wait_closed().await;
}

#[test]
fn x1_connecting_can_be_dropped_after_any_poll_and_leaves_nothing_behind() {
    support::run(async {
        let (server, port) = echo_server().await;
        let dead_end = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // By number; by name, which is a lookup; with a local address; and in vain.
        for way in 0..4 {
            let options = match way {
                2 => ConnectOptions::new().local_address("127.0.0.1:0".parse().unwrap()),
                _ => ConnectOptions::new(),
            };
            let host = if way == 1 { "localhost" } else { "127.0.0.1" };
            let port = if way == 3 { dead_end } else { port };
            let mut k = 0;
            let result = loop {
                if let Some(result) = drop_after(k, options.open(host, port)).await {
                    break result;
                }
                k += 1;
                assert!(k < 100, "connecting never completes");
            };
            assert!(k >= 1);
            match result {
                Ok(mut pair) => is_answered(&mut pair).await,
                Err(error) => assert!(way == 3, "{error}"),
            }
        }
        close(server).await;
    });
}

/// What happens to a server while someone waits for it.
async fn step(n: usize, server: &Server, client: &mut Option<(StreamReader, StreamWriter)>) {
    match (n, &mut *client) {
        (0 | 2, Some(client)) => is_answered(client).await,
        (1, _) => server.close(),
        (_, _) => drop(client.take()),
    }
    tokio::task::yield_now().await;
}

#[test]
fn x1_waiting_for_a_server_can_be_dropped_after_any_poll_and_the_server_lives_on() {
    support::run(async {
        for forever in [false, true] {
            let mut k = 0;
            loop {
                let (server, port) = echo_server().await;
                let mut client = Some(open_connection("127.0.0.1", port).await.unwrap());
                let wait = async {
                    if forever {
                        server.serve_forever().await.unwrap();
                    } else {
                        server.wait_closed().await;
                    }
                };
                let mut steps = 0;
                let done = poll_times(k, wait, async || {
                    step(steps, &server, &mut client).await;
                    steps += 1;
                })
                .await;
                assert_eq!(server.is_serving(), steps < 2, "after {k} polls");
                if done.is_some() {
                    assert!(steps >= 2, "nobody has closed the server yet");
                    drop(client);
                    server.wait_closed().await;
                    break;
                }
                for n in steps..5 {
                    step(n, &server, &mut client).await;
                }
                server.wait_closed().await;
                k += 1;
                assert!(k < 200, "waiting for the server never completes");
            }
            assert!(k >= 2);
        }
    });
}
