//! Stopping a server with TLS: idle peers get a close_notify, silent handshakes do not hold it up, all is counted.
#![cfg(feature = "tls")]

mod support;

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream::tls::TlsVersion;
use millstream::{ConnectOptions, Server, ServerOptions, StreamReader, StreamWriter};
use support::tls::{Realm, Side};
use support::{echo, ping, run};

#[test]
fn idle_tls_peers_see_a_clean_end_and_silent_handshakes_end_with_them() {
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        run(async {
            let realm = Realm::new();
            let options =
                ServerOptions::new().tls(realm.server(version)).on_failure(|failure| panic!("{failure}"));
            let server = options.start("127.0.0.1", 0, echo).await.unwrap();
            let (mut used, used_says) = connect(&realm, &server, version).await;
            ping(&mut used, &used_says).await;
            let (mut silent, silent_says) = connect(&realm, &server, version).await;
            let (mut part, part_says) = connect(&realm, &server, version).await;
            part_says.write(b"pi").unwrap();
            part_says.flush().unwrap();
            let never = TcpStream::connect(("127.0.0.1", port(&server))).unwrap();
            while server.connections() < 4 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(server.stats().handshakes, 1);
            let began = Instant::now();
            let hear = async {
                // Without a close_notify this would be an error.
                assert_eq!(used.read_line().await.unwrap(), None);
                drop((used, used_says));
                assert_eq!(silent.read_line().await.unwrap(), None);
                drop((silent, silent_says));
                assert!(began.elapsed() < LONG / 4);
                part_says.write(b"ng\n").unwrap();
                assert_eq!(part.read_to_end(100).await.unwrap(), "ping\n");
                drop((part, part_says));
            };
            let (stopped, ()) = tokio::join!(server.stop(LONG), hear);
            assert_eq!((stopped.finished, stopped.idle, stopped.aborted), (0, 4, 0), "{version:?}");
            assert!(began.elapsed() < LONG / 4, "{:?}", began.elapsed());
            let stats = server.stats();
            assert_eq!((stats.accepted, stats.handshakes, stats.handshakes_failed), (4, 0, 0));
            drop(never);
        });
    }
}

/// What is in the middle of its upgrade is no idle connection, and no new one either.
#[test]
fn an_upgrade_goes_on_while_the_server_stops() {
    run(async {
        let realm = Arc::new(Realm::new());
        let of_the_server = Arc::clone(&realm);
        let handler = move |mut reader: StreamReader, writer: StreamWriter| {
            let realm = Arc::clone(&of_the_server);
            async move {
                reader.read_line().await?;
                writer.write(b"go ahead\n")?;
                writer.start_tls(&mut reader, &realm.server(TlsVersion::V1_3)).await?;
                echo(reader, writer).await
            }
        };
        let options = ServerOptions::new().on_failure(|failure| panic!("{failure}"));
        let server = options.start("127.0.0.1", 0, handler).await.unwrap();
        let (mut reader, writer) = millstream::open_connection("127.0.0.1", port(&server)).await.unwrap();
        writer.write(b"STARTTLS\n").unwrap();
        assert_eq!(reader.read_line().await.unwrap().as_deref(), Some(&b"go ahead\n"[..]));
        let talk = async {
            // Longer than new connections have.
            tokio::time::sleep(Duration::from_millis(350)).await;
            realm.start(Side::Client, TlsVersion::V1_3, &mut reader, &writer).await.unwrap();
            assert_eq!(reader.read_line().await.unwrap(), None, "idle once it is over");
            drop((reader, writer));
        };
        let (stopped, ()) = tokio::join!(server.stop(LONG), talk);
        assert_eq!((stopped.finished, stopped.idle, stopped.aborted), (0, 1, 0));
    });
}

#[test]
fn handshakes_that_fail_or_are_pushed_out_are_counted() {
    run(async {
        let realm = Realm::new();
        let options = ServerOptions::new().tls(realm.server(TlsVersion::V1_3)).handshakes_at_once(2);
        let server = options.on_failure(|_| {}).start("127.0.0.1", 0, echo).await.unwrap();
        let silent: Vec<_> =
            (0..5).map(|_| TcpStream::connect(("127.0.0.1", port(&server))).unwrap()).collect();
        while server.stats().handshakes_pushed_out < 3 || server.stats().handshakes_failed < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let stats = server.stats();
        assert_eq!((stats.accepted, stats.handshakes), (5, 2));
        assert_eq!((stats.handshakes_pushed_out, stats.handshakes_failed), (3, 3));
        drop(silent);
        while server.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let stats = server.stats();
        assert_eq!((stats.handshakes, stats.handshakes_pushed_out, stats.handshakes_failed), (0, 3, 5));
        assert_eq!((stats.handler_errors, stats.handler_panics), (0, 0));
        server.stop(LONG).await;
    });
}

async fn connect(realm: &Realm, server: &Server, version: TlsVersion) -> (StreamReader, StreamWriter) {
    let options = ConnectOptions::new().tls(realm.client(version));
    options.open("127.0.0.1", port(server)).await.expect("a living server")
}

fn port(server: &Server) -> u16 {
    server.sockets()[0].port().expect("TCP")
}

/// No test waits that long unless it fails.
const LONG: Duration = Duration::from_secs(20);
