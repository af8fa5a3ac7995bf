//! A chat room: every line someone sends goes to everyone else. A client that does not read is cut, not waited for.
//!
//! `cargo run --example line_chat -- 127.0.0.1 8888`, then several times `nc 127.0.0.1 8888`

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use millstream::{Address, Error, Server, ServerOptions, StreamWriter};

/// Who is there. Writers are shared: writing is synchronous and takes `&self`.
type Room = Arc<Mutex<HashMap<Address, Arc<StreamWriter>>>>;

pub(crate) async fn start_chat(host: &str, port: u16) -> Result<Server, Error> {
    let room = Room::default();
    // A slow reader may have 1 MiB queued; the next line to it fails, and that cuts it off.
    let options = ServerOptions::new().limit(4096).hard_cap(1024 * 1024);
    let server = options.start(host, port, move |mut reader, writer| {
        let room = Arc::clone(&room);
        async move {
            let me = writer.peer_address().unwrap_or(Address::Unnamed);
            room.lock().expect("no panic inside").insert(me.clone(), Arc::new(writer));
            let result: Result<(), Error> = async {
                while let Some(line) = reader.read_line().await? {
                    say(&room, &me, &line);
                }
                Ok(())
            }
            .await;
            room.lock().expect("no panic inside").remove(&me);
            result
        }
    });
    Ok(server.await?)
}

fn say(room: &Room, from: &Address, line: &[u8]) {
    let mut room = room.lock().expect("no panic inside");
    let name = format!("{from}: ");
    room.retain(|to, writer| {
        let sent = to == from || writer.write_lines(&[name.as_bytes(), line]).is_ok();
        if !sent {
            writer.abort();
        }
        sent
    });
}

#[tokio::main]
#[allow(dead_code, reason = "the demo includes this file as a module")]
async fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let host = args.next().unwrap_or_else(|| "127.0.0.1".to_owned());
    let port = args.next().and_then(|port| port.parse().ok()).unwrap_or(8888);
    start_chat(&host, port).await?.serve_forever().await?;
    Ok(())
}
