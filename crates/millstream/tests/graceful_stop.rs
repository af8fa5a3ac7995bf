//! Stopping a server: idle connections end at once, work is finished, the deadline holds, and every call has its answer.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream::{Error, Server, ServerOptions, StreamReader, StreamWriter, testing};
use support::{echo, ping, run, run_on_threads};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

#[test]
fn idle_connections_end_at_once_whether_they_were_ever_used_or_not() {
    run(async {
        let server = millstream::start_server("127.0.0.1", 0, echo).await.unwrap();
        let mut used = Vec::new();
        for _ in 0..10 {
            let (mut reader, writer) = connect(&server).await;
            ping(&mut reader, &writer).await;
            used.push((reader, writer));
        }
        let mut silent = connect(&server).await;
        while server.connections() < 11 {
            tokio::task::yield_now().await;
        }
        let began = Instant::now();
        let ends = async {
            for (reader, _) in &mut used {
                assert_eq!(reader.read_line().await.unwrap(), None, "a clean end");
            }
            let used_over = began.elapsed();
            used.clear();
            assert_eq!(silent.0.read_line().await.unwrap(), None, "a clean end");
            drop(silent);
            used_over
        };
        let (stopped, used_over) = tokio::join!(server.stop(LONG), ends);
        assert_eq!((stopped.finished, stopped.idle, stopped.aborted), (0, 11, 0));
        assert!(used_over < Duration::from_millis(200), "those who have spoken waited {used_over:?}");
        assert!(began.elapsed() < LONG / 4, "{:?}", began.elapsed());
        server.wait_closed().await;
    });
}

#[test]
fn a_peer_that_was_just_accepted_gets_its_first_request_answered() {
    run(async {
        let server = millstream::start_server("127.0.0.1", 0, echo).await.unwrap();
        let (mut reader, writer) = connect(&server).await;
        while server.connections() < 1 {
            tokio::task::yield_now().await;
        }
        let talk = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            ping(&mut reader, &writer).await;
            assert_eq!(reader.read_line().await.unwrap(), None);
            drop((reader, writer));
        };
        let (stopped, ()) = tokio::join!(server.stop(LONG), talk);
        assert_eq!((stopped.finished, stopped.idle, stopped.aborted), (0, 1, 0));
    });
}

#[test]
fn a_request_of_which_a_part_was_read_is_no_idle_one_and_its_answer_arrives() {
    run(async {
        // The head is read and consumed, the body awaited: the buffer is empty, and nothing is queued.
        async fn serve(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
            while let Some(head) = reader.read_line().await? {
                let len = String::from_utf8_lossy(&head).trim().parse().expect("a length");
                let body = reader.read_exactly(len).await?;
                writer.write_bytes(body)?;
            }
            Ok(())
        }
        let server = millstream::start_server("127.0.0.1", 0, serve).await.unwrap();
        // Everything that a part of a request can be behind: nothing, an answered request in the same segment.
        let parts: [&[u8]; 5] = [b"5\n", b"5\nhe", b"5", b"3\none5\n", b"3\none5"];
        let mut clients = Vec::new();
        for part in parts {
            let (mut reader, writer) = connect(&server).await;
            writer.write(part).unwrap();
            writer.flush().unwrap();
            if part.starts_with(b"3") {
                assert_eq!(reader.read_exactly(3).await.unwrap(), "one");
            }
            clients.push((reader, writer, part));
        }
        settle().await;
        let talk = async {
            tokio::time::sleep(AFTER_THE_MOMENT).await;
            for (mut reader, writer, part) in clients {
                assert!(timeout(SHORT, reader.read(1)).await.is_err(), "{part:?} is no idle connection");
                let rest = String::from_utf8_lossy(part).rsplit('\n').next().unwrap_or_default().to_owned();
                let rest = match (part, rest.as_str()) {
                    (_, "5" | "one5") => "\nhello".to_owned(),
                    (_, begun) => "hello"[begun.len()..].to_owned(),
                };
                writer.write(rest.as_bytes()).unwrap();
                assert_eq!(reader.read_to_end(100).await.unwrap(), "hello", "{part:?}");
            }
        };
        let (stopped, ()) = tokio::join!(server.stop(LONG), talk);
        assert_eq!((stopped.finished, stopped.idle, stopped.aborted), (0, 5, 0));
    });
}

/// As above, for the reads that are not of lines.
#[test]
fn a_request_whose_head_has_a_fixed_length_is_no_idle_one_either() {
    run(async {
        async fn serve(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
            while reader.read_exactly(2).await.is_ok() {
                let body = reader.read_exactly(5).await?;
                writer.write_bytes(body)?;
            }
            Ok(())
        }
        let server = millstream::start_server("127.0.0.1", 0, serve).await.unwrap();
        let (mut reader, writer) = connect(&server).await;
        writer.write(b"hehelloHE").unwrap();
        assert_eq!(reader.read_exactly(5).await.unwrap(), "hello");
        let talk = async {
            assert!(timeout(AFTER_THE_MOMENT, reader.read(1)).await.is_err());
            writer.write(b"HELLO").unwrap();
            assert_eq!(reader.read_to_end(100).await.unwrap(), "HELLO");
            drop((reader, writer));
        };
        let (stopped, ()) = tokio::join!(server.stop(LONG), talk);
        assert_eq!((stopped.finished, stopped.idle, stopped.aborted), (0, 1, 0));
    });
}

#[test]
fn who_connects_while_a_server_stops_is_answered_by_it_or_left_to_its_successor() {
    run_on_threads(async {
        for round in 0..200 {
            let first = millstream::start_server("127.0.0.1", 0, echo).await.unwrap();
            let port = first.sockets()[0].port().unwrap();
            let socket = first.listeners().unwrap().remove(0).socket;
            let clients: Vec<_> = (0..8)
                .map(|n| {
                    tokio::spawn(async move {
                        for _ in 0..round % 10 * n {
                            tokio::task::yield_now().await;
                        }
                        let (mut reader, writer) =
                            millstream::open_connection("127.0.0.1", port).await.unwrap();
                        ping(&mut reader, &writer).await;
                    })
                })
                .collect();
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            let stopped = first.stop(LONG).await;
            assert_eq!(stopped.aborted, 0);
            let second = ServerOptions::new().start_on_tcp(socket.into(), echo).unwrap();
            for client in clients {
                client.await.expect("answered");
            }
            let (one, other) = (first.stats().accepted, second.stats().accepted);
            assert_eq!(one + other, 8, "round {round}");
            second.stop(LONG).await;
        }
    });
}

#[test]
fn a_connection_ends_in_the_moment_in_which_it_becomes_idle() {
    run(async {
        let (server, mut gone) = slow_server().await;
        let (mut reader, writer) = connect(&server).await;
        writer.write(b"work\n").unwrap();
        writer.flush().unwrap();
        let answer_now = gone.recv().await.unwrap();
        let talk = async {
            assert!(timeout(AFTER_THE_MOMENT, reader.read(1)).await.is_err(), "its handler works");
            answer_now.send(()).unwrap();
            assert_eq!(reader.read_line().await.unwrap().as_deref(), Some(&b"done\n"[..]));
            assert_eq!(reader.read_line().await.unwrap(), None);
            drop((reader, writer));
        };
        let (stopped, ()) = tokio::join!(server.stop(LONG), talk);
        assert_eq!((stopped.finished, stopped.idle, stopped.aborted), (0, 1, 0));
    });
}

/// The reader waits in one task while another has the answer: it becomes idle without its own doing.
#[test]
fn a_reader_that_waits_already_ends_when_another_task_has_answered() {
    async fn in_two_tasks(
        mut reader: StreamReader,
        writer: StreamWriter,
        go: mpsc::UnboundedSender<oneshot::Sender<usize>>,
        end: mpsc::UnboundedSender<()>,
    ) -> Result<(), Error> {
        let writer = Arc::new(writer);
        while reader.read_line().await?.is_some() {
            let (now, answer) = oneshot::channel();
            go.send(now).expect("the test waits");
            let writer = Arc::clone(&writer);
            tokio::spawn(async move {
                let len = answer.await.expect("the test says how much");
                writer.write(&vec![b'x'; len]).expect("open");
            });
        }
        end.send(()).expect("the test waits");
        Ok(())
    }
    // Corked; sent at once; more than the kernel takes before the peer reads; more than one turn.
    for len in [1, 20_000, 3_000_000, 20_000_000] {
        run(async move {
            let (go, mut gone) = mpsc::unbounded_channel();
            let (end, mut ended) = mpsc::unbounded_channel();
            let server = millstream::start_server("127.0.0.1", 0, move |r, w| {
                in_two_tasks(r, w, go.clone(), end.clone())
            })
            .await
            .unwrap();
            let (mut reader, writer) = connect(&server).await;
            writer.write(b"work\n").unwrap();
            writer.flush().unwrap();
            let answer_now = gone.recv().await.unwrap();
            let talk = async {
                assert!(timeout(AFTER_THE_MOMENT, reader.read(1)).await.is_err(), "it owes an answer");
                answer_now.send(len).unwrap();
                if len > 10_000_000 {
                    // Nobody reads, so the kernel does not take it all.
                    assert!(
                        timeout(SHORT, ended.recv()).await.is_err(),
                        "a part of the answer is still queued"
                    );
                }
                assert_eq!(reader.read_to_end(len).await.unwrap().len(), len);
                ended.recv().await.unwrap();
                drop((reader, writer));
            };
            let (stopped, ()) = tokio::join!(server.stop(LONG), talk);
            assert_eq!((stopped.finished, stopped.idle, stopped.aborted), (0, 1, 0), "{len} bytes");
        });
    }
}

#[test]
fn an_idle_handler_may_say_goodbye_and_every_kind_of_read_ends_as_at_the_end_of_the_stream() {
    async fn serve(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
        let kind = reader.read_line().await?.unwrap_or_default();
        writer.write(b"yes?\n")?;
        let is_end = match &kind[..] {
            b"line\n" => reader.read_line().await?.is_none(),
            b"some\n" => reader.read(10).await?.is_empty(),
            b"exactly\n" => reader.read_exactly(10).await.is_err_and(|error| error.is_clean_end()),
            b"until\n" => reader.read_until(b"\r\n").await?.is_none(),
            b"all\n" => reader.read_to_end(10).await?.is_empty(),
            b"peek\n" => reader.peek().await?.is_empty(),
            b"skip\n" => reader.skip(10).await.is_err(),
            _ => false,
        };
        writer.write(format!("goodbye {is_end} {}\n", reader.at_eof()).as_bytes())?;
        Ok(())
    }
    run(async {
        let server = millstream::start_server("127.0.0.1", 0, serve).await.unwrap();
        let mut clients = Vec::new();
        for kind in ["line", "some", "exactly", "until", "all", "peek", "skip"] {
            let (mut reader, writer) = connect(&server).await;
            writer.write(format!("{kind}\n").as_bytes()).unwrap();
            assert_eq!(reader.read_line().await.unwrap().as_deref(), Some(&b"yes?\n"[..]));
            clients.push((reader, writer, kind));
        }
        settle().await;
        let hear = async {
            for (mut reader, _writer, kind) in clients {
                assert_eq!(reader.read_to_end(100).await.unwrap(), "goodbye true true\n", "{kind}");
            }
        };
        let (stopped, ()) = tokio::join!(server.stop(LONG), hear);
        assert_eq!((stopped.finished, stopped.idle, stopped.aborted), (0, 7, 0));
    });
}

#[test]
fn with_end_idle_off_handlers_are_only_told() {
    run(async {
        let options = ServerOptions::new().end_idle_on_stop(false);
        let server = options.start("127.0.0.1", 0, until_told).await.unwrap();
        let (mut told, told_says) = connect(&server).await;
        ping(&mut told, &told_says).await;
        let deaf = options.start("127.0.0.1", 0, echo).await.unwrap();
        let (mut reader, writer) = connect(&deaf).await;
        ping(&mut reader, &writer).await;
        let hear = async {
            assert_eq!(told.read_to_end(100).await.unwrap(), "told\n");
            drop((told, told_says));
            ping(&mut reader, &writer).await;
            assert!(reader.read(1).await.is_err(), "reset at the deadline");
        };
        let (stopped, aborted, ()) = tokio::join!(server.stop(LONG), deaf.stop(4 * SHORT), hear);
        assert_eq!((stopped.finished, stopped.idle, stopped.aborted), (1, 0, 0));
        assert_eq!((aborted.finished, aborted.idle, aborted.aborted), (0, 0, 1));
    });
}

#[test]
fn the_token_tells_the_handlers_of_this_server_and_nobody_else() {
    run(async {
        let (give, mut given) = mpsc::unbounded_channel();
        let handler = move |reader: StreamReader, writer: StreamWriter| {
            give.send((reader.stopping(), writer.stopping())).unwrap();
            echo(reader, writer)
        };
        let server = millstream::start_server("127.0.0.1", 0, handler.clone()).await.unwrap();
        let other = millstream::start_server("127.0.0.1", 0, handler).await.unwrap();
        let (mut reader, writer) = connect(&server).await;
        ping(&mut reader, &writer).await;
        let (own, own_too) = given.recv().await.unwrap();
        let clients_own = reader.stopping();
        let (mut other_reader, other_writer) = connect(&other).await;
        ping(&mut other_reader, &other_writer).await;
        let (others, _) = given.recv().await.unwrap();
        assert!(!own.is_requested() && own.time_left().is_none());
        assert!(timeout(SHORT, own.requested()).await.is_err());

        let told = tokio::spawn({
            let own = own.clone();
            async move {
                own.requested().await;
                own.time_left()
            }
        });
        server.close();
        assert!(!own.is_requested(), "closing is not stopping");
        drop((reader, writer));
        assert_eq!(server.stop(LONG).await.aborted, 0);
        let left = told.await.unwrap().unwrap();
        assert!(LONG / 2 < left && left <= LONG, "{left:?}");
        own_too.requested().await;
        assert!(own.is_requested());
        for stranger in [clients_own, others, testing::pair().0.0.stopping()] {
            assert!(timeout(SHORT, stranger.requested()).await.is_err());
            assert!(!stranger.is_requested());
        }
        drop((other_reader, other_writer));
        other.stop(LONG).await;
        drop(server);
        own.requested().await;
    });
}

#[test]
fn what_does_not_end_is_cut_off_at_the_deadline_and_its_handler_dropped() {
    run_on_threads(async {
        async fn hang(reader: StreamReader, writer: StreamWriter, dropped: Dropped) {
            let _owned = (reader, writer, dropped);
            std::future::pending().await
        }
        let (tell, mut told) = mpsc::unbounded_channel();
        let handler = move |r: StreamReader, w: StreamWriter| hang(r, w, Dropped(tell.clone()));
        let server = millstream::start_server("127.0.0.1", 0, handler).await.unwrap();
        let (mut reader, _writer) = connect(&server).await;
        while server.connections() < 1 {
            tokio::task::yield_now().await;
        }
        let began = Instant::now();
        let stopped = server.stop(4 * SHORT).await;
        let took = began.elapsed();
        assert_eq!((stopped.finished, stopped.idle, stopped.aborted), (0, 0, 1));
        assert!(4 * SHORT <= took && took < 20 * SHORT, "{took:?}");
        assert_eq!(told.recv().await, Some(()), "the handler was dropped");
        assert!(reader.read(1).await.is_err(), "a reset");
        server.wait_closed().await;
    });
}

#[test]
fn one_that_has_closed_and_lingers_is_not_reset_at_the_deadline() {
    run(async {
        async fn answer(_reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
            Ok(writer.write(&[b'x'; 100_000])?)
        }
        let server = millstream::start_server("127.0.0.1", 0, answer).await.unwrap();
        // The peer holds its side open, and reads only when the server is gone; most of the answer is with the server's
        // kernel until then.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&server.sockets()[0].ip().unwrap().into()).unwrap();
        let (mut reader, writer) = millstream::ConnectOptions::new().adopt_tcp(socket.into()).unwrap();
        writer.write(b"hello\n").unwrap();
        writer.flush().unwrap();
        settle().await;
        assert_eq!(server.connections(), 1, "it lingers");
        let stopped = server.stop(SHORT).await;
        assert_eq!((stopped.finished, stopped.idle, stopped.aborted), (1, 0, 0));
        assert_eq!(reader.read_to_end(100_000).await.unwrap().len(), 100_000);
    });
}

#[test]
fn a_server_can_be_stopped_again_and_the_earliest_deadline_counts() {
    run(async {
        let hang = |r: StreamReader, w: StreamWriter| async move {
            let _owned = (r, w);
            std::future::pending::<()>().await
        };
        for (first, second) in
            [(LONG, 2 * SHORT), (2 * SHORT, LONG), (LONG, Duration::ZERO), (Duration::MAX, SHORT)]
        {
            let server = Arc::new(millstream::start_server("127.0.0.1", 0, hang).await.unwrap());
            let _client = connect(&server).await;
            while server.connections() < 1 {
                tokio::task::yield_now().await;
            }
            let began = Instant::now();
            let other = tokio::spawn({
                let server = Arc::clone(&server);
                async move { server.stop(first).await }
            });
            tokio::time::sleep(SHORT / 2).await;
            let stopped = server.stop(second).await;
            assert_eq!(other.await.unwrap(), stopped, "every call returns the same");
            assert_eq!((stopped.finished, stopped.idle, stopped.aborted), (0, 0, 1), "{first:?}, {second:?}");
            assert!(began.elapsed() < LONG / 2, "{first:?}, {second:?}: {:?}", began.elapsed());
            assert_eq!(server.stop(LONG).await, stopped, "a third one, after the end");
            server.wait_closed().await;
        }
    });
}

#[test]
fn a_stop_that_is_dropped_goes_on_and_so_it_does_without_its_server() {
    run(async {
        let (tell, mut told) = mpsc::unbounded_channel();
        let handler = move |r: StreamReader, w: StreamWriter| {
            let owned = (r, w, Dropped(tell.clone()));
            async move {
                let _owned = owned;
                std::future::pending::<()>().await
            }
        };
        let server = millstream::start_server("127.0.0.1", 0, handler).await.unwrap();
        drop(server.stop(Duration::ZERO));
        assert!(server.is_serving(), "what was never polled has not begun");
        let _client = connect(&server).await;
        while server.connections() < 1 {
            tokio::task::yield_now().await;
        }
        assert!(timeout(SHORT, server.stop(4 * SHORT)).await.is_err());
        assert!(!server.is_serving());
        drop(server);
        assert_eq!(told.recv().await, Some(()), "the handler was dropped at the deadline");
    });
}

#[test]
fn a_server_that_was_closed_or_never_served_can_be_stopped() {
    run(async {
        let server = ServerOptions::new().start_serving(false).start("127.0.0.1", 0, echo).await.unwrap();
        let stopped = server.stop(LONG).await;
        assert_eq!((stopped.finished, stopped.idle, stopped.aborted), (0, 0, 0));
        assert!(server.start_serving().is_err());

        let server = millstream::start_server("127.0.0.1", 0, echo).await.unwrap();
        let (mut reader, writer) = connect(&server).await;
        ping(&mut reader, &writer).await;
        server.close();
        ping(&mut reader, &writer).await;
        let end = async {
            assert_eq!(reader.read_line().await.unwrap(), None);
            drop((reader, writer));
        };
        let (stopped, ()) = tokio::join!(server.stop(LONG), end);
        assert_eq!((stopped.finished, stopped.idle, stopped.aborted), (0, 1, 0));
    });
}

#[test]
fn peers_that_go_by_themselves_are_not_counted_as_idle() {
    run(async {
        let (server, mut gone) = slow_server().await;
        let (mut reader, writer) = connect(&server).await;
        writer.write(b"work\n").unwrap();
        writer.write_eof().unwrap();
        let answer_now = gone.recv().await.unwrap();
        let talk = async {
            answer_now.send(()).unwrap();
            assert_eq!(reader.read_to_end(100).await.unwrap(), "done\n", "a half-closed peer is answered");
            drop((reader, writer));
        };
        let (stopped, ()) = tokio::join!(server.stop(LONG), talk);
        assert_eq!((stopped.finished, stopped.idle, stopped.aborted), (1, 0, 0));
    });
}

/// A server that works on each line until it is told to answer: by what comes out of the channel.
async fn slow_server() -> (Server, mpsc::UnboundedReceiver<oneshot::Sender<()>>) {
    let (go, gone) = mpsc::unbounded_channel();
    let handler = move |reader, writer| slow(reader, writer, go.clone());
    (millstream::start_server("127.0.0.1", 0, handler).await.expect("a free port"), gone)
}

/// Answers each line when it is told to.
async fn slow(
    mut reader: StreamReader,
    writer: StreamWriter,
    go: mpsc::UnboundedSender<oneshot::Sender<()>>,
) -> Result<(), Error> {
    while reader.read_line().await?.is_some() {
        let (now, answer) = oneshot::channel();
        go.send(now).expect("the test waits");
        answer.await.expect("the test answers");
        writer.write(b"done\n")?;
    }
    Ok(())
}

/// Echoes until it is told that the server stops.
async fn until_told(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
    let stopping = reader.stopping();
    loop {
        tokio::select! {
            line = reader.read_line() => match line? {
                Some(line) => writer.write(&line)?,
                None => return Ok(()),
            },
            () = stopping.requested() => return Ok(writer.write(b"told\n")?),
        }
    }
}

struct Dropped(mpsc::UnboundedSender<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

async fn connect(server: &Server) -> (StreamReader, StreamWriter) {
    let port = server.sockets()[0].port().expect("TCP");
    millstream::open_connection("127.0.0.1", port).await.expect("a living server")
}

/// Lets the server's tasks of this thread read what was sent.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// No test waits that long unless it fails.
const LONG: Duration = Duration::from_secs(20);
/// Longer than silent peers have, so that nothing but the connection's own doing can end it from then on.
const AFTER_THE_MOMENT: Duration = Duration::from_millis(350);
/// Long enough for what should not happen to happen.
const SHORT: Duration = Duration::from_millis(50);
