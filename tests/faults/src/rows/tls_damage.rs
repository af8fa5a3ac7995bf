//! TLS streams that are damaged or cut (T3, T6): a flipped bit in every byte, and an end without a close_notify.

use std::io::Write as _;
use std::net::Shutdown;
use std::time::Duration;

use millstream::ConnectOptions;
use millstream::tls::TlsClient;

use crate::Result;
use crate::chaos::{Fate, Pace, Plan, Proxy, Way};
use crate::context::{Context, Size};
use crate::figures::grouped;
use crate::load::block_on;
use crate::papers::HOST;
use crate::peer::{PATIENCE, read_line};
use crate::row::{Outcome, Tally};
use crate::server::{Server, Setup};
use crate::subjects::Subject;
use crate::tls_peer;

/// T3: our client talks to our server through a proxy that flips one bit of byte k, for every k in both directions.
pub(super) fn t3(context: &Context) -> Result<Outcome> {
    let mut tally = Tally::default();
    let server = Server::start(context, Subject::Ours, &Setup::work("echo").tls(true))?;
    let clean = Plan { fate: Fate::Kept, pace: Pace::Whole };
    let proxy = Proxy::start(server.port, clean, context.seed)?;
    // A session that is resumed has a shorter handshake: each client is new.
    let whole = block_on(conversation(context, proxy.port, PATIENCE))?;
    tally.check(whole == (LINES, false), || format!("undamaged: {whole:?}"));
    std::thread::sleep(Duration::from_millis(50));
    let lens = proxy.carried();
    let step = if context.size == Size::Small { 41 } else { 1 };
    let (mut unharmed, mut covered) = (0, 0);
    for (way, len) in [(Way::ToServer, lens[0]), (Way::ToClient, lens[1])] {
        for at in (0..len).step_by(step) {
            proxy.plan(Plan { fate: Fate::Flipped { way, at }, pace: Pace::Whole });
            covered += 1;
            let told = block_on(conversation(context, proxy.port, FLIPPED_PATIENCE));
            let Some((right, failed)) = tally.value(told, &format!("{way:?} byte {at}")) else { continue };
            if right < LINES && !failed {
                tally.fail(format!("{way:?} byte {at}: {right} lines, then a clean end"));
            }
            unharmed += u64::from(right == LINES && !failed);
        }
    }
    let figure = format!(
        "{} escapes of {} flips; {unharmed} flips in bytes that nothing reads",
        tally.failures,
        grouped(covered)
    );
    Ok(Outcome::ours(tally, figure))
}

/// Lines there and back, within so long; how many came right, and whether there was an error. A wrong line is an error of this function.
async fn conversation(context: &Context, port: u16, patience: Duration) -> Result<(usize, bool)> {
    let tls = TlsClient::builder().root_certificates(&context.papers.chain).build()?.server_name(HOST)?;
    let tls = tls.handshake_timeout(patience);
    let Ok((mut reader, writer)) = ConnectOptions::new().tls(tls).open("127.0.0.1", port).await else {
        return Ok((0, true));
    };
    let mut right = 0;
    let asked = tokio::time::timeout(patience, async {
        for number in 0..LINES {
            let line = format!("line {number} of the conversation\n");
            writer.write(line.as_bytes())?;
            match reader.read_line().await? {
                Some(echo) if echo == line.as_bytes() => right += 1,
                Some(echo) => return Ok(Err(format!("{echo:?} instead of {line:?}"))),
                None => return Ok(Ok(false)),
            }
        }
        writer.close();
        // The other side's end belongs to the conversation.
        let clean = reader.read(1).await.is_ok_and(|bytes| bytes.is_empty());
        Ok::<_, millstream::Error>(Ok(!clean))
    })
    .await;
    writer.abort();
    match asked {
        Ok(Ok(Ok(failed))) => Ok((right, failed)),
        Ok(Ok(Err(wrong))) => Err(wrong.into()),
        // A flipped length makes the other side wait: a deadline of the caller's ends it.
        Ok(Err(_)) | Err(_) => Ok((right, true)),
    }
}

/// T6: the peer's TCP ends without a close_notify, in the middle of the stream; beside it, a proper end.
pub(super) fn t6(context: &Context) -> Result<Outcome> {
    let runs = context.scaled(500, 5);
    Ok(context.compare_rust(|subject, tally| {
        let server = Server::start(context, subject, &Setup::work("report").tls(true))?;
        let (mut cut, mut clean) = (0, 0);
        for _ in 0..runs {
            for is_cut in [true, false] {
                let mut stream = tls_peer::on(context, server.connect()?)?;
                stream.write_all(b"of a longer message")?;
                stream.flush()?;
                read_line(&mut stream)?;
                if is_cut {
                    stream.sock.shutdown(Shutdown::Write)?;
                } else {
                    tls_peer::say_end(&mut stream)?;
                }
                server.report(PATIENCE)?;
                let told = server.report(PATIENCE)?;
                let (all, error) = (told.contains("read 19"), told.contains("error"));
                tally.check(all && error == is_cut, || format!("cut {is_cut}: {told}"));
                cut += u64::from(is_cut && error);
                clean += u64::from(!is_cut && !error);
            }
        }
        Ok(format!("{cut} of {runs} cuts told as errors, {clean} of {runs} proper ends as ends"))
    }))
}

const LINES: usize = 5;
/// Far longer than a conversation on loopback, short enough for the flips that make one side wait.
const FLIPPED_PATIENCE: Duration = Duration::from_millis(250);
