//! Register an open socket to wait for data: the fourth example of Python's asyncio Streams.
//!
//! `cargo run --example open_socket`

use std::io::Write;
use std::os::unix::net::UnixStream;

use millstream::{BoxError, ConnectOptions};

pub(crate) async fn wait_for_data() -> Result<Vec<u8>, BoxError> {
    // Two connected sockets that someone else has opened.
    let (ours, mut theirs) = UnixStream::pair()?;

    // Register the open socket to wait for data.
    let (mut reader, writer) = ConnectOptions::new().adopt_unix(ours)?;

    // Simulate the reception of data from the network.
    let sender = std::thread::spawn(move || theirs.write_all(b"abc"));

    let data = reader.read(100).await?;
    println!("Received: {:?}", String::from_utf8_lossy(&data));
    sender.join().map_err(|_| "the sending thread panicked")??;

    // Got data, we are done: close the socket.
    writer.close();
    writer.wait_closed().await?;
    Ok(data.to_vec())
}

#[tokio::main(flavor = "current_thread")]
#[allow(dead_code, reason = "the demo includes this file as a module")]
async fn main() -> Result<(), BoxError> {
    wait_for_data().await.map(drop)
}
