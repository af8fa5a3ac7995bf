//! Limits of the machine (E1, E2, E3): descriptors that run out, sinks that are full, and one peer that takes all it can.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::io::AsyncWriteExt as _;

use crate::Result;
use crate::args::Args;
use crate::context::Context;
use crate::figures::{percentile, ratio, time};
use crate::load::{Target, block_on, good_clients};
use crate::peer::Flooder;
use crate::row::{Outcome, Tally};
use crate::server::{Server, Setup};

/// E1: a server and a client in a process that may have k descriptors, for k = 3 up to enough. Each is a process of its
/// own, which must end by itself, with an answer or a named error and with no more descriptors than it began with.
pub(super) fn e1(context: &Context) -> Result<Outcome> {
    let mut tally = Tally::default();
    let (mut named, mut enough) = (0, None);
    for k in 3..40 {
        let output = std::process::Command::new(std::env::current_exe()?)
            .args(["probe", "descriptors", "--most", &k.to_string()])
            .arg("--papers")
            .arg(&context.papers.folder)
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let good = output.status.success() && (said == "served" || said.starts_with("error"));
        tally.check(good, || {
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            format!("{k} descriptors: {}, `{said}` {stderr}", output.status)
        });
        if said == "served" {
            enough = enough.or(Some(k));
        } else {
            named += 1;
            tally
                .check(enough.is_none(), || format!("{k} descriptors are not enough, but fewer are: {said}"));
        }
    }
    let enough = tally.value(enough.ok_or_else(|| "never served".into()), "descriptors").unwrap_or(0);
    let figure =
        format!("limits of 3 to 39: {named} named errors, served from {enough} on, 0 aborts, 0 left open");
    Ok(Outcome::ours(tally, figure))
}

/// The process of E1.
pub(super) fn descriptors(mut args: Args) -> Result<()> {
    let most = args.value_or("--most", 1024_u64)?;
    let papers = crate::papers::Papers::read(&args.value_or("--papers", std::path::PathBuf::new())?)?;
    args.finish()?;
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: Some(most) })?;
    // Without its own descriptors a runtime cannot be; that is an error of tokio's, and with the last two missing, which are
    // for signals, a panic.
    std::panic::set_hook(Box::new(|_| {}));
    let build = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match std::panic::catch_unwind(build) {
        Ok(Ok(runtime)) => runtime,
        Ok(Err(error)) => {
            println!("error {error}");
            return Ok(());
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map_or("no word", String::as_str);
            println!("error: tokio's runtime: {text}");
            return Ok(());
        }
    };
    // From here on nothing may panic.
    drop(std::panic::take_hook());
    let before = runtime.block_on(async { open_descriptors() });
    let result = runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(5), converse(&papers))
            .await
            .unwrap_or_else(|_| Err("hangs".into()))
    });
    let after = runtime.block_on(async {
        // What was closed in the background is gone after a turn.
        tokio::time::sleep(Duration::from_millis(20)).await;
        open_descriptors()
    });
    match result {
        _ if after > before => println!("{} descriptors left", after - before),
        Ok(()) => println!("served"),
        Err(error) => println!("{} {error}", if error.to_string() == "hangs" { "" } else { "error" }),
    }
    Ok(())
}

/// Counts by asking for each number: listing a folder needs a descriptor.
fn open_descriptors() -> usize {
    (0..64).filter(|number| std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok()).count()
}

/// A server, a connection to it, an upgrade, a question, and the end of all of it.
async fn converse(papers: &crate::papers::Papers) -> Result<()> {
    use millstream::tls::{TlsClient, TlsServer};
    let tls = TlsServer::new(&papers.chain, &papers.key)?;
    let client = TlsClient::builder().root_certificates(&papers.chain).build()?;
    let options = millstream::ServerOptions::new().tls(tls).on_failure(|_| {});
    let server = options
        .start(
            "127.0.0.1",
            0,
            async |mut reader: millstream::StreamReader, writer: millstream::StreamWriter| {
                let line = reader.read_line().await?.unwrap_or_default();
                writer.write(&line).map_err(millstream::Error::from)
            },
        )
        .await?;
    let port = server.sockets().first().and_then(millstream::Address::port).ok_or("no port")?;
    let connect = millstream::ConnectOptions::new().tls(client.server_name(crate::papers::HOST)?);
    // Where the server cannot accept, nobody answers: a deadline is the client's to set.
    let timeout = Duration::from_millis(500);
    let asked = tokio::time::timeout(timeout, async {
        let (mut reader, writer) = connect.open("127.0.0.1", port).await?;
        writer.write(b"here?\n")?;
        let line = reader.read_line().await?;
        writer.close();
        writer.wait_closed().await?;
        if line.as_deref() == Some(b"here?\n") { Ok(()) } else { Err(format!("{line:?}").into()) }
    })
    .await;
    server.close();
    server.abort_clients();
    server.wait_closed().await;
    asked.unwrap_or_else(|_| Err("no answer within the client's deadline".into()))
}

/// E2: a stream is copied to a device that is full and to a pipe that is closed: the copy fails, the source reads on.
pub(super) fn e2(context: &Context) -> Result<Outcome> {
    let mut tally = Tally::default();
    let runs = context.scaled(500, 5);
    for _ in 0..runs {
        for sink in ["/dev/full", "a closed pipe"] {
            let rest = block_on(async {
                let ((mut reader, _w), (_r, writer)) = millstream::testing::pair();
                writer.write(&[b'c'; COPIED])?;
                let failed = if sink == "/dev/full" {
                    let mut file = tokio::fs::OpenOptions::new().write(true).open(sink).await?;
                    let copied = tokio::io::copy_buf(&mut reader, &mut file).await;
                    copied.is_err() || file.flush().await.is_err()
                } else {
                    let (ours, theirs) = tokio::io::duplex(100);
                    drop(theirs);
                    let mut ours = ours;
                    tokio::io::copy_buf(&mut reader, &mut ours).await.is_err()
                };
                writer.write(b"and on\n")?;
                writer.write_eof()?;
                Ok((failed, reader.read_to_end(100_000).await?))
            });
            if let Some((failed, rest)) = tally.value(rest, sink)
                && (!failed || !rest.ends_with(b"and on\n"))
            {
                tally.fail(format!("{sink}: failed {failed}, {} bytes left", rest.len()));
            }
        }
    }
    let figure =
        format!("{} of {} copies failed and left the source whole", tally.runs - tally.failures, tally.runs);
    Ok(Outcome::ours(tally, figure))
}

/// E3: a hundred quiet connections alone, and beside one that floods.
pub(super) fn e3(context: &Context) -> Result<Outcome> {
    let length = Duration::from_millis(context.scaled(5_000, 1_000) as u64);
    Ok(context.compare(|subject, tally| {
        let server = Server::start(context, subject, &Setup::work("swallow"))?;
        let target = Target::plain(server.port);
        block_on(good_clients(&target, 100, length / 4))?;
        let mut alone = block_on(good_clients(&target, 100, length))?;
        let flooder = Flooder::start(server.port, "flood\n")?;
        let before = (flooder.sent.load(std::sync::atomic::Ordering::Relaxed), server.process.cpu()?);
        let mut flooded = block_on(good_clients(&target, 100, length))?;
        let sent = flooder.sent.load(std::sync::atomic::Ordering::Relaxed) - before.0;
        tally.check(sent > 0, || "the flood stood still".to_owned());
        drop(flooder);
        let (alone, flooded) = (percentile(&mut alone, 99), percentile(&mut flooded, 99));
        let times = ratio(alone, flooded);
        tally.check(flooded < context.within(MOST_FLOODED.max(alone * 10)), || {
            format!("a quiet p99 of {flooded:?}")
        });
        let rate = sent as f64 / length.as_secs_f64() / 1_048_576.0;
        Ok(format!(
            "p99 {} alone, {} flooded ({times:.1} x, {rate:.0} MiB/s of flood)",
            time(alone),
            time(flooded)
        ))
    }))
}

/// More than one block of the copy, less than what stops the writer.
const COPIED: usize = 60_000;
/// On two cores the flooder itself takes one. What is judged is that nobody starves, on a busy machine too.
const MOST_FLOODED: Duration = Duration::from_millis(100);
