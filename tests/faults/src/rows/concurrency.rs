//! Many at once (K1, K2, K3): loom's models, the soak, and descriptors that are used again at once.

use std::io::{Read as _, Write as _};

use crate::Result;
use crate::context::{Context, Size};
use crate::figures::grouped;
use crate::peer::reset;
use crate::random::Random;
use crate::row::{Outcome, Tally};
use crate::scripts::cargo_tests;
use crate::server::{Server, Setup};

/// K1: the loom models of halves, flusher and drainers, and the same on two real threads. At small size only the latter:
/// loom has to build everything for itself.
pub(super) fn k1(context: &Context) -> Result<Outcome> {
    let mut tally = Tally::default();
    let stress = super::wakes::stress(context, &mut tally)?;
    if context.size == Size::Small {
        return Ok(Outcome::ours(tally, format!("{stress}; loom's models at full size and by `make loom`")));
    }
    let mut models = Tally::default();
    let target = crate::context::root().join("target/loom");
    let env = [
        ("LOOM_MAX_BRANCHES", "10000"),
        ("RUSTFLAGS", "--cfg millstream_loom"),
        ("CARGO_TARGET_DIR", target.to_str().ok_or("a path without a name")?),
    ];
    let args = ["--package", "millstream", "--release", "--lib", "--locked", "loom_models"];
    cargo_tests(&mut models, &env, &args)?;
    let figure = format!("{} models, every order within loom's bounds; {stress}", models.runs);
    tally.add(models);
    Ok(Outcome::ours(tally, figure))
}

/// K3: connections that carry a tag each, opened and ended in every way as fast as it goes, so that the server's
/// descriptor numbers are used again while events of their last owners are under way.
pub(super) fn k3(context: &Context) -> Result<Outcome> {
    let connections = context.scaled(100_000, 1_000);
    let seed = context.seed;
    Ok(context.compare(|subject, tally| {
        // Python accepts some thousands a second.
        let connections = if subject.is_python() { connections / 5 } else { connections };
        let server = Server::start(context, subject, &Setup::work("echo"))?;
        let before = server.process.descriptors()?;
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let port = server.port;
                std::thread::spawn(move || {
                    cross_talk(port, connections / THREADS, seed ^ thread as u64, thread)
                })
            })
            .collect();
        let mut wrong = 0;
        for thread in threads {
            let tally_of_thread = thread.join().map_err(|_| "a client panicked")?;
            wrong += tally_of_thread.failures;
            tally.add(tally_of_thread);
        }
        let left = server.settles_at(before, crate::peer::PATIENCE)?;
        tally.check(left <= before, || format!("{left} descriptors instead of {before}"));
        Ok(format!(
            "{wrong} of {} saw another's bytes, {} descriptors left",
            grouped(connections as u64),
            left.saturating_sub(before)
        ))
    }))
}

/// So many connections one after the other, each with a tag of its own.
fn cross_talk(port: u16, connections: usize, seed: u64, thread: usize) -> Tally {
    let mut tally = Tally::default();
    let mut random = Random::new(seed);
    for number in 0..connections {
        let result = (|| -> Result<bool> {
            let mut socket = crate::peer::connect(port)?;
            let tag = format!("{thread}-{number}-{}\n", random.next());
            socket.write_all(tag.as_bytes())?;
            let kind = random.below(4);
            if kind == 0 {
                // Bytes may be under way in both directions.
                reset(socket)?;
                return Ok(true);
            }
            let mut echo = vec![0; tag.len()];
            socket.read_exact(&mut echo)?;
            if kind == 1 {
                reset(socket)?;
            } else if kind == 2 {
                socket.write_all(b"unanswered")?;
            }
            Ok(echo == tag.as_bytes())
        })();
        if let Some(false) = tally.value(result, "a tagged connection") {
            tally.fail(format!("connection {number} of thread {thread} got another's bytes"));
        }
    }
    tally
}

const THREADS: usize = 8;
