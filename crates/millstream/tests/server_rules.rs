//! What a server promises when nothing fails: starting, serving and closing, by CPython 3.13's rules.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use millstream::{ServeError, Server, ServerOptions, StreamReader, StreamWriter};
use support::{echo, ping, run, run_on_threads};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

#[test]
fn a_server_that_does_not_serve_yet_refuses_and_then_serves() {
    run(async {
        let server = ServerOptions::new().start_serving(false).start("127.0.0.1", 0, echo).await.unwrap();
        assert!(!server.is_serving());
        let port = port(&server);
        assert!(millstream::open_connection("127.0.0.1", port).await.is_err());
        server.start_serving().unwrap();
        server.start_serving().unwrap();
        assert!(server.is_serving());
        served(port).await;
        end(server).await;
    });
}

#[test]
fn a_server_that_could_not_listen_does_not_pretend_to_at_the_second_call() {
    run(async {
        let options = ServerOptions::new().start_serving(false);
        let first = options.start("127.0.0.1", 0, echo).await.unwrap();
        // Two sockets may be bound to one port as long as neither listens (SO_REUSEADDR).
        let second = options.start("127.0.0.1", port(&first), echo).await.unwrap();
        first.start_serving().unwrap();
        let error = second.start_serving().unwrap_err();
        assert!(matches!(error, ServeError::Listen { .. }), "{error}");
        assert_eq!(second.start_serving(), Err(ServeError::Closed));
        assert!(second.sockets().is_empty());
        second.wait_closed().await;
        end(first).await;
    });
}

#[test]
fn serve_forever_may_be_cancelled_and_the_server_goes_on() {
    run(async {
        let server = ServerOptions::new().start_serving(false).start("127.0.0.1", 0, echo).await.unwrap();
        assert!(timeout(SHORT, server.serve_forever()).await.is_err(), "it serves for ever");
        served(port(&server)).await;
        let server = Arc::new(server);
        let forever = tokio::spawn({
            let server = Arc::clone(&server);
            async move { server.serve_forever().await }
        });
        tokio::task::yield_now().await;
        server.close();
        assert_eq!(forever.await.unwrap(), Ok(()), "close ends it");
        assert_eq!(server.serve_forever().await, Err(ServeError::Closed));
        server.wait_closed().await;
    });
}

#[test]
fn close_stops_listening_at_once_and_keeps_the_clients() {
    run(async {
        let server = ServerOptions::new().start(["127.0.0.1", "127.0.0.2"], 0, echo).await.unwrap();
        let port = port(&server);
        let (mut reader, writer) = millstream::open_connection("127.0.0.1", port).await.unwrap();
        ping(&mut reader, &writer).await;
        server.close();
        assert!(server.sockets().is_empty());
        assert!(!server.is_serving(), "as asyncio's");
        server.close();
        ping(&mut reader, &writer).await;
        assert!(millstream::open_connection("127.0.0.1", port).await.is_err());
        assert!(timeout(SHORT, server.wait_closed()).await.is_err(), "a client is left");
        assert_eq!(server.connections(), 1);
        drop(writer);
        server.wait_closed().await;
        drop(reader);
    });
}

#[test]
fn wait_closed_waits_for_handlers_whose_connection_is_gone() {
    run(async {
        let (finish, finished) = oneshot::channel::<()>();
        let once = std::sync::Mutex::new(Some(finished));
        let handler = move |_reader, writer: StreamWriter| {
            let finished = once.lock().unwrap().take();
            async move {
                writer.close();
                let _ = writer.wait_closed().await;
                let _ = finished.expect("one connection").await;
            }
        };
        let server = millstream::start_server("127.0.0.1", 0, handler).await.unwrap();
        let (mut reader, writer) = millstream::open_connection("127.0.0.1", port(&server)).await.unwrap();
        assert_eq!(reader.read(1).await.unwrap(), "");
        drop((reader, writer));
        server.close();
        assert!(timeout(SHORT, server.wait_closed()).await.is_err(), "its handler has not ended");
        finish.send(()).unwrap();
        server.wait_closed().await;
    });
}

#[test]
fn close_clients_ends_the_streams_of_handlers_and_delivers_what_they_had_written() {
    run(async {
        let (saw_end, mut ends) = mpsc::unbounded_channel();
        let handler = move |mut reader: StreamReader, writer: StreamWriter| {
            let saw_end = saw_end.clone();
            async move {
                writer.write(&[b'a'; ANSWER]).unwrap();
                let line = reader.read_line().await.unwrap();
                saw_end.send((line, reader.at_eof())).unwrap();
            }
        };
        let server = millstream::start_server("127.0.0.1", 0, handler).await.unwrap();
        let mut clients = Vec::new();
        for _ in 0..10 {
            clients.push(millstream::open_connection("127.0.0.1", port(&server)).await.unwrap());
        }
        while server.connections() < 10 {
            tokio::task::yield_now().await;
        }
        server.close();
        server.close_clients();
        for (reader, _writer) in &mut clients {
            assert_eq!(reader.read_to_end(2 * ANSWER).await.unwrap().len(), ANSWER);
            assert_eq!(ends.recv().await.unwrap(), (None, true));
        }
        drop(clients);
        server.wait_closed().await;
    });
}

#[test]
fn abort_clients_resets_the_peers_and_drops_handlers_wherever_they_wait_without_a_report() {
    run(async {
        let dropped = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&dropped);
        let handler = move |mut reader: StreamReader, writer: StreamWriter| {
            let dropped = CountDrop(Arc::clone(&count));
            async move {
                let _dropped = dropped;
                let place = reader.read_line().await?.unwrap_or_default();
                match &place[..] {
                    b"read\n" => drop(reader.read(1).await?),
                    b"write\n" => loop {
                        writer.write(&[0; 65536])?;
                        writer.drain().await?;
                    },
                    b"gone\n" => {
                        drop((reader, writer));
                        std::future::pending::<()>().await;
                    }
                    _ => std::future::pending::<()>().await,
                }
                Ok::<_, millstream::Error>(())
            }
        };
        let (report, mut reports) = mpsc::unbounded_channel();
        let options =
            ServerOptions::new().on_failure(move |failure| report.send(failure.to_string()).unwrap());
        let server = options.start("127.0.0.1", 0, handler).await.unwrap();
        let places = ["read", "write", "gone", "elsewhere"];
        let mut clients = Vec::new();
        for place in places {
            let (reader, writer) = millstream::open_connection("127.0.0.1", port(&server)).await.unwrap();
            writer.write(format!("{place}\n").as_bytes()).unwrap();
            writer.flush().unwrap();
            clients.push((reader, writer));
        }
        let (mut gone, gone_writer) = clients.remove(2);
        assert_eq!(gone.read(1).await.unwrap(), "", "this one's connection ends before its handler");
        gone_writer.close();
        gone_writer.wait_closed().await.unwrap();
        tokio::time::sleep(SHORT).await;
        server.close();
        server.abort_clients();
        timeout(LONG, server.wait_closed()).await.expect("no handler is left");
        assert_eq!(dropped.load(Ordering::Relaxed), places.len());
        for (reader, _writer) in &mut clients {
            let error = reader.read_to_end(usize::MAX).await.unwrap_err();
            assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::ConnectionReset);
        }
        drop((server, options));
        assert_eq!(reports.recv().await, None, "an abort of our own is no failure of a handler");
    });
}

struct CountDrop(Arc<AtomicUsize>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_connection_that_arrives_while_the_server_closes_is_not_forgotten() {
    for _ in 0..300 {
        run_on_threads(async {
            let server = millstream::start_server("127.0.0.1", 0, echo).await.unwrap();
            let port = port(&server);
            let clients: Vec<_> = (0..4).map(|_| tokio::spawn(client_until_the_end(port))).collect();
            while server.connections() == 0 {
                tokio::task::yield_now().await;
            }
            server.close();
            server.close_clients();
            timeout(LONG, server.wait_closed()).await.expect("a forgotten connection");
            for client in clients {
                client.await.unwrap();
            }
        });
    }
}

#[test]
fn dropping_the_server_stops_listening_and_keeps_the_clients() {
    run(async {
        let server = millstream::start_server("127.0.0.1", 0, echo).await.unwrap();
        let port = port(&server);
        let (mut reader, writer) = millstream::open_connection("127.0.0.1", port).await.unwrap();
        ping(&mut reader, &writer).await;
        drop(server);
        tokio::task::yield_now().await;
        ping(&mut reader, &writer).await;
        assert!(millstream::open_connection("127.0.0.1", port).await.is_err());
        writer.close();
        writer.wait_closed().await.unwrap();
    });
}

async fn client_until_the_end(port: u16) {
    if let Ok((mut reader, _writer)) = millstream::open_connection("127.0.0.1", port).await {
        let _ = reader.read(1).await;
    }
}

async fn served(port: u16) {
    let (mut reader, writer) = millstream::open_connection("127.0.0.1", port).await.expect("a server");
    ping(&mut reader, &writer).await;
}

fn port(server: &Server) -> u16 {
    server.sockets()[0].port().expect("TCP")
}

async fn end(server: Server) {
    server.close();
    server.close_clients();
    server.wait_closed().await;
}

const ANSWER: usize = 10_000;
/// Long enough for what should not happen to happen.
const SHORT: Duration = Duration::from_millis(50);
/// Nothing here takes so long, unless it hangs.
const LONG: Duration = Duration::from_secs(10);
