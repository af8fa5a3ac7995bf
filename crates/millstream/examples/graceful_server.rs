//! A line server for the open internet: capped, with deadlines, and stopped gracefully by SIGTERM or Ctrl-C.
//!
//! `cargo run --example graceful_server -- 127.0.0.1 8888`; under systemd's socket activation it serves on the sockets
//! that it was started with.

use std::time::Duration;

use millstream::{Deadlines, Error, ServeError, Server, ServerOptions, StreamReader, StreamWriter};

/// Answers each line with its length. Idle between two lines; at work while `slow` is computed.
pub(crate) async fn count(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
    let stopping = writer.stopping();
    while let Some(line) = reader.read_line().await? {
        if line.starts_with(b"slow") {
            // Work that can be cut short is, when the server is being stopped; the answer is sent all the same.
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(60)) => {}
                () = stopping.requested() => writer.write(b"in short: ")?,
            }
        }
        writer.write(format!("{}\n", line.len()).as_bytes())?;
        writer.drain().await?;
    }
    Ok(())
}

pub(crate) async fn start(host: &str, port: u16) -> Result<Server, Error> {
    let options = ServerOptions::new()
        .limit(4096)
        .max_connections(1000)
        .max_connections_per_peer(100)
        .deadlines(Deadlines::internet().item(Duration::from_secs(30)));
    match options.start_inherited(count) {
        Err(ServeError::NoInherited { .. }) => Ok(options.start(host, port, count).await?),
        server => Ok(server?),
    }
}

pub(crate) async fn serve(host: &str, port: u16) -> Result<(), Error> {
    let server = start(host, port).await?;
    for address in server.sockets() {
        println!("Serving on {address}");
    }
    let (signal, stopped) = server.serve_until_terminated(Duration::from_secs(10)).await?;
    println!("Stopped by {signal:?}: {stopped:?}");
    println!("{:?}", server.stats());
    Ok(())
}

#[tokio::main]
#[allow(dead_code, reason = "the tests include this file as a module")]
async fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let host = args.next().unwrap_or_else(|| "127.0.0.1".to_owned());
    let port = args.next().and_then(|port| port.parse().ok()).unwrap_or(8888);
    serve(&host, port).await
}
