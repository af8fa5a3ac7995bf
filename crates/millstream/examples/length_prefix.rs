//! Messages with a length prefix: four bytes, big-endian, then that many bytes.
//!
//! `cargo run --example length_prefix` sends three messages to a server of its own and prints the answers.

use bytes::Bytes;
use millstream::{Error, Server, StreamReader, StreamWriter};

/// The longest message of this protocol, in bytes.
const LONGEST: usize = 1024 * 1024;

/// The next message; `None` if the peer has ended between two messages.
pub(crate) async fn read_message(reader: &mut StreamReader) -> Result<Option<Bytes>, Error> {
    let head = match reader.read_exactly_borrowed(4).await {
        Ok(head) => [head[0], head[1], head[2], head[3]],
        Err(error) if error.is_clean_end() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let len = u32::from_be_bytes(head) as usize;
    // `read_exactly` holds what it is asked for, so a length that a stranger has sent is looked at first.
    if len > LONGEST {
        return Err(std::io::Error::other(format!("a message of {len} bytes; {LONGEST} is the most")).into());
    }
    // An end inside a message is an error that says after how many bytes, and hands them over.
    Ok(Some(reader.read_exactly(len).await?))
}

/// Queues one message: both parts, or neither.
pub(crate) fn write_message(writer: &StreamWriter, message: &[u8]) -> Result<(), Error> {
    let len = u32::try_from(message.len()).map_err(std::io::Error::other)?;
    Ok(writer.write_lines(&[&len.to_be_bytes()[..], message])?)
}

/// Sends every message back in capitals.
async fn serve(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
    while let Some(message) = read_message(&mut reader).await? {
        write_message(&writer, &message.to_ascii_uppercase())?;
        writer.drain().await?;
    }
    Ok(())
}

pub(crate) async fn start(host: &str, port: u16) -> Result<Server, Error> {
    Ok(millstream::start_server(host, port, serve).await?)
}

#[tokio::main(flavor = "current_thread")]
#[allow(dead_code, reason = "the tests include this file as a module")]
async fn main() -> Result<(), Error> {
    let server = start("127.0.0.1", 0).await?;
    let port = server.sockets()[0].port().expect("TCP");
    let (mut reader, writer) = millstream::open_connection("127.0.0.1", port).await?;
    for message in ["one", "", "a longer one"] {
        write_message(&writer, message.as_bytes())?;
    }
    for _ in 0..3 {
        println!("Answer: {:?}", read_message(&mut reader).await?);
    }
    Ok(())
}
