//! What the plain tokio server does with a connection: the same works as ours.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::time::{sleep, timeout};

use super::plain_tokio::Io;
use super::{FILL_LEN, STALL, say};

pub(super) async fn work(name: &str, stream: impl Io) -> io::Result<()> {
    match name {
        "echo" => echo(stream).await,
        "swallow" => swallow(stream).await,
        "collect" => collect(stream).await,
        "exact" => exact(stream).await,
        "fill" | "fill-lines" => fill(stream).await,
        "fail" => fail(stream).await,
        "last-words" => last_words(stream).await,
        "stuck-close" => stuck_close(stream).await,
        "tail" => tail(stream).await,
        "report" => report(stream).await,
        "watch" => watch(stream).await,
        other => Err(io::Error::other(format!("no work {other}"))),
    }
}

async fn echo(stream: impl Io) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    while stream.read_until(b'\n', &mut line).await? > 0 {
        stream.write_all(&line).await?;
        stream.flush().await?;
        line.clear();
    }
    Ok(())
}

async fn swallow(stream: impl Io) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    while stream.read_until(b'\n', &mut line).await? > 0 {
        if line == b"flood\n" {
            let mut block = vec![0; 64 * 1024];
            while stream.read(&mut block).await? > 0 {}
            return Ok(());
        }
        stream.write_all(&line).await?;
        line.clear();
    }
    Ok(())
}

async fn collect(mut stream: impl Io) -> io::Result<()> {
    sleep(Duration::from_millis(20)).await;
    let (mut delivered, mut four) = (0, [0; 4]);
    let end = loop {
        match stream.read(&mut four).await {
            Ok(0) => break "end",
            Ok(n) => delivered += n,
            Err(_) => break "error",
        }
    };
    say(format_args!("delivered {delivered} {end}"));
    Ok(())
}

/// There is no read of `n` bytes but into memory that is there already.
async fn exact(stream: impl Io) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let n = first_number(&mut stream).await?;
    stream.write_all(b"reading\n").await?;
    let mut bytes = vec![0; n];
    match stream.read_exact(&mut bytes).await {
        Ok(n) => say(format_args!("all {n}")),
        Err(error) => say(format_args!("error {error}")),
    }
    Ok(())
}

/// `write_all` waits itself, and queues nothing.
async fn fill(mut stream: impl Io) -> io::Result<()> {
    let message = vec![b'f'; FILL_LEN];
    loop {
        let mut told = false;
        let mut write = std::pin::pin!(stream.write_all(&message));
        loop {
            match timeout(STALL, write.as_mut()).await {
                Ok(result) => break result?,
                Err(_) if !told => {
                    told = true;
                    say("stalled 0");
                }
                Err(_) => {}
            }
        }
    }
}

async fn fail(stream: impl Io) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line).await?;
    match &line[..] {
        b"panic\n" => panic!("as ordered"),
        b"fail\n" => Err(io::Error::other("as ordered")),
        _ => stream.write_all(&line).await,
    }
}

async fn last_words(stream: impl Io) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let n = first_number(&mut stream).await?;
    stream.write_all(&vec![b'w'; n]).await?;
    stream.shutdown().await
}

async fn stuck_close(stream: impl Io) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line).await?;
    while timeout(STALL, stream.write_all(&[b's'; FILL_LEN])).await.is_ok() {}
    let began = std::time::Instant::now();
    let end = if timeout(TOO_LONG, stream.shutdown()).await.is_ok() { "closed" } else { "never" };
    say(format_args!("{end} {} 0", began.elapsed().as_millis()));
    Ok(())
}

async fn tail(mut stream: impl Io) -> io::Result<()> {
    let (mut came, mut block) = (0, vec![0; 64 * 1024]);
    loop {
        match stream.read(&mut block).await? {
            0 => break,
            n => came += n,
        }
    }
    stream.write_all(&vec![b't'; came]).await?;
    stream.shutdown().await
}

async fn report(mut stream: impl Io) -> io::Result<()> {
    say("connected");
    stream.write_all(b"hello\n").await?;
    stream.flush().await?;
    let (mut came, mut block) = (0, [0; 1024]);
    let end = loop {
        match stream.read(&mut block).await {
            Ok(0) => break "end".to_owned(),
            Ok(n) => came += n,
            Err(error) => break format!("error {error}"),
        }
    };
    say(format_args!("read {came} {end}"));
    Ok(())
}

async fn watch(stream: impl Io) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line).await?;
    stream.write_all(b"go\n").await?;
    if line == b"idle\n" {
        match stream.read_until(b'\n', &mut line).await {
            Ok(n) => say(format_args!("idle ended {n}")),
            Err(error) => say(format_args!("idle lost {error}")),
        }
        return Ok(());
    }
    loop {
        if let Err(error) = stream.write_all(&[b'w'; FILL_LEN]).await {
            say(format_args!("writing lost {error}"));
            return Ok(());
        }
    }
}

async fn first_number(stream: &mut BufReader<impl Io>) -> io::Result<usize> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line).await?;
    Ok(String::from_utf8_lossy(&line).trim().parse().unwrap_or(0))
}

/// A close that takes longer is given up by the test, not by tokio.
const TOO_LONG: Duration = Duration::from_secs(10);
