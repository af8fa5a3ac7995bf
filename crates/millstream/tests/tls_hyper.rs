//! hyper, HTTP/1.1 with kept connections and large bodies, over our TLS on both sides.
#![cfg(feature = "tls")]

mod support;

use std::convert::Infallible;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use millstream::tls::{TlsClient, TlsServer, TlsVersion};
use millstream::{ConnectOptions, Server, ServerOptions, StreamReader, StreamWriter};
use support::certificates::Authority;
use support::{run, run_on_threads};
use tokio::io::{AsyncWriteExt, join};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

type Pair = (StreamReader, StreamWriter);

#[test]
fn large_bodies_go_both_ways_over_one_kept_connection_of_tls_1_3() {
    run(one_connection(TlsVersion::V1_3));
}

#[test]
fn large_bodies_go_both_ways_over_one_kept_connection_of_tls_1_2() {
    run(one_connection(TlsVersion::V1_2));
}

async fn one_connection(version: TlsVersion) {
    let (client, server, mut ends) = start(version).await;
    let bodies = [0, 1, 16_384, 5_000_000, 5, 3_000_000];
    speak_http(open(&client, &server).await, &bodies).await;
    ends.recv().await.expect("served").expect("a clean end at the server");
    server.close();
    server.wait_closed().await;
}

#[test]
fn many_connections_at_once_are_served_on_several_threads() {
    run_on_threads(async {
        let (client, server, mut ends) = start(TlsVersion::V1_3).await;
        let mut speakers = Vec::new();
        for n in 0..8 {
            let pair = open(&client, &server).await;
            speakers.push(tokio::spawn(async move { speak_http(pair, &[n, 100_000 * n, 10]).await }));
        }
        for speaker in speakers {
            speaker.await.expect("no panic");
            ends.recv().await.expect("served").expect("a clean end at the server");
        }
        server.close();
        server.wait_closed().await;
    });
}

#[test]
fn the_servers_close_ends_the_clients_connection_cleanly() {
    run(async {
        for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
            let (client, server, mut ends) = start(version).await;
            let (reader, writer) = open(&client, &server).await;
            let io = TokioIo::new(join(reader, writer));
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(io).await.expect("a fresh connection");
            let connection = tokio::spawn(connection);
            let request = Request::post("/last").header("host", "test").header("connection", "close");
            let request = request.body(Full::new(Bytes::from_static(b"last"))).expect("a valid request");
            let response = sender.send_request(request).await.expect("an answer");
            assert_eq!(response.into_body().collect().await.expect("a body").to_bytes(), "tsal");
            connection.await.expect("no panic").expect("a clean end at the client");
            ends.recv().await.expect("served").expect("a clean end at the server");
            server.close();
            server.wait_closed().await;
        }
    });
}

#[test]
fn a_shutdown_over_tls_1_2_ends_both_directions_and_loses_nothing_that_was_sent() {
    run(async {
        let (client, server) = configurations(TlsVersion::V1_2);
        let (tell, mut ends) = unbounded_channel();
        let options = ServerOptions::new().tls(server);
        let server = options.start("127.0.0.1", 0, move |mut reader: StreamReader, writer: StreamWriter| {
            let tell = tell.clone();
            async move {
                writer.write_bytes(vec![7; 100_000]).expect("open");
                let received = reader.read_to_end(100).await;
                drop(tell.send(received));
            }
        });
        let server = server.await.expect("a free port");
        let (mut reader, mut writer) = open(&client, &server).await;
        reader.peek().await.expect("the answer begins");
        writer.write(b"the last words").expect("open");
        AsyncWriteExt::shutdown(&mut writer).await.expect("a clean end");
        AsyncWriteExt::shutdown(&mut writer).await.expect("and nothing more");
        assert!(writer.write(b"too late").is_err());
        assert_eq!(reader.read_exactly(100_000).await.expect("what was under way").len(), 100_000);
        assert_eq!(ends.recv().await.expect("served").expect("a clean end at the server"), "the last words");
        assert_eq!(reader.read(1).await.expect("a clean end at the client"), "");
        server.close();
        server.wait_closed().await;
    });
}

/// A client, a server that turns bodies round, and how each of its connections ended.
async fn start(version: TlsVersion) -> (TlsClient, Server, UnboundedReceiver<hyper::Result<()>>) {
    let (client, tls) = configurations(version);
    let (tell, ends) = unbounded_channel();
    let options = ServerOptions::new().tls(tls);
    let server = options.start("127.0.0.1", 0, move |reader, writer| {
        let tell = tell.clone();
        async move { drop(tell.send(serve_http((reader, writer)).await)) }
    });
    (client, server.await.expect("a free port"), ends)
}

fn configurations(version: TlsVersion) -> (TlsClient, TlsServer) {
    let authority = Authority::new("test root");
    let client = TlsClient::builder().root_certificates(authority.root()).alpn(&["http/1.1"]);
    let client = client.minimum_version(version).maximum_version(version).build().expect("valid");
    let identity = authority.server(&["localhost"]);
    let tls = TlsServer::builder().certificate(identity.chain, identity.key).alpn(&["http/1.1"]);
    (client, tls.build().expect("valid"))
}

async fn open(client: &TlsClient, server: &Server) -> Pair {
    let client = client.clone().server_name("localhost").expect("a name");
    let port = server.sockets()[0].port().expect("TCP");
    let pair = ConnectOptions::new().tls(client).open("127.0.0.1", port).await.expect("served");
    assert_eq!(pair.1.tls_info().expect("TLS").alpn.as_deref(), Some(&b"http/1.1"[..]));
    pair
}

/// Answers every request with its body turned round, for as long as the connection lives.
async fn serve_http((reader, writer): Pair) -> hyper::Result<()> {
    let turn_round = service_fn(|request: Request<Incoming>| async {
        let mut body = request.into_body().collect().await.expect("a whole body").to_bytes().to_vec();
        body.reverse();
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(body))))
    });
    let io = TokioIo::new(join(reader, writer));
    hyper::server::conn::http1::Builder::new().serve_connection(io, turn_round).await
}

/// Sends these many bytes in each of several requests over one connection.
async fn speak_http((reader, writer): Pair, bodies: &[usize]) {
    let io = TokioIo::new(join(reader, writer));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(io).await.expect("a fresh connection");
    let connection = tokio::spawn(connection);
    for &len in bodies {
        let body: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).expect("below 251")).collect();
        let request = Request::post("/").header("host", "test").body(Full::new(Bytes::from(body.clone())));
        sender.ready().await.expect("kept alive");
        let response = sender.send_request(request.expect("a valid request")).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        let answer = response.into_body().collect().await.expect("a whole body").to_bytes();
        assert!(answer.iter().rev().eq(&body), "{len} bytes");
    }
    drop(sender);
    connection.await.expect("no panic").expect("a clean end at the client");
}
