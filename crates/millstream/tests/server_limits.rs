//! The caps of a server: who waits, who is refused, what is counted. Fault rows A1 and A2.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use millstream::{Error, Server, ServerOptions, StreamReader, StreamWriter, WhenFull, testing};
use socket2::{Domain, SockRef, Socket, Type};
use support::{echo, ping, run, run_on_threads};
use tokio::time::timeout;

#[test]
fn a2_those_above_the_cap_wait_in_the_backlog_and_are_served_one_for_one_that_goes() {
    run(async {
        let server = ServerOptions::new().max_connections(2).start("127.0.0.1", 0, echo).await.unwrap();
        let mut clients = Vec::new();
        for _ in 0..5 {
            // The kernel takes the connection and the line, whether the server does or not.
            let (reader, writer) = connect(&server).await;
            writer.write(b"ping\n").unwrap();
            writer.flush().unwrap();
            clients.push((reader, writer));
        }
        for (n, (reader, _)) in clients.iter_mut().take(2).enumerate() {
            assert_eq!(reader.read_line().await.unwrap().as_deref(), Some(&b"ping\n"[..]), "client {n}");
        }
        for (n, (reader, _)) in clients.iter_mut().enumerate().skip(2) {
            assert!(timeout(SHORT, reader.read_line()).await.is_err(), "client {n} is above the cap");
        }
        assert_eq!((server.stats().accepted, server.connections()), (2, 2));
        for next in 2..5 {
            drop(clients.remove(0));
            let (reader, _) = &mut clients[1];
            assert_eq!(reader.read_line().await.unwrap().as_deref(), Some(&b"ping\n"[..]), "client {next}");
        }
        drop(clients);
        let stats = server.stats();
        assert_eq!((stats.accepted, stats.peak_connections, stats.refused_full), (5, 2, 0));
        end(&server).await;
    });
}

#[test]
fn a2_a_burst_of_three_times_the_cap_never_has_more_handlers_than_the_cap_and_loses_nobody() {
    run_on_threads(async {
        const CAP: usize = 20;
        let (now, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let handler = {
            let (now, peak) = (Arc::clone(&now), Arc::clone(&peak));
            move |reader: StreamReader, writer: StreamWriter| {
                peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let there = There(Arc::clone(&now));
                async move {
                    let result = echo(reader, writer).await;
                    drop(there);
                    result
                }
            }
        };
        // Two listeners of one server share the cap, and neither keeps the other from accepting.
        let options = ServerOptions::new().max_connections(CAP);
        let server = options.start(["127.0.0.1", "127.0.0.2"], 0, handler).await.unwrap();
        let addresses: Vec<SocketAddr> = server.sockets().iter().map(|it| it.ip().unwrap()).collect();
        let clients: Vec<_> = (0..3 * CAP)
            .map(|n| {
                let address = addresses[n % 2];
                tokio::spawn(async move {
                    let host = address.ip().to_string();
                    let (mut reader, writer) =
                        millstream::open_connection(&host, address.port()).await.unwrap();
                    for _ in 0..20 {
                        ping(&mut reader, &writer).await;
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
        let stats = server.stats();
        assert_eq!((stats.accepted, stats.peak_connections), (3 * CAP as u64, CAP));
        assert!(peak.load(Ordering::SeqCst) <= CAP, "{peak:?} handlers at once");
        end(&server).await;
    });
}

#[test]
fn a_cap_of_one_serves_every_listener_in_turn() {
    run(async {
        let options = ServerOptions::new().max_connections(1);
        let server = options.start(["127.0.0.1", "127.0.0.2", "127.0.0.3"], 0, echo).await.unwrap();
        for _ in 0..3 {
            for address in server.sockets() {
                let address = address.ip().unwrap();
                let host = address.ip().to_string();
                let (mut reader, writer) = millstream::open_connection(&host, address.port()).await.unwrap();
                ping(&mut reader, &writer).await;
            }
        }
        assert_eq!((server.stats().accepted, server.stats().peak_connections), (9, 1));
        end(&server).await;
    });
}

#[test]
fn a2_above_the_cap_a_refused_peer_reads_the_farewell_and_the_end_never_a_reset() {
    run(async {
        let options = ServerOptions::new().max_connections(2).when_full(WhenFull::Refuse).farewell("full\n");
        let server = options.start("127.0.0.1", 0, echo).await.unwrap();
        let (mut one, one_says) = connect(&server).await;
        let (mut other, other_says) = connect(&server).await;
        ping(&mut one, &one_says).await;
        ping(&mut other, &other_says).await;
        let port = port(&server);
        // They talk before they listen, which is what makes a plain close a reset.
        let refused = tokio::task::spawn_blocking(move || {
            for _ in 0..20 {
                let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
                socket.write_all(b"hello, are you there?\n").unwrap();
                std::thread::sleep(Duration::from_millis(2));
                socket.write_all(b"hello?\n").unwrap();
                let mut said = String::new();
                socket.read_to_string(&mut said).unwrap();
                assert_eq!(said, "full\n");
            }
        });
        refused.await.unwrap();
        let stats = server.stats();
        assert_eq!((stats.accepted, stats.connections, stats.refused_full), (2, 2, 20));
        drop((one, one_says));
        while server.connections() == 2 {
            tokio::task::yield_now().await;
        }
        let (mut next, next_says) = connect(&server).await;
        ping(&mut next, &next_says).await;
        ping(&mut other, &other_says).await;
        end(&server).await;
    });
}

#[test]
fn a_crowd_of_refused_peers_that_do_not_go_holds_a_bounded_number_of_descriptors() {
    run(async {
        let options = ServerOptions::new().max_connections(1).when_full(WhenFull::Refuse);
        let server = options.start("127.0.0.1", 0, echo).await.unwrap();
        let (mut reader, writer) = connect(&server).await;
        ping(&mut reader, &writer).await;
        let before = support::Held::now();
        let mut crowd = Vec::new();
        for n in 1..=600 {
            crowd.push(TcpStream::connect(("127.0.0.1", port(&server))).unwrap());
            while server.stats().refused_full < n {
                tokio::task::yield_now().await;
            }
        }
        tokio::task::yield_now().await;
        let held = support::Held::now().descriptors - before.descriptors - crowd.len();
        assert!(held <= 256 + 1, "{held} descriptors for those who were refused");
        ping(&mut reader, &writer).await;
        drop(crowd);
        end(&server).await;
    });
}

#[test]
fn each_peer_address_has_a_cap_of_its_own_and_gets_back_what_it_gives_up() {
    run(async {
        let options = ServerOptions::new().max_connections_per_peer(2).farewell("too many\n");
        let server = options.start("127.0.0.1", 0, echo).await.unwrap();
        let mut there = Vec::new();
        for host in 1..=4 {
            for _ in 0..2 {
                let (mut reader, writer) = connect_from(&server, [127, 0, 0, host]).await;
                ping(&mut reader, &writer).await;
                there.push((reader, writer));
            }
            let (mut reader, _writer) = connect_from(&server, [127, 0, 0, host]).await;
            assert_eq!(reader.read_to_end(100).await.unwrap(), "too many\n", "the third from host {host}");
        }
        assert_eq!((server.stats().accepted, server.stats().refused_per_peer), (8, 4));
        // Host 1 gives one up and may have one again; the others may not.
        drop(there.remove(0));
        while server.connections() == 8 {
            tokio::task::yield_now().await;
        }
        let (mut reader, _writer) = connect_from(&server, [127, 0, 0, 2]).await;
        assert_eq!(reader.read_to_end(100).await.unwrap(), "too many\n");
        let (mut reader, writer) = connect_from(&server, [127, 0, 0, 1]).await;
        ping(&mut reader, &writer).await;
        drop((there, reader, writer));
        end(&server).await;
    });
}

#[test]
fn a_peer_that_is_refused_for_itself_takes_no_place_from_the_others() {
    run(async {
        let options = ServerOptions::new().max_connections(2).max_connections_per_peer(1);
        let server = options.start("127.0.0.1", 0, echo).await.unwrap();
        let (mut one, one_says) = connect_from(&server, [127, 0, 0, 1]).await;
        ping(&mut one, &one_says).await;
        for _ in 0..5 {
            let (mut reader, _writer) = connect_from(&server, [127, 0, 0, 1]).await;
            assert_eq!(reader.read_to_end(100).await.unwrap(), "");
        }
        let (mut other, other_says) = connect_from(&server, [127, 0, 0, 2]).await;
        ping(&mut other, &other_says).await;
        let stats = server.stats();
        assert_eq!((stats.accepted, stats.refused_per_peer, stats.peak_connections), (2, 5, 2));
        end(&server).await;
    });
}

#[test]
fn unix_peers_are_not_counted_for_their_address_but_for_the_cap() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let options = ServerOptions::new().max_connections(2).max_connections_per_peer(1);
        let server = options.start_unix(&path, echo).unwrap();
        let (mut one, one_says) = millstream::open_unix_connection(&path).await.unwrap();
        let (mut other, other_says) = millstream::open_unix_connection(&path).await.unwrap();
        ping(&mut one, &one_says).await;
        ping(&mut other, &other_says).await;
        let (mut third, third_says) = millstream::open_unix_connection(&path).await.unwrap();
        third_says.write(b"ping\n").unwrap();
        assert!(timeout(SHORT, third.read_line()).await.is_err());
        drop((one, one_says));
        assert_eq!(third.read_line().await.unwrap().as_deref(), Some(&b"ping\n"[..]));
        drop((third, third_says, other, other_says));
        end(&server).await;
    });
}

#[test]
fn handlers_that_fail_panic_or_are_aborted_give_back_their_permits_and_are_counted() {
    run(async {
        async fn misbehave(mut reader: StreamReader, _writer: StreamWriter) -> Result<(), Error> {
            match reader.read_line().await?.as_deref() {
                Some(b"fail\n") => Err(std::io::Error::other("as ordered").into()),
                Some(b"panic\n") => panic!("as ordered"),
                _ => std::future::pending().await,
            }
        }
        let options = ServerOptions::new().max_connections(1).max_connections_per_peer(1).on_failure(|_| {});
        let server = options.start("127.0.0.1", 0, misbehave).await.unwrap();
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        for _ in 0..50 {
            for order in ["fail\n", "panic\n", "hang\n"] {
                let (mut reader, writer) = connect(&server).await;
                writer.write(order.as_bytes()).unwrap();
                if order == "hang\n" {
                    while server.connections() == 0 {
                        tokio::task::yield_now().await;
                    }
                    server.abort_clients();
                    assert!(reader.read(1).await.is_err(), "a reset");
                } else {
                    assert_eq!(reader.read(1).await.unwrap(), "");
                }
                drop((reader, writer));
                // The next one must not be refused for this one's sake.
                while server.connections() > 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
        std::panic::set_hook(hook);
        let stats = server.stats();
        assert_eq!((stats.handler_errors, stats.handler_panics), (50, 50));
        assert_eq!((stats.accepted, stats.peak_connections, stats.connections), (150, 1, 0));
        assert_eq!((stats.refused_full, stats.refused_per_peer), (0, 0));
        end(&server).await;
    });
}

#[test]
fn a_full_server_can_be_closed_while_others_wait() {
    run(async {
        let server = ServerOptions::new().max_connections(1).start("127.0.0.1", 0, echo).await.unwrap();
        let (mut reader, writer) = connect(&server).await;
        ping(&mut reader, &writer).await;
        let (mut waits, _writer) = connect(&server).await;
        assert!(timeout(SHORT, waits.read(1)).await.is_err());
        server.close();
        assert!(waits.read(1).await.is_err(), "the kernel resets who was never accepted");
        ping(&mut reader, &writer).await;
        drop((reader, writer));
        server.wait_closed().await;
        let (reader, _writer) = testing::pair().0;
        assert!(!reader.stopping().is_requested());
    });
}

/// A handler that is there.
struct There(Arc<AtomicUsize>);

impl Drop for There {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn connect(server: &Server) -> (StreamReader, StreamWriter) {
    millstream::open_connection("127.0.0.1", port(server)).await.expect("a living server")
}

/// A connection from this address of the loopback.
async fn connect_from(server: &Server, from: [u8; 4]) -> (StreamReader, StreamWriter) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("an address of the loopback");
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port(server))).into()).expect("a living server");
    assert_eq!(SockRef::from(&socket).take_error().expect("a socket").map(|error| error.kind()), None);
    millstream::ConnectOptions::new().adopt_tcp(socket.into()).expect("connected")
}

fn port(server: &Server) -> u16 {
    server.sockets()[0].port().expect("TCP")
}

async fn end(server: &Server) {
    server.close();
    server.close_clients();
    server.wait_closed().await;
    assert_eq!(server.stats().connections, 0);
}

/// Long enough for what should not happen to happen.
const SHORT: Duration = Duration::from_millis(50);
