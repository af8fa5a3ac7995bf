//! TCP echo server: the second example of Python's asyncio Streams.
//!
//! `cargo run --example echo_server -- 127.0.0.1 8888`

use millstream::{Error, StreamReader, StreamWriter};

pub(crate) async fn handle_echo(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
    let data = reader.read(100).await?;
    let peer = writer.peer_address().expect("a living connection has a peer");
    println!("Received {:?} from {peer}", String::from_utf8_lossy(&data));

    println!("Send: {:?}", String::from_utf8_lossy(&data));
    writer.write(&data)?;
    writer.drain().await?;

    println!("Close the connection");
    writer.close();
    writer.wait_closed().await?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
#[allow(dead_code, reason = "the demo includes this file as a module")]
async fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let host = args.next().unwrap_or_else(|| "127.0.0.1".to_owned());
    let port = args.next().and_then(|port| port.parse().ok()).unwrap_or(8888);

    let server = millstream::start_server(&host, port, handle_echo).await?;
    for address in server.sockets() {
        println!("Serving on {address}");
    }
    server.serve_forever().await?;
    Ok(())
}
