//! A `select!` loop over `read_until(b"\r\n\r\n")` and a ticker: every tick cancels the read, and nothing is lost.
//!
//! With tokio's `read_line` or `read_exact` in the same place, the bytes of a cancelled call are gone.
//! `cargo run --example cancel_safe`

use std::time::Duration;

use millstream::{Error, StreamReader, StreamWriter};

/// Sends numbered messages in pieces of one byte.
async fn send_slowly(writer: StreamWriter, messages: usize) -> Result<(), Error> {
    for number in 0..messages {
        for byte in format!("message {number}\r\nwith a body\r\n\r\n").bytes() {
            writer.write(&[byte])?;
            writer.flush()?;
            tokio::time::sleep(Duration::from_micros(50)).await;
        }
    }
    writer.close();
    Ok(writer.wait_closed().await?)
}

/// Receives them, though every tick cancels the read. Returns how many came and how often a read was cancelled.
async fn receive(mut reader: StreamReader) -> Result<(usize, usize), Error> {
    let (mut messages, mut cancelled) = (0, 0);
    let mut ticker = tokio::time::interval(Duration::from_micros(300));
    loop {
        tokio::select! {
            message = reader.read_until(b"\r\n\r\n") => match message? {
                Some(message) => {
                    assert_eq!(message, format!("message {messages}\r\nwith a body\r\n\r\n"));
                    messages += 1;
                }
                None => return Ok((messages, cancelled)),
            },
            _ = ticker.tick() => cancelled += 1,
        }
    }
}

pub(crate) async fn cancel_safe(messages: usize) -> Result<(usize, usize), Error> {
    let ((reader, _writer), (_reader, writer)) = millstream::testing::pair();
    let sender = tokio::spawn(send_slowly(writer, messages));
    let (received, cancelled) = receive(reader).await?;
    sender.await.expect("the sender does not panic")?;
    println!("{received} of {messages} messages whole and in order, {cancelled} reads cancelled on the way");
    Ok((received, cancelled))
}

#[tokio::main(flavor = "current_thread")]
#[allow(dead_code, reason = "the demo includes this file as a module")]
async fn main() -> Result<(), Error> {
    cancel_safe(50).await.map(drop)
}
