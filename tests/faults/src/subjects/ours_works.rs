//! Further works of our server: to name its client, to meet peers that vanish, to be stopped in the midst of them all.

use std::time::Duration;

use millstream::{Error, StreamReader, StreamWriter};

use super::{FILL_LEN, say};

type Done = Result<(), Error>;

/// Says who the peer is, then sends everything back.
pub(super) async fn name(mut reader: StreamReader, writer: StreamWriter) -> Done {
    let peer = writer.peer_address().map_or_else(|| "nobody".to_owned(), |address| address.to_string());
    writer.write(format!("{peer}\n").as_bytes())?;
    loop {
        let bytes = reader.read(64 * 1024).await?;
        if bytes.is_empty() {
            return Ok(());
        }
        writer.write_bytes(bytes)?;
        writer.drain().await?;
    }
}

/// Waits on its reader after the line `idle`, otherwise writes without end; reports how that ended.
pub(super) async fn watch(mut reader: StreamReader, writer: StreamWriter) -> Done {
    let is_idle = reader.read_line().await?.is_some_and(|line| line == "idle\n");
    writer.write(b"go\n")?;
    writer.drain().await?;
    if is_idle {
        match reader.read_line().await {
            Ok(line) => say(format_args!("idle ended {line:?}")),
            Err(error) => say(format_args!("idle lost {error}")),
        }
        return Ok(());
    }
    loop {
        if let Err(error) = writer.write(&[b'w'; FILL_LEN]) {
            say(format_args!("writing lost {error}"));
            return Ok(());
        }
        if let Err(error) = writer.drain().await {
            say(format_args!("writing lost {error}"));
            return Ok(());
        }
    }
}

/// Follows orders, one a line. What takes its time takes it while the server is being stopped.
pub(super) async fn orders(mut reader: StreamReader, writer: StreamWriter) -> Done {
    let stopping = writer.stopping();
    while let Some(order) = reader.read_line().await? {
        match &order[..] {
            b"ping\n" => writer.write(b"pong\n")?,
            b"much\n" => writer.write(&vec![b'm'; MUCH])?,
            b"endless\n" => loop {
                writer.write(&[b'e'; FILL_LEN])?;
                writer.drain().await?;
            },
            b"pieces\n" => {
                for piece in 0..PIECES {
                    if piece == 1 {
                        stopping.requested().await;
                    }
                    writer.write(&[b'p'; PIECE_LEN])?;
                    writer.drain().await?;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            b"later\n" => {
                stopping.requested().await;
                tokio::time::sleep(Duration::from_millis(300)).await;
                writer.write(b"now\n")?;
            }
            b"hang\n" => std::future::pending().await,
            b"who\n" => writer.write(format!("{}\n", std::process::id()).as_bytes())?,
            other => return Err(std::io::Error::other(format!("no order {other:?}")).into()),
        }
        writer.drain().await?;
    }
    Ok(())
}

/// The answer to `much`: more than fits between the two ends.
pub(crate) const MUCH: usize = 500_000;
/// The answer to `pieces`.
pub(crate) const PIECES: usize = 10;
pub(crate) const PIECE_LEN: usize = 1000;
