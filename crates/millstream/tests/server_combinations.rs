//! What one feature of a server means while another is at work: stops, PROXY headers, TLS, deadlines, skipping.
#![cfg(feature = "tls")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use millstream::proxy::ProxyProtocol;
use millstream::tls::TlsVersion;
use millstream::{
    ConnectOptions, DeadlineKind, Deadlines, Error, Server, ServerOptions, StreamReader, StreamWriter,
};
use support::proxy::tcp_header;
use support::tls::Realm;
use support::{echo, run};

fn required() -> ProxyProtocol {
    ProxyProtocol::required().trust("127.0.0.1").expect("a network")
}
fn optional() -> ProxyProtocol {
    ProxyProtocol::optional().trust("127.0.0.1").expect("a network")
}
fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
fn port(server: &Server) -> u16 {
    server.sockets()[0].port().expect("TCP")
}
async fn until(server: &Server, n: usize) {
    while server.connections() != n {
        tokio::time::sleep(ms(1)).await;
    }
}

fn collecting(options: ServerOptions) -> (ServerOptions, Arc<Mutex<Vec<String>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let to = Arc::clone(&told);
    (options.on_failure(move |f| to.lock().expect("unpoisoned").push(f.to_string())), told)
}

#[test]
fn a_stop_while_a_header_is_awaited_is_no_failure() {
    run(async {
        let (options, told) = collecting(ServerOptions::new().proxy_protocol(required()));
        let server = options.start("127.0.0.1", 0, echo).await.unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", port(&server))).unwrap();
        until(&server, 1).await;
        server.stop(Duration::from_secs(10)).await;
        let mut b = [0; 1];
        let read = client.read(&mut b);
        assert_eq!(*told.lock().unwrap(), Vec::<String>::new());
        assert_eq!(read.unwrap(), 0);
    });
}

#[test]
fn a_stop_does_not_wait_for_the_rest_of_a_header() {
    run(async {
        let (options, told) = collecting(ServerOptions::new().proxy_protocol(required()));
        let server = options.start("127.0.0.1", 0, echo).await.unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", port(&server))).unwrap();
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
            let server = options.start("127.0.0.1", 0, echo).await.unwrap();
            let mut client = TcpStream::connect(("127.0.0.1", port(&server))).unwrap();
            client.write_all(part).unwrap();
            let header = tcp_header().encode().unwrap();
            let mut behind = TcpStream::connect(("127.0.0.1", port(&server))).unwrap();
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
        let (options, _) = collecting(ServerOptions::new().proxy_protocol(optional()));
        let called = Arc::new(Mutex::new(0));
        let c = Arc::clone(&called);
        let server = options
            .start("127.0.0.1", 0, move |mut r: StreamReader, w: StreamWriter| {
                *c.lock().unwrap() += 1;
                async move {
                    eprintln!("handler: {:?}", w.peer_address());
                    let x = r.read_line().await;
                    eprintln!("{x:?}");
                }
            })
            .await
            .unwrap();
        let client = TcpStream::connect(("127.0.0.1", port(&server))).unwrap();
        until(&server, 1).await;
        server.stop(Duration::from_secs(10)).await;
        assert_eq!(*called.lock().unwrap(), 0);
        drop(client);
    });
}

#[test]
fn a_refused_header_is_no_handler_error() {
    run(async {
        let (options, _told) = collecting(ServerOptions::new().proxy_protocol(required()));
        let server = options.start("127.0.0.1", 0, echo).await.unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", port(&server))).unwrap();
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
        let got = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&got);
        let options = ServerOptions::new()
            .proxy_protocol(required())
            .deadlines(Deadlines::none().idle(ms(200)))
            .on_failure(move |f| {
                to.lock().expect("unpoisoned").push((
                    f.deadline(),
                    f.proxy_header().map(|r| r.class()),
                    f.to_string(),
                ))
            });
        let server = options.start("127.0.0.1", 0, echo).await.unwrap();
        let client = TcpStream::connect(("127.0.0.1", port(&server))).unwrap();
        until(&server, 1).await;
        until(&server, 0).await;
        assert_eq!(server.passed_deadlines(DeadlineKind::Idle), 1);
        let got = got.lock().unwrap();
        assert_eq!(got.len(), 1);
        assert_eq!(got[0].1, Some(millstream::ErrorClass::Deadline));
        assert_eq!(got[0].0, Some(DeadlineKind::Idle));
        drop(client);
    });
}

#[test]
fn a_trusted_peer_that_is_silent_until_a_deadline_is_refused() {
    run(async {
        let called = Arc::new(Mutex::new(0));
        let c = Arc::clone(&called);
        let (options, _) = collecting(
            ServerOptions::new().proxy_protocol(optional()).deadlines(Deadlines::none().idle(ms(200))),
        );
        let server = options
            .start("127.0.0.1", 0, move |mut r: StreamReader, w: StreamWriter| {
                *c.lock().unwrap() += 1;
                async move {
                    eprintln!("handler for {:?}", w.peer_address());
                    r.read_line().await.map(drop)
                }
            })
            .await
            .unwrap();
        let client = TcpStream::connect(("127.0.0.1", port(&server))).unwrap();
        until(&server, 1).await;
        until(&server, 0).await;
        assert_eq!(*called.lock().unwrap(), 0);
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
            let server = options.start("127.0.0.1", 0, echo).await.unwrap();
            let socket = TcpStream::connect(("127.0.0.1", port(&server))).unwrap();
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
            loop {
                let n = match reader.skip_until(b"\n").await {
                    Ok(n) => n,
                    Err(e) => {
                        eprintln!("{e:?}");
                        return Ok(());
                    }
                };
                writer.write(format!("{n}\n").as_bytes())?;
                writer.drain().await?;
            }
        }
        let server = ServerOptions::new().start("127.0.0.1", 0, count).await.unwrap();
        let (mut r, w) = millstream::open_connection("127.0.0.1", port(&server)).await.unwrap();
        // an answered read first
        w.write(b"\n").unwrap();
        assert_eq!(r.read_line().await.unwrap().as_deref(), Some(&b"1\n"[..]));
        w.write(b"half a req").unwrap();
        w.flush().unwrap();
        tokio::time::sleep(ms(50)).await;
        let client = async {
            tokio::time::sleep(ms(100)).await;
            let _ = w.write(b"uest\n");
            let _ = w.flush();
            let a = r.read_line().await;
            drop((r, w));
            a
        };
        let (_, a) = tokio::join!(server.stop(Duration::from_secs(5)), client);
        assert_eq!(a.unwrap().as_deref(), Some(&b"15\n"[..]));
    });
}
