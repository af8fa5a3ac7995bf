//! Restarts under load (part of S4): as under a supervisor that holds the listening socket, each server is started on the
//! socket of the one before, which is then stopped.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::Result;
use crate::context::Context;
use crate::figures::grouped;
use crate::peer::{ask, connect};
use crate::row::Tally;
use crate::server::{Server, Setup, number_after};
use crate::subjects::Subject;

/// Clients connect, ask and leave, again and again, while servers replace one another on one listening socket. What it came to.
pub(super) fn under_load(context: &Context, tally: &mut Tally) -> Result<String> {
    let restarts = context.scaled(10, 2);
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    listener.listen(1024)?;
    let listener = Arc::new(TcpListener::from(listener));
    let port = listener.local_addr()?.port();
    let setup = Setup::work("orders").inheriting(&listener);
    let mut server = Server::start(context, Subject::Ours, &setup)?;
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS).map(|_| client(port, Arc::clone(&over))).collect();
    let mut forced = 0;
    for _ in 0..restarts {
        std::thread::sleep(MOMENT);
        let next = Server::start(context, Subject::Ours, &setup)?;
        std::thread::sleep(MOMENT);
        let old = std::mem::replace(&mut server, next);
        let stopped = old.told("stop 10000", "stopped", Duration::from_secs(30))?;
        forced += number_after(&stopped, "aborted").unwrap_or(u64::MAX);
    }
    std::thread::sleep(MOMENT);
    over.store(true, Ordering::Relaxed);
    let (mut answers, mut refused, mut lost) = (BTreeMap::<String, u64>::new(), 0_u64, 0_u64);
    for client in clients {
        let seen = client.join().map_err(|_| "a client panicked")?;
        for (who, count) in seen.answers {
            *answers.entry(who).or_default() += count;
        }
        refused += seen.refused;
        lost += seen.lost;
        if let Some(error) = seen.first {
            tally.fail(error);
        }
    }
    let connections = answers.values().sum::<u64>() + refused + lost;
    tally.passed(connections);
    tally.check(forced == 0, || format!("{forced} connections were cut off by a stop"));
    tally.check(answers.len() == restarts + 1, || {
        format!("{} of {} servers answered", answers.len(), restarts + 1)
    });
    Ok(format!(
        "{restarts} restarts under load: {refused} of {} connections refused, {lost} answers lost",
        grouped(connections)
    ))
}

#[derive(Debug, Default)]
struct Seen {
    /// How many answers each process gave.
    answers: BTreeMap<String, u64>,
    refused: u64,
    lost: u64,
    first: Option<String>,
}

fn client(port: u16, over: Arc<AtomicBool>) -> JoinHandle<Seen> {
    std::thread::spawn(move || {
        let mut seen = Seen::default();
        while !over.load(Ordering::Relaxed) {
            match connect(port) {
                Err(error) => {
                    seen.refused += 1;
                    seen.first.get_or_insert_with(|| format!("refused: {error}"));
                }
                Ok(mut socket) => match ask(&mut socket, "who") {
                    Ok(who) if !who.is_empty() => *seen.answers.entry(who).or_default() += 1,
                    other => {
                        seen.lost += 1;
                        seen.first.get_or_insert_with(|| format!("an answer was lost: {other:?}"));
                    }
                },
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        seen
    })
}

const CLIENTS: usize = 4;
const MOMENT: Duration = Duration::from_millis(150);
