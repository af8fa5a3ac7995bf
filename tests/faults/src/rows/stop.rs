//! A graceful stop (S4) with a thousand live clients of every kind, half of them over TLS: idle, in the middle of a request or
//! an answer, half-closed, deaf, hung.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::Result;
use crate::context::Context;
use crate::figures::{grouped, size, time};
use crate::load::{Io, Target, block_on};
use crate::row::{Outcome, Tally};
use crate::server::{Server, Setup, number_after};
use crate::subjects::{MUCH, PIECE_LEN, PIECES, Subject};

/// S4: once with clients that nobody can wait for, which are cut off at the deadline; once with those that end by themselves
/// or are idle, which end long before it. And a restart under load, with the socket handed over.
pub(super) fn s4(context: &Context) -> Result<Outcome> {
    let each = context.scaled(EACH, EACH / 10);
    let mut tally = Tally::default();
    let stuck = crowd(context, &KINDS, each, &mut tally)?;
    let willing: Vec<Kind> = KINDS.into_iter().filter(|kind| kind.fate() != Fate::IsCutOff).collect();
    let prompt = crowd(context, &willing, each, &mut tally)?;
    let restart = super::restart::under_load(context, &mut tally)?;
    let lost = (stuck.due + prompt.due) - (stuck.received + prompt.received);
    let figure = format!(
        "{} clients, half over TLS, stopped by {} with a deadline of {}: {} ended by themselves, {} idle, {} by force; \
         {} without deaf and hung ones by {}; {lost} of {} of finished answers lost; {restart}",
        grouped((KINDS.len() * each) as u64),
        time(stuck.took),
        time(DEADLINE),
        stuck.finished,
        stuck.idle,
        stuck.forced,
        grouped((willing.len() * each) as u64),
        time(prompt.took),
        size(stuck.due + prompt.due),
    );
    let mut outcome = Outcome::ours(tally, figure);
    "server.stop, by tests: test_graceful_stop".clone_into(&mut outcome.python);
    Ok(outcome.asyncio("no stop with a deadline").tokio("no server to stop"))
}

/// What came of one stop, over both servers.
#[derive(Debug, Default)]
struct Stopped {
    finished: u64,
    idle: u64,
    forced: u64,
    took: Duration,
    /// What finished answers have in bytes, and what of it arrived.
    due: u64,
    received: u64,
}

/// So many clients of each of these kinds at two servers, one of them with TLS, which are stopped at once.
fn crowd(context: &Context, kinds: &[Kind], each: usize, tally: &mut Tally) -> Result<Stopped> {
    let servers = [false, true].map(|is_tls| {
        // A slow handshake is not what is measured here.
        let setup = Setup::work("orders").tls(is_tls).handshake(Duration::from_secs(60));
        let server = Server::start(context, Subject::Ours, &setup)?;
        let target = if is_tls { Target::tls(server.port, context)? } else { Target::plain(server.port) };
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((server, target))
    });
    let [plain, tls] = servers;
    let servers = [plain?, tls?];
    let before: Vec<usize> =
        servers.iter().map(|(server, _)| server.process.descriptors()).collect::<Result<_>>()?;
    let mut total = Stopped::default();
    block_on(async {
        let ready = Arc::new(Semaphore::new(0));
        // First that all are ready, then that the servers are gone.
        let (stage, _) = watch::channel(Stage::Filling);
        let mut clients = JoinSet::new();
        for number in 0..each {
            for (at, &kind) in kinds.iter().enumerate() {
                let (_, target) = &servers[(number + at) % 2];
                let small = matches!(kind, Kind::Deaf | Kind::SlowReader);
                let stream = target.open_with(1, small.then_some(4096)).await?;
                let (ready, stage) = (Arc::clone(&ready), stage.subscribe());
                clients.spawn(async move { (kind, client(kind, stream, &ready, stage).await) });
            }
        }
        let all = u32::try_from(kinds.len() * each)?;
        let _ = tokio::time::timeout(PATIENCE, ready.acquire_many(all)).await??;
        stage.send_replace(Stage::Ready);
        // What was sent last is on its way, and the deaf ones' answers have filled all there is.
        sleep(Duration::from_millis(200)).await;
        let began = Instant::now();
        for (server, _) in &servers {
            server.tell(&format!("stop {}", DEADLINE.as_millis()))?;
        }
        // The clients go on meanwhile.
        let told = tokio::task::spawn_blocking(move || {
            let told: Result<Vec<String>> =
                servers.iter().map(|(server, _)| server.report(DEADLINE + PATIENCE)).collect();
            let took = began.elapsed();
            told.map(|told| (told, took, servers))
        });
        let (told, took, servers) = told.await??;
        total.took = took;
        stage.send_replace(Stage::Over);
        for line in told {
            let number = |word| number_after(&line, word).unwrap_or(0);
            total.finished += number("finished");
            total.idle += number("idle");
            total.forced += number("aborted");
            tally.check(line.starts_with("stopped ") && number("connections") == 0, || line.clone());
        }
        while let Some(client) = clients.join_next().await {
            let (kind, result) = client?;
            let (received, due) = (result.as_ref().map_or(0, |&received| received), kind.answer());
            total.received += received;
            total.due += due;
            let kept = result.is_ok() && received == due;
            tally.check(kept, || format!("{kind:?}: {result:?} bytes of {due}"));
        }
        for ((server, _), before) in servers.iter().zip(before) {
            // Its listening socket is closed as well.
            let left = server.settles_at(before - 1, PATIENCE)?;
            tally.check(left < before, || format!("{left} descriptors after the stop, {before} before"));
        }
        Ok(())
    })?;
    let count = |fate: Fate| (kinds.iter().filter(|kind| kind.fate() == fate).count() * each) as u64;
    for (fate, came) in
        [(Fate::Finishes, total.finished), (Fate::IsIdle, total.idle), (Fate::IsCutOff, total.forced)]
    {
        tally.check(came == count(fate), || format!("{fate:?}: {came} instead of {}", count(fate)));
    }
    let bound = DEADLINE + SLACK;
    tally.check(total.took < bound, || format!("stopped after {:?}", total.took));
    let stuck = count(Fate::IsCutOff) > 0;
    tally.check(!stuck || total.took >= DEADLINE, || format!("cut off after {:?} already", total.took));
    Ok(total)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Filling,
    Ready,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Had an answer, and waits.
    Idle,
    /// Has never said anything.
    Silent,
    /// Has sent half a line, and sends the rest during the stop.
    MidRequest,
    /// Has sent half a line, and never sends the rest.
    HalfRequest,
    /// Has asked for more than fits anywhere, and never reads.
    Deaf,
    /// Has asked, and ended its side.
    HalfClosed,
    /// Is sent its answer piece by piece.
    MidAnswer,
    /// Its answer was written before the stop, and it takes its time to read it.
    SlowReader,
    /// Its handler does nothing any more.
    Hung,
    /// Has had an answer a moment ago and asks for another during the stop.
    Busy,
}

const KINDS: [Kind; 10] = [
    Kind::Idle,
    Kind::Silent,
    Kind::MidRequest,
    Kind::HalfRequest,
    Kind::Deaf,
    Kind::HalfClosed,
    Kind::MidAnswer,
    Kind::SlowReader,
    Kind::Hung,
    Kind::Busy,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Finishes,
    IsIdle,
    IsCutOff,
}

impl Kind {
    fn fate(self) -> Fate {
        match self {
            Self::HalfClosed => Fate::Finishes,
            Self::Deaf | Self::HalfRequest | Self::Hung => Fate::IsCutOff,
            _ => Fate::IsIdle,
        }
    }

    /// What it is due in bytes, from the first to the last.
    fn answer(self) -> u64 {
        let len = match self {
            Self::Idle => PONG.len(),
            Self::MidRequest => 2 * PONG.len(),
            Self::HalfRequest => PONG.len(),
            Self::HalfClosed => b"now\n".len(),
            Self::MidAnswer => PIECES * PIECE_LEN,
            Self::SlowReader => MUCH,
            Self::Silent | Self::Deaf | Self::Hung | Self::Busy => 0,
        };
        len as u64
    }
}

type Stream = BufReader<Box<dyn Io>>;

/// Plays one of them; how many bytes of a finished answer it got.
async fn client(
    kind: Kind,
    mut stream: Stream,
    ready: &Semaphore,
    mut stage: watch::Receiver<Stage>,
) -> Result<u64> {
    let (opening, answer) = match kind {
        Kind::Idle => ("ping\n", PONG.len()),
        Kind::Silent | Kind::Busy => ("", 0),
        Kind::MidRequest | Kind::HalfRequest => ("ping\npi", PONG.len()),
        Kind::Deaf => ("endless\n", 0),
        Kind::HalfClosed => ("later\n", 0),
        Kind::MidAnswer => ("pieces\n", 0),
        Kind::SlowReader => ("much\n", 1000),
        Kind::Hung => ("hang\n", 0),
    };
    // The first piece of an answer is under way when the stop comes.
    let starts_late = matches!(kind, Kind::HalfClosed | Kind::MidAnswer);
    if starts_late {
        ready.add_permits(1);
        stage.wait_for(|stage| *stage != Stage::Filling).await?;
    }
    stream.write_all(opening.as_bytes()).await?;
    stream.flush().await?;
    if kind == Kind::HalfClosed {
        stream.shutdown().await?;
    }
    let mut first = vec![0; answer];
    stream.read_exact(&mut first).await?;
    if !starts_late {
        ready.add_permits(1);
        stage.wait_for(|stage| *stage != Stage::Filling).await?;
    }
    let came = answer as u64;
    match kind {
        Kind::Idle | Kind::Silent | Kind::HalfClosed | Kind::MidAnswer => Ok(came + rest(&mut stream).await?),
        Kind::MidRequest => {
            sleep(Duration::from_millis(400)).await;
            stream.write_all(b"ng\n").await?;
            stream.flush().await?;
            Ok(came + rest(&mut stream).await?)
        }
        Kind::SlowReader => {
            let (mut came, mut block) = (came, vec![0; 20_000]);
            loop {
                sleep(Duration::from_millis(10)).await;
                match stream.read(&mut block).await? {
                    0 => return Ok(came),
                    n => came += n as u64,
                }
            }
        }
        Kind::HalfRequest | Kind::Hung => match rest(&mut stream).await {
            Err(_) => Ok(came),
            Ok(more) => Err(format!("a reset was due, not {more} bytes and an end").into()),
        },
        Kind::Deaf => {
            // It hears that it was cut off, if it ever listens.
            stage.wait_for(|stage| *stage == Stage::Over).await?;
            match rest(&mut stream).await {
                Err(_) => Ok(0),
                Ok(_) => Err("a reset was due, not an end".into()),
            }
        }
        Kind::Busy => busy(&mut stream).await,
    }
}

/// Asks again and again. Between two requests the server may end; a new connection is the way to repeat the last.
async fn busy(stream: &mut Stream) -> Result<u64> {
    let mut answered = 0;
    loop {
        if stream.write_all(b"ping\n").await.is_err() || stream.flush().await.is_err() {
            break;
        }
        let mut line = Vec::new();
        match stream.read_until(b'\n', &mut line).await {
            Ok(0) => break,
            Ok(_) if line == PONG => answered += 1,
            other => return Err(format!("after {answered} answers: {other:?} {line:?}").into()),
        }
        sleep(Duration::from_millis(20)).await;
    }
    if answered > 0 { Ok(0) } else { Err("it was never served".into()) }
}

/// All that still comes, up to a clean end.
async fn rest(stream: &mut Stream) -> Result<u64> {
    let mut sink = tokio::io::sink();
    Ok(tokio::time::timeout(DEADLINE + PATIENCE, tokio::io::copy_buf(stream, &mut sink)).await??)
}

const EACH: usize = 100;
const PONG: &[u8] = b"pong\n";
/// Several times what the slowest of those takes who finish, on an idle machine.
const DEADLINE: Duration = Duration::from_secs(3);
/// The machine has other work.
const SLACK: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(20);
