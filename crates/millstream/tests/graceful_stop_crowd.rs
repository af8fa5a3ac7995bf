//! A server with 1,000 live clients of every kind is stopped: within its deadline, without losing a byte of a finished
//! answer, and nothing is left behind. Fault row S4.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream::{ConnectOptions, Error, Server, Stopped, StreamReader, StreamWriter};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use support::{run, run_on_threads};
use tokio::sync::{Barrier, Semaphore};

#[test]
fn s4_a_thousand_clients_of_every_kind_on_one_thread() {
    run(crowd());
}

#[test]
fn s4_a_thousand_clients_of_every_kind_on_two_threads() {
    run_on_threads(crowd());
}

async fn crowd() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("up to the hard limit");
    let server = Arc::new(millstream::start_server("127.0.0.1", 0, serve).await.expect("a port"));
    let address = server.sockets()[0].ip().expect("TCP");
    let ready = Arc::new(Barrier::new(KINDS.len() * EACH + 1));
    // Closed once the server is gone.
    let over = Arc::new(Semaphore::new(0));
    let mut clients = Vec::new();
    for n in 0..EACH {
        for kind in KINDS {
            let (ready, over) = (Arc::clone(&ready), Arc::clone(&over));
            let small = matches!(kind, Kind::Deaf | Kind::SlowReader);
            clients.push((
                kind,
                n,
                tokio::spawn(async move { client(kind, connect(address, small), ready, over).await }),
            ));
            // The backlog holds a hundred.
            if clients.len() % 50 == 0 {
                reached(&server, clients.len()).await;
            }
        }
    }
    ready.wait().await;
    reached(&server, clients.len()).await;
    // What was sent last is on its way, and the deaf ones' answers have filled all there is.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.connections(), KINDS.len() * EACH);

    let began = Instant::now();
    let stopped = server.stop(DEADLINE).await;
    let took = began.elapsed();
    server.wait_closed().await;
    assert_eq!(server.connections(), 0);
    over.close();
    let mut lost = Vec::new();
    for (kind, n, client) in clients {
        if let Err(text) = client.await.expect("no panic") {
            lost.push(format!("{kind:?} {n}: {text}"));
        }
    }
    assert!(lost.is_empty(), "{} of {}: {:?}", lost.len(), KINDS.len() * EACH, &lost[..lost.len().min(10)]);
    let count = |wanted: Fate| KINDS.iter().filter(|kind| kind.fate() == wanted).count() * EACH;
    let Stopped { finished, idle, aborted, .. } = stopped;
    assert_eq!(
        (finished, idle, aborted),
        (count(Fate::Finishes), count(Fate::BecomesIdle), count(Fate::IsAborted))
    );
    assert!(DEADLINE <= took && took < DEADLINE + SLACK, "{took:?}");
    eprintln!("{} clients, {stopped:?}, in {took:?}", KINDS.len() * EACH);
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
    /// Asks again and again.
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
    BecomesIdle,
    IsAborted,
}

impl Kind {
    fn fate(self) -> Fate {
        match self {
            Self::Idle
            | Self::Silent
            | Self::MidRequest
            | Self::MidAnswer
            | Self::SlowReader
            | Self::Busy => Fate::BecomesIdle,
            Self::HalfClosed => Fate::Finishes,
            Self::Deaf | Self::HalfRequest | Self::Hung => Fate::IsAborted,
        }
    }
}

/// Follows orders, one a line. What takes its time takes it during the stop.
async fn serve(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
    let stopping = writer.stopping();
    while let Some(order) = reader.read_line().await? {
        match &order[..] {
            b"ping\n" => writer.write(b"pong\n")?,
            b"much\n" => writer.write(&vec![b'm'; MUCH])?,
            b"endless\n" => loop {
                writer.write(&[b'e'; 16 * 1024])?;
                writer.drain().await?;
            },
            b"pieces\n" => {
                for piece in 0..PIECES {
                    if piece == 1 {
                        stopping.requested().await;
                    }
                    writer.write(&[b'p'; 1000])?;
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
            other => panic!("no such order: {other:?}"),
        }
        writer.drain().await?;
    }
    Ok(())
}

/// Plays one of them; what went wrong, if anything did.
async fn client(
    kind: Kind,
    pair: (StreamReader, StreamWriter),
    ready: Arc<Barrier>,
    over: Arc<Semaphore>,
) -> Result<(), String> {
    let (mut reader, writer) = pair;
    let say = |text: &str| writer.write(text.as_bytes()).map(|()| drop(writer.flush()));
    let (opening, answer) = match kind {
        Kind::Idle => ("ping\n", "pong\n".len()),
        Kind::Silent | Kind::Busy => ("", 0),
        Kind::MidRequest | Kind::HalfRequest => ("ping\npi", "pong\n".len()),
        Kind::Deaf => ("endless\n", 0),
        Kind::HalfClosed => ("later\n", 0),
        Kind::MidAnswer => ("pieces\n", 0),
        Kind::SlowReader => ("much\n", 1000),
        Kind::Hung => ("hang\n", 0),
    };
    let starts_late = matches!(kind, Kind::HalfClosed | Kind::MidAnswer);
    if starts_late {
        ready.wait().await;
    }
    say(opening).map_err(|error| error.to_string())?;
    if kind == Kind::HalfClosed {
        writer.write_eof().map_err(|error| error.to_string())?;
    }
    reader.read_exactly(answer).await.map_err(|error| error.to_string())?;
    if !starts_late {
        ready.wait().await;
    }
    let read_all =
        async |reader: &mut StreamReader| reader.read_to_end(MUCH).await.map_err(|error| error.to_string());
    let expect = |what: bool, text: &str| what.then_some(()).ok_or_else(|| text.to_owned());
    match kind {
        Kind::Idle | Kind::Silent => expect(read_all(&mut reader).await?.is_empty(), "a clean end was due"),
        Kind::MidRequest => {
            tokio::time::sleep(Duration::from_millis(300)).await;
            say("ng\n").map_err(|error| error.to_string())?;
            expect(read_all(&mut reader).await? == "pong\n", "the answer was lost")
        }
        Kind::HalfClosed => expect(read_all(&mut reader).await? == "now\n", "the answer was lost"),
        Kind::MidAnswer => expect(read_all(&mut reader).await?.len() == PIECES * 1000, "pieces were lost"),
        Kind::SlowReader => {
            let mut left = MUCH - 1000;
            while left > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
                let read = reader.read(20_000).await.map_err(|error| error.to_string())?.len();
                expect(read > 0, &format!("{left} bytes of the answer were lost"))?;
                left -= read;
            }
            expect(read_all(&mut reader).await?.is_empty(), "a clean end was due")
        }
        Kind::HalfRequest | Kind::Hung => {
            expect(reader.read_to_end(MUCH).await.is_err(), "a reset was due, for something was cut off")
        }
        Kind::Deaf => {
            // It hears that it was cut off, if it ever listens.
            let _closed = over.acquire().await;
            let cut_off = loop {
                match reader.skip(1 << 20).await {
                    Ok(()) => {}
                    Err(millstream::SkipError::Failed(_)) => break true,
                    Err(_) => break false,
                }
            };
            expect(cut_off, "a reset was due")
        }
        Kind::Busy => {
            let mut answered = 0;
            loop {
                if say("ping\n").is_err() {
                    break;
                }
                match reader.read_line().await {
                    Ok(Some(line)) if line == "pong\n" => answered += 1,
                    // Between two requests the server may end; a new connection is the way to repeat the last.
                    Ok(None) => break,
                    other => return Err(format!("after {answered} answers: {other:?}")),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            expect(answered > 0, "it was never served")
        }
    }
}

fn connect(address: SocketAddr, small: bool) -> (StreamReader, StreamWriter) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    if small {
        socket.set_recv_buffer_size(4096).expect("SO_RCVBUF");
    }
    socket.connect(&address.into()).expect("a living server");
    ConnectOptions::new().adopt_tcp(socket.into()).expect("connected")
}

/// Waits until the server has accepted so many.
async fn reached(server: &Server, connections: usize) {
    while server.stats().accepted < connections as u64 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

const EACH: usize = 100;
const MUCH: usize = 500_000;
const PIECES: usize = 10;
/// Ten times what the slowest of those takes who finish, on an idle machine.
const DEADLINE: Duration = Duration::from_secs(3);
/// The machine has other work.
const SLACK: Duration = Duration::from_secs(3);
