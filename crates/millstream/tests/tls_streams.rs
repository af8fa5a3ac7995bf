//! The same pair over TLS: connecting, serving, upgrading, half-closing, and what the two sides know of each other.
#![cfg(feature = "tls")]

mod support;

use std::time::Duration;

use millstream::tls::{TlsClient, TlsServer, TlsVersion};
use millstream::{ConnectOptions, ServerOptions, StreamReader, StreamWriter};
use support::certificates::Authority;
use support::{echo, ping, run};

/// A client that trusts the authority, and a server for `localhost` that it vouches for.
fn configurations() -> (TlsClient, TlsServer) {
    let authority = Authority::new("test root");
    let identity = authority.server(&["localhost"]);
    let client = TlsClient::builder().root_certificates(authority.root()).build().expect("valid");
    (client, TlsServer::new(identity.chain, identity.key).expect("valid"))
}

#[test]
fn an_echo_over_tls_needs_one_option_on_each_side() {
    run(async {
        let (client, server) = configurations();
        let server = ServerOptions::new().tls(server).start("localhost", 0, echo).await.unwrap();
        let port = server.sockets()[0].port().unwrap();
        let (mut reader, writer) = ConnectOptions::new().tls(client).open("localhost", port).await.unwrap();
        ping(&mut reader, &writer).await;
        let info = writer.tls_info().unwrap();
        assert_eq!((info.version, info.server_name.as_deref()), (TlsVersion::V1_3, Some("localhost")));
        writer.close();
        writer.wait_closed().await.unwrap();
        server.close();
        server.wait_closed().await;
    });
}

#[test]
fn session_tickets_leave_with_a_handlers_first_words_or_at_the_end_of_its_turn_without_any() {
    run(async {
        for speaks in [true, false] {
            let (client, server) = configurations();
            let (tell, mut told) = tokio::sync::mpsc::channel(1);
            let handler = move |mut reader: StreamReader, writer: StreamWriter| {
                let tell = tell.clone();
                async move {
                    if speaks {
                        writer.write(b"hello\n").unwrap();
                    }
                    // The turn ends here, and what has to leave leaves.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    let stats = writer.stats();
                    assert_eq!(stats.queued, 0);
                    tell.send(stats.writes).await.unwrap();
                    let _ = reader.read(1).await;
                }
            };
            let server = ServerOptions::new().tls(server).start("localhost", 0, handler).await.unwrap();
            let port = server.sockets()[0].port().unwrap();
            let (mut reader, writer) =
                ConnectOptions::new().tls(client).open("localhost", port).await.unwrap();
            // The server's part of the handshake is one send; the tickets, and what is written, are the other.
            assert_eq!(told.recv().await, Some(2), "speaks: {speaks}");
            if speaks {
                assert_eq!(reader.read_line().await.unwrap().unwrap(), "hello\n");
            }
            writer.close();
            writer.wait_closed().await.unwrap();
            server.close();
            server.wait_closed().await;
        }
    });
}
