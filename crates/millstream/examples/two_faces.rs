//! Both faces talking to each other: a Rust server with a Python client, then a Python server with a Rust client.
//!
//! `cargo run --example two_faces -- PYTHON` with an interpreter in which the Python package is installed.

use std::process::Stdio;

use millstream::{BoxError, Error, StreamReader, StreamWriter};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

async fn echo(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
    while let Some(line) = reader.read_line_borrowed().await? {
        writer.write(line)?;
        writer.drain().await?;
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let python = std::env::args().nth(1).ok_or("usage: two_faces PYTHON")?;
    let server = millstream::start_server("127.0.0.1", 0, echo).await?;
    let port = server.sockets()[0].port().ok_or("no port")?;

    println!("\n== The Python face, with the Rust one at the other end");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python/examples/demo.py");
    let mut child = Command::new(python)
        .args([script, &port.to_string()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut output = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    while let Some(line) = output.next_line().await? {
        match line.strip_prefix("PORT ") {
            None => println!("{line}"),
            Some(port) => talk_to(port.parse()?).await?,
        }
    }
    let status = child.wait().await?;
    if status.success() { Ok(()) } else { Err(format!("the Python half failed: {status}").into()) }
}

async fn talk_to(port: u16) -> Result<(), BoxError> {
    let (mut reader, writer) = millstream::open_connection("127.0.0.1", port).await?;
    writer.write(b"Hello from Rust!\n")?;
    let answer = reader.read_line().await?.ok_or("the server hung up")?;
    println!("Rust client: got back {:?} from the Python server", String::from_utf8_lossy(&answer));
    writer.close();
    Ok(writer.wait_closed().await?)
}
