//! A TCP proxy: every connection to one address is relayed to another.
//!
//! `cargo run --example proxy -- 127.0.0.1:8888 example.org:80`

use std::time::Duration;

use millstream::{ConnectOptions, Error, RelayOptions, Server, StreamReader, StreamWriter};

/// Relays one client to the server. A server that cannot be reached fails the handler, which is reported.
pub(crate) async fn carry(
    mut reader: StreamReader,
    writer: StreamWriter,
    host: String,
    port: u16,
) -> Result<(), Error> {
    let options = ConnectOptions::new().timeout(Duration::from_secs(10));
    let (mut from_server, to_server) = options.open(&host, port).await?;
    let peer = writer.peer_address().expect("a living connection has a peer");
    println!("{peer} is connected to {host}:{port}");

    let options = RelayOptions::new().idle_timeout(Duration::from_secs(600));
    let relayed = options.relay((&mut reader, &writer), (&mut from_server, &to_server)).await;
    println!("{peer}: {} bytes there, {} back; {}", relayed.a_to_b, relayed.b_to_a, relayed.end);
    if !relayed.is_complete() {
        // A stream that was cut must not look like a whole one to the side that is still there.
        writer.abort();
        to_server.abort();
    }
    Ok(())
}

pub(crate) async fn start_proxy(listen: (&str, u16), server: (&str, u16)) -> Result<Server, Error> {
    let (host, port) = (server.0.to_owned(), server.1);
    let handler = move |reader, writer| carry(reader, writer, host.clone(), port);
    Ok(millstream::start_server(listen.0, listen.1, handler).await?)
}

/// `host:port`, where the host may be an IPv6 address in brackets.
pub(crate) fn parse(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    Some((host.trim_start_matches('[').trim_end_matches(']'), port.parse().ok()?))
}

#[tokio::main(flavor = "current_thread")]
#[allow(dead_code, reason = "the tests include this file as a module")]
async fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [Some(listen), Some(server)] = [0, 1].map(|at| args.get(at).and_then(|address| parse(address)))
    else {
        eprintln!("usage: proxy LISTEN-HOST:PORT SERVER-HOST:PORT");
        std::process::exit(2);
    };
    let proxy = start_proxy(listen, server).await?;
    for address in proxy.sockets() {
        println!("Relaying {address} to {}:{}", server.0, server.1);
    }
    proxy.serve_forever().await?;
    Ok(())
}
