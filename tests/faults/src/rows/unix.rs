//! Paths of Unix sockets (A4): stale, too long, replaced by another, and their rights before the first connection.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use millstream::{ServeError, ServerOptions, StreamReader, StreamWriter};

use crate::Result;
use crate::context::Context;
use crate::load::block_on;
use crate::row::{Outcome, Tally};
use crate::scripts::script;
use crate::subjects::Subject;

/// A4: every way a path can be in the way, and a connector that tries all the time while servers come and go.
pub(super) fn a4(context: &Context) -> Result<Outcome> {
    let mut tally = Tally::default();
    let folder = context.folder.path();
    block_on(table(folder, &mut tally))?;
    let early = block_on(race(folder, context.scaled(2_000, 20), &mut tally))?;
    let figure = format!(
        "{early} connects before the rights were set; {} of {} rules kept",
        tally.runs - tally.failures,
        tally.runs
    );
    let mut outcome = Outcome::ours(tally, figure);
    if context.has(Subject::Asyncio) {
        let told = script(context, Subject::Asyncio, "unix_paths", &[&folder.display().to_string()]);
        outcome.asyncio = told.unwrap_or_else(|error| error.to_string());
    }
    Ok(outcome)
}

fn quiet(_: StreamReader, _: StreamWriter) {}

async fn table(folder: &Path, tally: &mut Tally) -> Result<()> {
    let stale = folder.join("stale");
    drop(UnixListener::bind(&stale)?);
    let server = ServerOptions::new().start_unix(&stale, quiet);
    tally.check(server.is_ok(), || format!("a stale path is in the way: {:?}", server.as_ref().err()));
    let second = ServerOptions::new().start_unix(&stale, quiet);
    tally.check(matches!(second, Err(ServeError::PathInUse { .. })), || {
        "a living server was cut off".to_owned()
    });
    tally.check(UnixStream::connect(&stale).is_ok(), || "the first server does not answer".to_owned());
    end(server?).await;
    tally.check(!stale.exists(), || "the path stays behind".to_owned());

    let long = folder.join("l".repeat(200));
    let too_long = ServerOptions::new().start_unix(&long, quiet);
    tally.check(matches!(too_long, Err(ServeError::BadPath { .. })), || {
        "a path that no socket can have".to_owned()
    });

    let file = folder.join("file");
    std::fs::write(&file, "precious")?;
    let on_file = ServerOptions::new().start_unix(&file, quiet);
    tally.check(matches!(on_file, Err(ServeError::NotASocket { .. })), || {
        "a file was taken for a socket".to_owned()
    });
    tally.check(std::fs::read(&file)? == b"precious", || "a file was removed".to_owned());

    let replaced = folder.join("replaced");
    let server = ServerOptions::new().start_unix(&replaced, quiet)?;
    std::fs::remove_file(&replaced)?;
    let other = UnixListener::bind(&replaced)?;
    end(server).await;
    tally.check(UnixStream::connect(&replaced).is_ok(), || "another's path was removed".to_owned());
    drop(other);
    Ok(())
}

/// A connector tries the path of the server that is about to come, and notes its rights whenever it gets through. No path
/// is used twice, so rights that are seen after a connect are no later server's.
async fn race(folder: &Path, runs: usize, tally: &mut Tally) -> Result<usize> {
    let path_of = {
        let folder = folder.to_owned();
        move |number: usize| folder.join(format!("raced-{number}"))
    };
    let (turn, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (tell, tries) = std::sync::mpsc::channel();
    let connector = std::thread::spawn({
        let (path_of, turn, over) = (path_of.clone(), Arc::clone(&turn), Arc::clone(&over));
        move || {
            let (mut early, mut through) = (0, 0_u64);
            while !over.load(Ordering::Relaxed) {
                let path = path_of(turn.load(Ordering::Relaxed));
                // The race may be over.
                let _ = tell.send(());
                if UnixStream::connect(&path).is_ok() {
                    through += 1;
                    let mode = std::fs::metadata(&path).map(|data| data.permissions().mode() & 0o777);
                    // A path that is gone by now says nothing.
                    early += usize::from(mode.is_ok_and(|mode| mode != MODE));
                }
            }
            (early, through)
        }
    });
    for number in 0..runs {
        turn.store(number, Ordering::Relaxed);
        tries.recv_timeout(crate::peer::PATIENCE)?;
        let server = ServerOptions::new().mode(MODE).start_unix(path_of(number), quiet)?;
        tokio::time::sleep(std::time::Duration::from_micros(500)).await;
        end(server).await;
    }
    over.store(true, Ordering::Relaxed);
    let (early, through) = connector.join().map_err(|_| "the connector panicked")?;
    tally.check(early == 0, || format!("{early} early connects"));
    tally.check(through > 0, || "nobody ever got through".to_owned());
    Ok(early)
}

async fn end(server: millstream::Server) {
    server.close();
    server.abort_clients();
    server.wait_closed().await;
}

const MODE: u32 = 0o600;
