//! The server under test: millstream from Rust, with its defaults.

use std::time::Duration;

use millstream::tls::TlsServer;
use millstream::{Error, ReadLineError, ServerOptions, StreamReader, StreamWriter};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{sleep, timeout};

use super::{FILL_LEN, FILLER_LEN, Order, STALL, announce, ours_works, say, words};
use crate::Result;
use crate::papers::Papers;

/// Serves until the process is ended, and does what the row says meanwhile.
pub(super) async fn serve(order: Order, words: UnboundedReceiver<String>) -> Result<()> {
    let mut options = ServerOptions::new().close_deadline(order.close).backlog(BACKLOG);
    options = order.extras.apply(options)?;
    if let Some(folder) = &order.tls {
        options = options.tls(tls(&Papers::read(folder)?, &order)?);
    }
    let upgrade = order.papers.as_ref().map(|folder| tls(&Papers::read(folder)?, &order)).transpose()?;
    let work = order.work;
    if work == "fail" {
        // Every failure, where the server's own lines are bounded.
        options = options.on_failure(|failure| eprintln!("{failure}"));
    }
    let handler = move |reader: StreamReader, writer: StreamWriter| {
        let (work, upgrade) = (work.clone(), upgrade.clone());
        async move {
            match work.as_str() {
                "echo" => echo(reader, writer).await,
                "swallow" => swallow(reader, writer).await,
                "collect" => collect(reader, writer).await,
                "exact" => exact(reader, writer).await,
                "fill" => fill(writer, false).await,
                "fill-lines" => fill(writer, true).await,
                "tiny" => tiny(reader, writer).await,
                "fail" => fail(reader, writer).await,
                "last-words" => last_words(reader, writer).await,
                "stuck-close" => stuck_close(reader, writer).await,
                "tail" => tail(reader, writer).await,
                "report" => report(reader, writer).await,
                "name" => ours_works::name(reader, writer).await,
                "watch" => ours_works::watch(reader, writer).await,
                "orders" => ours_works::orders(reader, writer).await,
                "starttls" => starttls(reader, writer, upgrade).await,
                other => Err(std::io::Error::other(format!("no work {other}")).into()),
            }
        }
    };
    let server = if order.extras.inherits {
        options.start_inherited(handler)?
    } else {
        options.start("127.0.0.1", 0, handler).await?
    };
    announce(server.sockets().first().and_then(millstream::Address::port).ok_or("no port")?);
    words::follow(&server, words).await
}

fn tls(papers: &Papers, order: &Order) -> Result<TlsServer> {
    Ok(TlsServer::new(&papers.chain, &papers.key)?.handshake_timeout(order.handshake))
}

/// Sends every line back. One beyond the limit is reported and skipped.
async fn echo(mut reader: StreamReader, writer: StreamWriter) -> std::result::Result<(), Error> {
    loop {
        match reader.read_line().await {
            Ok(Some(line)) => {
                writer.write(&line)?;
                writer.drain().await?;
            }
            Ok(None) => return Ok(()),
            Err(ReadLineError::LimitOverrun { consumed, .. }) => {
                reader.skip_until(b"\n").await?;
                say(format_args!("overrun {consumed} peak {}", reader.peak_buffered()));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// As `echo`; the line `flood` makes a sink of the connection.
async fn swallow(mut reader: StreamReader, writer: StreamWriter) -> std::result::Result<(), Error> {
    while let Some(line) = reader.read_line().await? {
        if line == "flood\n" {
            while !reader.read_borrowed(64 * 1024).await?.is_empty() {}
            return Ok(());
        }
        writer.write(&line)?;
        writer.drain().await?;
    }
    Ok(())
}

/// Lets the peer do all it does, then reads in fours, and reports how much came and how it ended.
async fn collect(mut reader: StreamReader, _writer: StreamWriter) -> std::result::Result<(), Error> {
    sleep(COLLECT_AFTER).await;
    let mut delivered = 0;
    let end = loop {
        match reader.read(4).await {
            Ok(bytes) if bytes.is_empty() => break "end",
            Ok(bytes) => delivered += bytes.len(),
            Err(_) => break "error",
        }
    };
    say(format_args!("delivered {delivered} {end}"));
    Ok(())
}

/// Reads as many bytes as the first line says, at once.
async fn exact(mut reader: StreamReader, writer: StreamWriter) -> std::result::Result<(), Error> {
    let line = reader.read_line().await?.unwrap_or_default();
    let n = String::from_utf8_lossy(&line).trim().parse().unwrap_or(0);
    writer.write(b"reading\n")?;
    match reader.read_exactly(n).await {
        Ok(bytes) => say(format_args!("all {}", bytes.len())),
        Err(millstream::ReadExactlyError::Incomplete { partial, .. }) => {
            say(format_args!("partial {}", partial.len()))
        }
        Err(millstream::ReadExactlyError::TooLarge { .. }) => say("refused"),
        Err(error) => say(format_args!("error {error}")),
    }
    Ok(())
}

/// Writes and drains for ever; reports what is queued when the peer has stopped reading.
async fn fill(writer: StreamWriter, lines: bool) -> std::result::Result<(), Error> {
    let message = vec![b'f'; FILL_LEN];
    let pieces: Vec<&[u8]> = message.chunks(1024).collect();
    loop {
        if lines {
            writer.write_lines(&pieces)?
        } else {
            writer.write(&message)?
        }
        if timeout(STALL, writer.drain()).await.is_err() {
            say(format_args!("stalled {}", writer.stats().peak_queued));
            writer.drain().await?;
        }
    }
}

/// Fills the kernel, then queues as many one-byte messages as the first line says, without a drain.
async fn tiny(mut reader: StreamReader, writer: StreamWriter) -> std::result::Result<(), Error> {
    let line = reader.read_line().await?.unwrap_or_default();
    let n: usize = String::from_utf8_lossy(&line).trim().parse().unwrap_or(0);
    writer.write_bytes(vec![b'f'; FILLER_LEN])?;
    sleep(COLLECT_AFTER).await;
    say(format_args!("filled {}", writer.stats().queued));
    reader.read_line().await?;
    for _ in 0..n {
        writer.write(b"t")?;
        writer.write(b"")?;
    }
    tokio::task::yield_now().await;
    say(format_args!("queued {}", writer.stats().queued));
    reader.read_line().await?;
    writer.close();
    Ok(writer.wait_closed().await?)
}

/// Follows the order in the first line: to fail, to panic, or to serve.
async fn fail(mut reader: StreamReader, writer: StreamWriter) -> std::result::Result<(), Error> {
    let line = reader.read_line().await?.unwrap_or_default();
    match &line[..] {
        b"panic\n" => panic!("as ordered"),
        b"fail\n" => Err(std::io::Error::other("as ordered").into()),
        _ => Ok(writer.write(&line)?),
    }
}

/// Writes as many bytes as the first line says and closes, while the peer still sends.
async fn last_words(mut reader: StreamReader, writer: StreamWriter) -> std::result::Result<(), Error> {
    let line = reader.read_line().await?.unwrap_or_default();
    let n = String::from_utf8_lossy(&line).trim().parse().unwrap_or(0);
    writer.write_bytes(vec![b'w'; n])?;
    writer.close();
    let _ = writer.wait_closed().await;
    Ok(())
}

/// Fills the peer's buffers, closes, and reports how long that took.
async fn stuck_close(mut reader: StreamReader, writer: StreamWriter) -> std::result::Result<(), Error> {
    reader.read_line().await?;
    let mut peak = 0;
    loop {
        writer.write(&[b's'; FILL_LEN])?;
        peak = peak.max(writer.stats().peak_queued);
        if timeout(STALL, writer.drain()).await.is_err() {
            break;
        }
    }
    let began = std::time::Instant::now();
    writer.close();
    let end = if writer.wait_closed().await.is_ok() { "closed" } else { "error" };
    say(format_args!("{end} {} {peak}", began.elapsed().as_millis()));
    Ok(())
}

/// Reads to the end, then writes as many bytes as came.
async fn tail(mut reader: StreamReader, writer: StreamWriter) -> std::result::Result<(), Error> {
    let mut came = 0;
    loop {
        let n = reader.read_borrowed(64 * 1024).await?.len();
        if n == 0 {
            break;
        }
        came += n;
    }
    writer.write_bytes(vec![b't'; came])?;
    writer.close();
    Ok(writer.wait_closed().await?)
}

/// Reads on and reports how much came and how it ended.
async fn report(mut reader: StreamReader, writer: StreamWriter) -> std::result::Result<(), Error> {
    say("connected");
    writer.write(b"hello\n")?;
    let mut came = 0;
    let end = loop {
        match reader.read(1024).await {
            Ok(bytes) if bytes.is_empty() => break "end".to_owned(),
            Ok(bytes) => came += bytes.len(),
            Err(error) => break format!("error {error}"),
        }
    };
    say(format_args!("read {came} {end}"));
    Ok(())
}

/// Echoes lines; the line `STARTTLS` is answered by `go`, and TLS begins.
async fn starttls(
    mut reader: StreamReader,
    writer: StreamWriter,
    tls: Option<TlsServer>,
) -> std::result::Result<(), Error> {
    while let Some(line) = reader.read_line().await? {
        if line == "STARTTLS\n" {
            writer.write(b"go\n")?;
            let tls = tls.as_ref().ok_or_else(|| std::io::Error::other("no papers"))?;
            if let Err(error) = writer.start_tls(&mut reader, tls).await {
                say("upgrade failed");
                return Err(error.into());
            }
            continue;
        }
        say(format_args!("line {}", String::from_utf8_lossy(&line).trim()));
        writer.write(&line)?;
        writer.drain().await?;
    }
    Ok(())
}

/// Long enough for a reset on loopback.
const COLLECT_AFTER: Duration = Duration::from_millis(20);
/// Enough for every client of the load rows.
const BACKLOG: u32 = 4096;
