//! The same pair over TLS: connecting, serving, upgrading, half-closing, and what the two sides know of each other.
#![cfg(feature = "tls")]

mod support;

use millstream::tls::{TlsClient, TlsServer, TlsVersion};
use millstream::{ConnectOptions, ServerOptions};
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
