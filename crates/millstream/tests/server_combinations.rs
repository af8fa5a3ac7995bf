//! What one feature of a server means while another is at work: stops, PROXY headers, TLS, deadlines, skipping.
#![cfg(feature = "tls")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use millstream::proxy::ProxyProtocol;
use millstream::tls::TlsVersion;
use millstream::{
    ConnectOptions, DeadlineKind, Deadlines, Error, ErrorClass, Server, ServerOptions, StreamReader,
    StreamWriter,
};
use support::proxy::tcp_header;
use support::tls::Realm;
use support::{echo, run};

#[test]
fn a_stop_while_a_header_is_awaited_is_no_failure() {
    run(async {
        let (options, told) = collecting(ServerOptions::new().proxy_protocol(required()));
        let (server, mut client) = echo_server_and_client(options).await;
        until(&server, 1).await;
        server.stop(Duration::from_secs(10)).await;
        let read = client.read(&mut [0; 1]);
        assert_eq!(*told.lock().unwrap(), Vec::<String>::new());
        assert_eq!(read.unwrap(), 0);
    });
}

#[test]
fn a_stop_does_not_wait_for_the_rest_of_a_header() {
    run(async {
        let (options, told) = collecting(ServerOptions::new().proxy_protocol(required()));
        let (server, mut client) = echo_server_and_client(options).await;
        client.write_all(b"PROXY TCP4").unwrap();
        until(&server, 1).await;
        tokio::time::sleep(ms(50)).await;
        let began = Instant::now();
        server.stop(Duration::from_secs(20)).await;
        assert!(began.elapsed() < ms(2000));
        assert_eq!(*told.lock().unwrap(), Vec::<String>::new());
    });
}

#[test]
fn a_stop_while_a_header_is_awaited_before_tls_is_no_failure() {
    for part in [&b""[..], b"PROXY TCP4"] {
        run(async {
            let realm = Realm::new();
            let (options, told) = collecting(
                ServerOptions::new().proxy_protocol(required()).tls(realm.server(TlsVersion::V1_3)),
            );
            let (server, mut client) = echo_server_and_client(options).await;
            client.write_all(part).unwrap();
            let header = tcp_header().encode().unwrap();
            let mut behind = connect(&server);
            behind.write_all(&header).unwrap();
            until(&server, 2).await;
            tokio::time::sleep(ms(50)).await;
            let began = Instant::now();
            server.stop(Duration::from_secs(20)).await;
            assert!(began.elapsed() < ms(2000));
            assert_eq!(*told.lock().unwrap(), Vec::<String>::new());
        });
    }
}

#[test]
fn a_stop_calls_no_handler_for_a_peer_whose_header_was_awaited() {
    run(async {
        let options = ServerOptions::new().proxy_protocol(optional()).on_failure(drop);
        let (server, called) = counting_server(options).await;
        let client = connect(&server);
        until(&server, 1).await;
        server.stop(Duration::from_secs(10)).await;
        assert_eq!(called.load(Relaxed), 0);
        drop(client);
    });
}

#[test]
fn a_refused_header_is_no_handler_error() {
    run(async {
        let options = ServerOptions::new().proxy_protocol(required()).on_failure(drop);
        let (server, mut client) = echo_server_and_client(options).await;
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        while server.stats().accepted < 1 {
            tokio::time::sleep(ms(1)).await;
        }
        until(&server, 0).await;
        assert_eq!((server.stats().refused_headers, server.stats().handler_errors), (1, 0));
    });
}

#[test]
fn a_deadline_that_passes_in_the_header_is_named() {
    run(async {
        let told = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&told);
        let options = ServerOptions::new()
            .proxy_protocol(required())
            .deadlines(Deadlines::none().idle(ms(200)))
            .on_failure(move |failure| {
                let class = failure.proxy_header().map(|refusal| refusal.class());
                to.lock().expect("unpoisoned").push((failure.deadline(), class));
            });
        let (server, client) = echo_server_and_client(options).await;
        until(&server, 1).await;
        until(&server, 0).await;
        assert_eq!(server.passed_deadlines(DeadlineKind::Idle), 1);
        assert_eq!(*told.lock().unwrap(), [(Some(DeadlineKind::Idle), Some(ErrorClass::Deadline))]);
        drop(client);
    });
}

#[test]
fn a_trusted_peer_that_is_silent_until_a_deadline_is_refused() {
    run(async {
        let deadlines = Deadlines::none().idle(ms(200));
        let options = ServerOptions::new().proxy_protocol(optional()).deadlines(deadlines).on_failure(drop);
        let (server, called) = counting_server(options).await;
        let client = connect(&server);
        until(&server, 1).await;
        until(&server, 0).await;
        assert_eq!(called.load(Relaxed), 0);
        drop(client);
    });
}

#[test]
fn part_of_a_tls_record_is_part_of_a_request_to_a_stop() {
    for (used, deadlines) in
        [(true, Deadlines::none()), (true, Deadlines::internet()), (false, Deadlines::none())]
    {
        run(async {
            let realm = Realm::new();
            let options = ServerOptions::new().tls(realm.server(TlsVersion::V1_3)).deadlines(deadlines);
            let (server, socket) = echo_server_and_client(options).await;
            let mut bare =
                realm.bare_client(TlsVersion::V1_3, ConnectOptions::new().adopt_tcp(socket).unwrap());
            bare.handshake().await;
            if used {
                let one = bare.seal(b"one\n");
                bare.send(&one);
                let mut got = Vec::new();
                while got.len() < 4 {
                    got.extend(bare.receive().await.unwrap().unwrap());
                }
            }
            let record = bare.seal(b"two\n");
            bare.send(&record[..9]);
            tokio::time::sleep(ms(50)).await;
            let client = async {
                tokio::time::sleep(ms(400)).await;
                let rest = [&record[9..], &bare.goodbye()].concat();
                bare.send(&rest);
                bare.receive_all().await
            };
            let (_, (all, _)) = tokio::join!(server.stop(Duration::from_secs(5)), client);
            assert_eq!(all, b"two\n", "used: {used}");
        });
    }
}

#[test]
fn what_is_skipped_in_part_is_part_of_a_request_to_a_stop() {
    run(async {
        async fn count(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
            while let Ok(skipped) = reader.skip_until(b"\n").await {
                writer.write(format!("{skipped}\n").as_bytes())?;
                writer.drain().await?;
            }
            Ok(())
        }
        let server = ServerOptions::new().start("127.0.0.1", 0, count).await.unwrap();
        let (mut reader, writer) = millstream::open_connection("127.0.0.1", port(&server)).await.unwrap();
        // A read that was answered comes before the one that is cut short.
        writer.write(b"\n").unwrap();
        assert_eq!(reader.read_line().await.unwrap().as_deref(), Some(&b"1\n"[..]));
        writer.write(b"half a req").unwrap();
        writer.flush().unwrap();
        tokio::time::sleep(ms(50)).await;
        let client = async {
            tokio::time::sleep(ms(100)).await;
            let _ = writer.write(b"uest\n");
            let _ = writer.flush();
            let answer = reader.read_line().await;
            drop((reader, writer));
            answer
        };
        let (_, answer) = tokio::join!(server.stop(Duration::from_secs(5)), client);
        assert_eq!(answer.unwrap().as_deref(), Some(&b"15\n"[..]));
    });
}

#[test]
fn a_stop_lets_a_skip_that_is_half_way_end_whatever_was_written_meanwhile() {
    for kind in ["skip", "skip_until", "read_exactly"] {
        run(async move {
            let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
            let handler = move |mut reader: StreamReader, writer: StreamWriter| {
                let tell = tell.clone();
                async move {
                    let upload = async {
                        match kind {
                            "skip" => reader.skip(100).await.map_err(Error::from),
                            "skip_until" => reader.skip_until(b"\n").await.map(drop).map_err(Error::from),
                            _ => reader.read_exactly(100).await.map(drop).map_err(Error::from),
                        }
                    };
                    let progress = async {
                        loop {
                            tokio::time::sleep(ms(20)).await;
                            writer.write(b"still here\n").expect("open");
                        }
                    };
                    let result = tokio::select! { result = upload => result, () = progress => Ok(()) };
                    tell.send(result.map_err(|error| error.to_string())).expect("the test waits");
                }
            };
            let server = ServerOptions::new().start("127.0.0.1", 0, handler).await.unwrap();
            let (mut reader, writer) = millstream::open_connection("127.0.0.1", port(&server)).await.unwrap();
            writer.write(&[b'x'; 50]).unwrap();
            writer.flush().unwrap();
            // By then something was written behind what was read.
            reader.read_line().await.unwrap();
            let client = async {
                tokio::time::sleep(ms(400)).await;
                let _ = writer.write(&[&[b'x'; 49][..], b"\n"].concat());
                let _ = writer.flush();
            };
            let (stopped, ()) = tokio::join!(server.stop(Duration::from_secs(5)), client);
            assert_eq!((kind, told.recv().await.unwrap(), stopped.finished), (kind, Ok(()), 1));
        });
    }
}

fn required() -> ProxyProtocol {
    ProxyProtocol::required().trust("127.0.0.1").expect("a network")
}

fn optional() -> ProxyProtocol {
    ProxyProtocol::optional().trust("127.0.0.1").expect("a network")
}

/// Options that collect what the server reports.
fn collecting(options: ServerOptions) -> (ServerOptions, Arc<Mutex<Vec<String>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let to = Arc::clone(&told);
    (options.on_failure(move |failure| to.lock().expect("unpoisoned").push(failure.to_string())), told)
}

/// A server that echoes lines, and the first client that has connected to it.
async fn echo_server_and_client(options: ServerOptions) -> (Server, TcpStream) {
    let server = options.start("127.0.0.1", 0, echo).await.expect("a free port");
    let client = connect(&server);
    (server, client)
}

/// A server, and how often it has called its handler.
async fn counting_server(options: ServerOptions) -> (Server, Arc<AtomicUsize>) {
    let called = Arc::new(AtomicUsize::new(0));
    let calls = Arc::clone(&called);
    let handler = move |mut reader: StreamReader, writer: StreamWriter| {
        calls.fetch_add(1, Relaxed);
        async move {
            let _open = writer;
            reader.read_line().await.map(drop)
        }
    };
    (options.start("127.0.0.1", 0, handler).await.expect("a free port"), called)
}

fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port(server))).expect("a living server")
}

fn port(server: &Server) -> u16 {
    server.sockets()[0].port().expect("TCP")
}

/// Waits until the server has so many connections.
async fn until(server: &Server, count: usize) {
    while server.connections() != count {
        tokio::time::sleep(ms(1)).await;
    }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
