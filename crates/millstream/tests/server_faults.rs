//! Handlers that fail, panic or flood: that connection pays, once, and the server lives. Fault rows A3 and E3.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream::{Error, Server, ServerFailure, ServerOptions, StreamReader, StreamWriter};
use socket2::{Domain, Socket, Type};
use support::run;

#[test]
fn a3_a_handler_that_fails_or_panics_anywhere_costs_one_connection_and_one_report() {
    run(async {
        let reports = Reports::default();
        let server = reports.options().start("127.0.0.1", 0, misbehave).await.unwrap();
        let table = [
            ("fail at once", "failed: at once", false),
            ("fail later", "failed: later", false),
            ("panic at once", "panicked: at once", true),
            ("panic later", "panicked: later", true),
            ("panic with a number", "panicked: a panic without a text", true),
            ("panic in drop", "panicked: in drop", true),
        ];
        for (n, (order, text, is_panic)) in table.iter().enumerate() {
            assert_eq!(ask(&server, order).await, "", "the connection is closed");
            let (seen, panics) = reports.wait_for(n + 1).await;
            assert!(seen[n].contains(text), "{order}: {}", seen[n]);
            assert_eq!(panics[n], *is_panic, "{order}");
        }
        assert_eq!(ask(&server, "serve").await, "served");
        end(&server).await;
        assert_eq!(reports.wait_for(table.len()).await.0.len(), table.len());
    });
}

#[test]
fn a3_plain_handlers_may_fail_and_panic_as_well() {
    run(async {
        let reports = Reports::default();
        let calls = AtomicUsize::new(0);
        let handler =
            move |_reader: StreamReader, writer: StreamWriter| match calls.fetch_add(1, Ordering::Relaxed) {
                0 => panic!("plain"),
                1 => Err("plainly".into()),
                _ => writer.write(b"served\n").map_err(millstream::BoxError::from),
            };
        let server = reports.options().start("127.0.0.1", 0, handler).await.unwrap();
        assert_eq!(ask(&server, "").await, "");
        assert_eq!(ask(&server, "").await, "");
        assert_eq!(ask(&server, "").await, "served");
        let (seen, panics) = reports.wait_for(2).await;
        assert!(seen[0].ends_with("panicked: plain") && seen[1].ends_with("failed: plainly"), "{seen:?}");
        assert_eq!(panics, [true, false]);
        end(&server).await;
    });
}

#[test]
fn a3_a_thousand_failures_are_a_thousand_reports_and_the_server_still_serves() {
    run(async {
        let reports = Reports::default();
        let server = reports.options().start("127.0.0.1", 0, misbehave).await.unwrap();
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        for round in 0..250 {
            for order in ["fail at once", "fail later", "panic at once", "panic later"] {
                assert_eq!(ask(&server, order).await, "", "round {round}");
            }
        }
        std::panic::set_hook(hook);
        assert_eq!(reports.wait_for(1000).await.0.len(), 1000);
        assert_eq!(ask(&server, "serve").await, "served");
        assert!(server.is_serving());
        end(&server).await;
        assert_eq!(reports.wait_for(1000).await.0.len(), 1000, "no late second report");
    });
}

#[test]
fn a3_a_handler_that_fails_closes_the_connection_even_if_a_task_of_its_own_holds_the_halves() {
    run(async {
        let reports = Reports::default();
        let (kept, mut held) = tokio::sync::mpsc::unbounded_channel();
        let handler = move |reader: StreamReader, writer: StreamWriter| {
            kept.send((reader, writer)).expect("the test waits for it");
            Err::<(), _>("gave up")
        };
        let server = reports.options().start("127.0.0.1", 0, handler).await.unwrap();
        let (mut reader, _writer) = connect(&server).await;
        let (mut inner_reader, inner_writer) = held.recv().await.unwrap();
        assert_eq!(reader.read(10).await.unwrap(), "", "the peer sees the end");
        assert_eq!(inner_reader.read(10).await.unwrap(), "", "and so does the task");
        assert!(inner_writer.is_closing());
        end(&server).await;
    });
}

#[test]
fn a3_a_reporter_that_panics_hurts_nobody() {
    run(async {
        let told = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&told);
        let options = ServerOptions::new().on_failure(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            panic!("the reporter itself");
        });
        let server = options.start("127.0.0.1", 0, misbehave).await.unwrap();
        assert_eq!(ask(&server, "fail later").await, "");
        assert_eq!(ask(&server, "panic later").await, "");
        assert_eq!(ask(&server, "serve").await, "served");
        assert_eq!(told.load(Ordering::Relaxed), 2);
        end(&server).await;
    });
}

/// Accepting fails on a socket that does not listen yet, and works once it does.
#[test]
fn a3_a_reporter_that_panics_over_a_failed_accept_does_not_end_accepting() {
    run(async {
        let told = Arc::new(AtomicBool::new(false));
        let tell = Arc::clone(&told);
        let options = ServerOptions::new().on_failure(move |failure| {
            tell.store(failure.is_accept(), Ordering::Relaxed);
            panic!("the reporter itself");
        });
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
        let server = options.start_on_tcp(socket.try_clone().unwrap().into(), misbehave).unwrap();
        while !told.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        socket.listen(10).unwrap();
        drop(socket);
        assert_eq!(ask(&server, "serve").await, "served");
        end(&server).await;
    });
}

#[test]
fn e3_a_hundred_quiet_connections_are_served_while_one_floods() {
    run(async {
        let flooded = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&flooded);
        let server = ServerOptions::new()
            .start("127.0.0.1", 0, move |reader, writer| swallow_or_echo(reader, writer, Arc::clone(&count)))
            .await
            .unwrap();
        let port = server.sockets()[0].port().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let flooder = std::thread::spawn({
            let over = Arc::clone(&over);
            move || flood(port, &over)
        });
        let mut quiet = Vec::new();
        for _ in 0..100 {
            quiet.push(connect(&server).await);
        }
        while flooded.load(Ordering::Relaxed) < 1 << 20 {
            tokio::task::yield_now().await;
        }
        let mut worst = 0;
        for round in 0..20 {
            for (n, (reader, writer)) in quiet.iter_mut().enumerate() {
                let before = flooded.load(Ordering::Relaxed);
                writer.write(b"ping\n").unwrap();
                let pong = reader.read_line().await.unwrap();
                assert_eq!(pong.as_deref(), Some(&b"ping\n"[..]), "connection {n}, round {round}");
                worst = worst.max(flooded.load(Ordering::Relaxed) - before);
            }
        }
        assert!(worst <= 32 * TURN, "a ping waited for {worst} bytes of the flood");
        let before = flooded.load(Ordering::Relaxed);
        while flooded.load(Ordering::Relaxed) == before {
            tokio::task::yield_now().await;
        }
        over.store(true, Ordering::Relaxed);
        drop(quiet);
        server.abort_clients();
        flooder.join().unwrap();
        end(&server).await;
    });
}

/// Echoes lines; one that says `flood` turns the connection into a sink.
async fn swallow_or_echo(
    mut reader: StreamReader,
    writer: StreamWriter,
    flooded: Arc<AtomicU64>,
) -> Result<(), Error> {
    while let Some(line) = reader.read_line().await? {
        if line == "flood\n" {
            loop {
                let chunk = reader.read_borrowed(1024).await?;
                if chunk.is_empty() {
                    return Ok(());
                }
                flooded.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            }
        }
        writer.write(&line)?;
        writer.drain().await?;
    }
    Ok(())
}

fn flood(port: u16, over: &AtomicBool) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("a server");
    socket.write_all(b"flood\n").expect("open");
    let chunk = vec![b'x'; 256 * 1024];
    while !over.load(Ordering::Relaxed) && socket.write_all(&chunk).is_ok() {}
    let _ = socket.read(&mut [0; 1]);
}

/// Reads an order and follows it.
async fn misbehave(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
    let order = reader.read_line().await?.unwrap_or_default();
    let text = String::from_utf8_lossy(&order);
    let failure = |text: &str| Err(Error::from(std::io::Error::other(text.to_owned())));
    match text.trim() {
        "fail at once" => return failure("at once"),
        "panic at once" => panic!("at once"),
        "panic with a number" => std::panic::panic_any(42),
        "panic in drop" => {
            let _bomb = PanicInDrop;
            return Ok(());
        }
        "serve" => return Ok(writer.write(b"served\n")?),
        _ => {}
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    if text.starts_with("panic") { panic!("later") } else { failure("later") }
}

struct PanicInDrop;

impl Drop for PanicInDrop {
    fn drop(&mut self) {
        panic!("in drop");
    }
}

/// What `on_failure` was told.
#[derive(Clone, Default)]
struct Reports(Arc<Mutex<Vec<ServerFailure>>>);

impl Reports {
    fn options(&self) -> ServerOptions {
        let reports = Arc::clone(&self.0);
        ServerOptions::new().on_failure(move |failure| reports.lock().expect("no panic").push(failure))
    }

    /// Waits for so many reports; their texts, and whether each was a panic.
    async fn wait_for(&self, n: usize) -> (Vec<String>, Vec<bool>) {
        loop {
            let texts: Vec<String> =
                self.0.lock().expect("no panic").iter().map(ToString::to_string).collect();
            if texts.len() >= n {
                assert!(self.0.lock().expect("no panic").iter().all(|failure| failure.address().is_some()));
                let panics = self.0.lock().expect("no panic").iter().map(ServerFailure::is_panic).collect();
                return (texts, panics);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn connect(server: &Server) -> (StreamReader, StreamWriter) {
    let port = server.sockets()[0].port().expect("TCP");
    millstream::open_connection("127.0.0.1", port).await.expect("a living server")
}

/// Sends one order; what comes back until the end.
async fn ask(server: &Server, order: &str) -> String {
    let (mut reader, writer) = connect(server).await;
    writer.write(format!("{order}\n").as_bytes()).expect("open");
    let answer = reader.read_to_end(100).await.expect("an end, not a reset");
    String::from_utf8_lossy(&answer).trim().to_owned()
}

async fn end(server: &Server) {
    server.close();
    server.close_clients();
    server.wait_closed().await;
    assert_eq!(server.connections(), 0);
}

/// What one reader takes before others get their turn, and one receive more.
const TURN: u64 = 256 * 1024 + 64 * 1024;
