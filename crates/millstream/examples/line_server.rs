//! A line protocol: a store of names and values, with `SET name value`, `GET name` and `QUIT`.
//!
//! `cargo run --example line_server -- 127.0.0.1 8888`, then `nc 127.0.0.1 8888`

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use millstream::{Error, ReadLineError, Server, ServerOptions, StreamReader, StreamWriter};

type Store = Arc<Mutex<HashMap<Vec<u8>, Vec<u8>>>>;

/// One client, from its first line to its end.
async fn serve(mut reader: StreamReader, writer: StreamWriter, store: Store) -> Result<(), Error> {
    loop {
        let line = match reader.read_line().await {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(()), // the client has ended its side
            Err(ReadLineError::LimitOverrun { limit, .. }) => {
                // The line is still in the buffer and the stream is whole: drop just this line, and go on.
                writer.write(format!("ERROR a line has at most {limit} bytes\n").as_bytes())?;
                reader.skip_until(b"\n").await?;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if line.trim_ascii_end() == b"QUIT" {
            writer.write(b"BYE\n")?;
            return Ok(()); // dropping the writer sends what is queued, then the end
        }
        let answer = answer(line.trim_ascii_end(), &store);
        writer.write_lines(&[answer.as_slice(), b"\n"])?;
        writer.drain().await?; // lets a client that reads slowly keep up
    }
}

fn answer(line: &[u8], store: &Store) -> Vec<u8> {
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let mut store = store.lock().expect("no panic inside");
    match (words.next(), words.next(), words.next()) {
        (Some(b"SET"), Some(name), Some(value)) => {
            store.insert(name.to_vec(), value.to_vec());
            b"OK".to_vec()
        }
        (Some(b"GET"), Some(name), None) => store.get(name).cloned().unwrap_or_default(),
        _ => b"ERROR what?".to_vec(),
    }
}

pub(crate) async fn start(host: &str, port: u16) -> Result<Server, Error> {
    let store = Store::default();
    let options = ServerOptions::new().limit(1024); // the longest line of this protocol
    let handler = move |reader, writer| serve(reader, writer, Arc::clone(&store));
    Ok(options.start(host, port, handler).await?)
}

#[tokio::main]
#[allow(dead_code, reason = "the tests include this file as a module")]
async fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let host = args.next().unwrap_or_else(|| "127.0.0.1".to_owned());
    let port = args.next().and_then(|port| port.parse().ok()).unwrap_or(8888);
    let server = start(&host, port).await?;
    for address in server.sockets() {
        println!("Serving on {address}");
    }
    server.serve_forever().await?;
    Ok(())
}
