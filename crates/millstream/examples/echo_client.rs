//! TCP echo client: the first example of Python's asyncio Streams.
//!
//! `cargo run --example echo_client -- 127.0.0.1 8888 "Hello World!"` (start `echo_server` first)

use millstream::Error;

pub(crate) async fn tcp_echo_client(host: &str, port: u16, message: &str) -> Result<String, Error> {
    let (mut reader, writer) = millstream::open_connection(host, port).await?;

    println!("Send: {message:?}");
    writer.write(message.as_bytes())?;
    writer.drain().await?;

    let data = reader.read(100).await?;
    let answer = String::from_utf8_lossy(&data).into_owned();
    println!("Received: {answer:?}");

    println!("Close the connection");
    writer.close();
    writer.wait_closed().await?;
    Ok(answer)
}

#[tokio::main(flavor = "current_thread")]
#[allow(dead_code, reason = "the demo includes this file as a module")]
async fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let host = args.next().unwrap_or_else(|| "127.0.0.1".to_owned());
    let port = args.next().and_then(|port| port.parse().ok()).unwrap_or(8888);
    let message = args.next().unwrap_or_else(|| "Hello World!".to_owned());
    tcp_echo_client(&host, port, &message).await.map(drop)
}
