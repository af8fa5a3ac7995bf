//! The caps of a server behind proxies: a client is counted for the address that its header names, and a header that does not
//! come takes a place for no longer than it may take.
#![allow(clippy::unwrap_used, reason = "clippy does not count helpers as tests")]

mod support;

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use millstream::proxy::{
    ProxyEndpoints, ProxyHeader, ProxyProtocol, ProxyRefusal, ProxyTransport, ProxyUnixAddress,
};
use millstream::{ServerOptions, Watermarks, WhenFull};
use support::proxy::{CLIENT, FRONT, Serving, answer, end_of_input, send, tick};
use support::{run, run_paused};
use tokio::time::Instant;

fn capped() -> ServerOptions {
    ServerOptions::new()
        .proxy_protocol(ProxyProtocol::required().trust("127.0.0.1").unwrap())
        .max_connections_per_peer(2)
        .farewell("too many of you\n")
}

fn header_of(client: &str) -> Vec<u8> {
    let client: SocketAddr = client.parse().unwrap();
    let front = if client.is_ipv6() { "[2001:db8::443]:443" } else { FRONT };
    ProxyHeader::tcp(client, front.parse().unwrap()).encode().unwrap()
}

/// A connection of this client, behind the proxy that all share.
fn from(serving: &Serving, client: &str) -> TcpStream {
    let socket = serving.connect();
    send(&socket, &header_of(client));
    socket
}

/// Whether it was let in: the handler says so at once, and a refused one is told farewell.
async fn is_in(mut client: &TcpStream) -> bool {
    use std::io::Read;
    client.set_nonblocking(true).unwrap();
    for _ in 0..1000 {
        let mut first = [0; 3];
        match client.read(&mut first) {
            Ok(3) if first == *b"in\n" => return true,
            Ok(n) => {
                assert_eq!(first[..n], b"too"[..n]);
                return false;
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => tick().await,
            Err(error) => panic!("neither in nor refused: {error}"),
        }
    }
    panic!("no answer");
}

/// What a refused client is sent up to a clean end; a reset is an error.
async fn told(mut client: TcpStream) -> std::io::Result<String> {
    use std::io::Read;
    client.set_nonblocking(true)?;
    let mut told = Vec::new();
    loop {
        match client.read_to_end(&mut told) {
            Ok(_) => return Ok(String::from_utf8_lossy(&told).into_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => tick().await,
            Err(error) => return Err(error),
        }
    }
}

/// Ends a connection that was let in, and waits until its handler has seen that.
async fn leaves(serving: &mut Serving, client: TcpStream) {
    let left = serving.server.connections() - 1;
    end_of_input(&client);
    serving.seen().await;
    drop(client);
    while serving.server.connections() > left {
        tick().await;
    }
}

#[test]
fn each_client_behind_one_proxy_has_a_cap_of_its_own_and_gets_back_what_it_gives_up() {
    run_paused(async {
        let mut serving = Serving::start(capped()).await;
        let mut there = Vec::new();
        for n in 0..5 {
            for _ in 0..2 {
                let client = from(&serving, &format!("192.0.2.{n}:5000"));
                assert!(is_in(&client).await, "client {n}");
                there.push(client);
            }
            let client = from(&serving, &format!("192.0.2.{n}:5001"));
            assert_eq!(told(client).await.unwrap(), "too many of you\n");
        }
        let stats = serving.server.stats();
        assert_eq!((stats.refused_per_peer, stats.refused_full, stats.refused_headers), (5, 0, 0));
        assert_eq!((stats.accepted, stats.connections), (15, 10), "the header is read after the accept");
        for n in 0..5 {
            leaves(&mut serving, there.remove(0)).await;
            let again = from(&serving, &format!("192.0.2.{n}:5002"));
            assert!(is_in(&again).await, "client {n} has given up a place");
            leaves(&mut serving, again).await;
            leaves(&mut serving, there.remove(0)).await;
        }
        assert_eq!(serving.server.connections(), 0);
        serving.end().await;
    });
}

#[test]
fn a_client_is_the_address_however_written_or_the_ipv6_network_and_whoever_comes_directly() {
    run_paused(async {
        let options = capped().proxy_protocol(ProxyProtocol::optional().trust("127.0.0.1").unwrap());
        let mut serving = Serving::start(options).await;
        // One comes directly, from a network that is not asked, and one of its connections through the proxy.
        let mut there = vec![serving.connect_from("127.0.0.9"), from(&serving, "127.0.0.9:1")];
        there.extend([from(&serving, "[2001:db8::1]:1"), from(&serving, "[2001:db8::2:2:2:2]:1")]);
        for client in &there {
            assert!(is_in(client).await);
        }
        let refused = [
            serving.connect_from("127.0.0.9"),
            from(&serving, "127.0.0.9:2"),
            from(&serving, "[::ffff:127.0.0.9]:2"),
            from(&serving, "[2001:db8::3:3:3:3]:1"),
        ];
        for (n, client) in refused.into_iter().enumerate() {
            assert!(!is_in(&client).await, "{n}");
        }
        let other = from(&serving, "[2001:db8:0:1::1]:1");
        assert!(is_in(&other).await, "another network");
        there.push(other);
        for client in there {
            leaves(&mut serving, client).await;
        }
        serving.end().await;
    });
}

#[test]
fn proxies_that_speak_for_themselves_send_no_header_or_name_a_path_are_counted_for_nobody() {
    run_paused(async {
        let options = capped().proxy_protocol(ProxyProtocol::optional().trust("127.0.0.1").unwrap());
        let mut serving = Serving::start(options).await;
        let path = |text: &str| ProxyUnixAddress::new(text).unwrap();
        let unix = ProxyEndpoints::Unix {
            transport: ProxyTransport::Stream,
            source: path("/run/client"),
            destination: path("/run/front"),
        };
        let firsts = [
            ProxyHeader::local().encode().unwrap(),
            b"PROXY UNKNOWN\r\n".to_vec(),
            ProxyHeader::new(unix).encode().unwrap(),
            b"plain".to_vec(),
        ];
        let mut there = Vec::new();
        for first in firsts {
            for _ in 0..4 {
                let client = serving.connect();
                send(&client, &first);
                assert!(is_in(&client).await, "{first:?}");
                there.push(client);
            }
        }
        for client in there {
            leaves(&mut serving, client).await;
        }
        assert_eq!(serving.server.stats().refused_per_peer, 0);
        serving.end().await;
    });
}

#[test]
fn however_a_connection_ends_its_client_gets_the_place_back() {
    run(async {
        use millstream::{Error, StreamReader, StreamWriter};
        async fn misbehave(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
            writer.write(b"in\n")?;
            match reader.read_line().await?.as_deref() {
                Some(b"fail\n") => Err(std::io::Error::other("as ordered").into()),
                Some(b"panic\n") => panic!("as ordered"),
                Some(b"hang\n") => std::future::pending().await,
                _ => Ok(()),
            }
        }
        let options = capped().max_connections_per_peer(1).max_connections(2).on_failure(drop);
        let options = options.item_deadline(Duration::from_millis(20));
        let server = options.start("127.0.0.1", 0, misbehave).await.unwrap();
        let port = server.sockets()[0].port().unwrap();
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        for order in ["end\n", "fail\n", "panic\n", "hang\n", "reset\n", "drip", ""] {
            for round in 0..10 {
                let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
                send(&client, &[&header_of(CLIENT)[..], order.as_bytes()].concat());
                assert!(is_in(&client).await, "{order:?}, round {round}");
                match order {
                    "hang\n" => server.abort_clients(),
                    "reset\n" => support::reset(client),
                    "" => end_of_input(&client),
                    // Each ends on the server's side; the client is there until then.
                    _ => drop(answer(client).await),
                }
                // The next one must not be refused for this one's sake.
                while server.connections() > 0 {
                    tick().await;
                }
            }
        }
        std::panic::set_hook(hook);
        let stats = server.stats();
        assert_eq!((stats.handler_errors, stats.handler_panics, stats.refused_per_peer), (20, 10, 0));
        server.close();
        server.wait_closed().await;
    });
}

#[test]
fn a_refused_client_gives_its_place_to_others_at_once_whatever_it_does() {
    run_paused(async {
        // It neither reads nor ends, nor does its proxy.
        let mut serving = Serving::start(
            capped().max_connections(3).when_full(WhenFull::Refuse).max_connections_per_peer(1),
        )
        .await;
        let there = from(&serving, CLIENT);
        assert!(is_in(&there).await);
        let start = Instant::now();
        let mut deaf = Vec::new();
        for _ in 0..20 {
            let client = from(&serving, CLIENT);
            client.set_nonblocking(true).unwrap();
            while client.peek(&mut [0; 1]).is_err() {
                tick().await;
            }
            deaf.push(client);
            while serving.server.connections() > 1 {
                tick().await;
            }
        }
        assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
        let others = [from(&serving, "192.0.2.8:1"), from(&serving, "192.0.2.9:1")];
        for client in &others {
            assert!(is_in(client).await);
        }
        let stats = serving.server.stats();
        assert_eq!((stats.refused_per_peer, stats.refused_full, stats.connections), (20, 0, 3));
        // Each of the deaf has been sent its farewell and its end by now, and in a second its socket is gone.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        for client in deaf {
            assert_eq!(told(client).await.unwrap(), "too many of you\n");
        }
        for client in others.into_iter().chain([there]) {
            leaves(&mut serving, client).await;
        }
        serving.end().await;
    });
}

#[test]
fn headers_that_do_not_come_hold_no_more_than_the_cap_and_no_longer_than_they_may() {
    run_paused(async {
        let options = capped().max_connections(5).proxy_protocol(
            ProxyProtocol::required().trust("127.0.0.1").unwrap().timeout(Duration::from_secs(3)),
        );
        let mut serving = Serving::start(options).await;
        let start = Instant::now();
        let silent: Vec<_> = (0..8).map(|_| serving.connect()).collect();
        tick().await;
        assert_eq!(serving.server.connections(), 5, "the others wait in the backlog");
        let good = from(&serving, CLIENT);
        for _ in 0..8 {
            assert!(matches!(serving.refused().await.0, ProxyRefusal::TimedOut { received: 0, .. }));
        }
        assert!(is_in(&good).await);
        // Twice the time: three of them had to wait for a place first.
        assert!(start.elapsed() < Duration::from_millis(6_100), "{:?}", start.elapsed());
        let stats = serving.server.stats();
        assert_eq!((stats.refused_headers, stats.refused_per_peer, stats.peak_connections), (8, 0, 5));
        leaves(&mut serving, good).await;
        drop(silent);
        serving.end().await;
    });
}

#[test]
fn a_refused_client_reads_the_farewell_though_it_talks_before_it_listens() {
    run_paused(async {
        // The hard cap is for what the handlers write.
        let options = capped().watermarks(Watermarks::new(4, 1).unwrap()).hard_cap(8);
        let mut serving = Serving::start(options.max_connections_per_peer(1)).await;
        let there = from(&serving, CLIENT);
        assert!(is_in(&there).await);
        let client = serving.connect();
        // Glued to the header, and behind it.
        send(&client, &[&header_of(CLIENT)[..], b"EHLO example\r\n"].concat());
        send(&client, &[b'x'; 50_000]);
        assert_eq!(told(client).await.expect("unread bytes would make it a reset"), "too many of you\n");
        leaves(&mut serving, there).await;
        serving.end().await;
    });
}

#[test]
fn a_refused_client_that_goes_on_talking_is_heard_out_for_a_second() {
    run_paused(async {
        let mut serving = Serving::start(capped().max_connections_per_peer(1)).await;
        let there = from(&serving, CLIENT);
        assert!(is_in(&there).await);
        let talker = from(&serving, CLIENT);
        assert!(!is_in(&talker).await);
        let start = Instant::now();
        // Whoever talks is not silent, and a closed socket answers with a reset.
        while std::io::Write::write(&mut &talker, b"x").is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(start.elapsed() < Duration::from_millis(1_500), "it is still read from");
        }
        // But not at once: a reset must not overtake the farewell on its way to the client.
        assert!(start.elapsed() > Duration::from_millis(900), "{:?}", start.elapsed());
        leaves(&mut serving, there).await;
        serving.end().await;
    });
}

#[test]
fn a_stop_ends_who_is_refused_with_the_others() {
    run_paused(async {
        let serving = Serving::start(capped().max_connections_per_peer(1)).await;
        let there = from(&serving, CLIENT);
        assert!(is_in(&there).await);
        let late = serving.connect();
        tick().await;
        let stopping = serving.server.stop(Duration::from_secs(2));
        let (stopped, ()) = tokio::join!(stopping, async {
            tick().await;
            send(&late, &header_of(CLIENT));
            assert!(!is_in(&late).await);
        });
        assert_eq!((stopped.finished + stopped.idle, stopped.aborted), (2, 0), "{stopped:?}");
        assert_eq!(serving.server.stats().refused_per_peer, 1);
        drop((there, late));
    });
}

#[cfg(feature = "tls")]
#[test]
fn over_tls_a_refused_client_sees_an_end_before_any_handshake() {
    run_paused(async {
        let realm = support::tls::Realm::new();
        let options =
            capped().max_connections_per_peer(1).tls(realm.server(millstream::tls::TlsVersion::V1_3));
        let mut serving = Serving::start(options).await;
        let there = from(&serving, CLIENT);
        tick().await;
        assert_eq!(serving.server.stats().handshakes, 1);
        assert_eq!(answer(from(&serving, CLIENT)).await, b"", "no farewell: its peer expects TLS");
        let stats = serving.server.stats();
        assert_eq!((stats.handshakes, stats.refused_per_peer), (1, 1));
        drop(there);
        assert!(serving.failure().await.tls_handshake().is_some(), "the first one went in its handshake");
        // Its place is free again.
        let next = from(&serving, CLIENT);
        tick().await;
        assert_eq!((serving.server.stats().handshakes, serving.server.stats().refused_per_peer), (1, 1));
        drop(next);
        assert!(serving.failure().await.tls_handshake().is_some());
        serving.end().await;
    });
}

#[test]
fn who_is_refused_while_the_server_stops_is_cut_off_at_its_deadline_as_all_are() {
    run(async {
        let serving = Serving::start(capped().max_connections_per_peer(1)).await;
        let first = from(&serving, CLIENT);
        assert!(is_in(&first).await);
        let late = serving.connect();
        while serving.server.connections() < 2 {
            tick().await;
        }
        let header_in_time = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            send(&late, &header_of(CLIENT));
        };
        let (stopped, ()) = tokio::join!(serving.server.stop(Duration::from_millis(200)), header_in_time);
        assert_eq!(serving.server.stats().refused_per_peer, 1, "{stopped:?}");
        // Its own time to read the farewell would be a second.
        let over = Instant::now();
        while std::io::Write::write(&mut &late, b"x").is_ok() {
            tick().await;
        }
        assert!(over.elapsed() < Duration::from_millis(500), "{:?}", over.elapsed());
        drop(first);
    });
}
