//! Deadlines over real sockets: a server cuts a crowd of slow clients and its good ones do not notice, over TCP, Unix and TLS,
//! on one thread and on two. Row A2 at reduced size.

mod support;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use millstream::{
    DeadlineKind, Deadlines, Error, Server, ServerFailure, ServerOptions, StreamReader, StreamWriter,
};
use support::{echo, ping, run, run_on_threads};
use tokio::time::{sleep, timeout};

const SLOW: usize = 500;
const GOOD: usize = 50;

/// What a server reported.
type Reports = Arc<Mutex<Vec<ServerFailure>>>;

fn reporting(options: ServerOptions) -> (ServerOptions, Reports) {
    let reports = Reports::default();
    let told = Arc::clone(&reports);
    (options.on_failure(move |failure| told.lock().expect("no panic").push(failure)), reports)
}

fn port(server: &Server) -> u16 {
    server.sockets()[0].port().expect("TCP")
}

async fn end(server: Server) {
    server.close();
    timeout(LONG, server.wait_closed()).await.expect("every connection ends");
}

/// Good clients ask and are answered for as long as the others are cut; every one of their answers comes.
async fn a_crowd_of_trickling_clients_is_cut_and_the_good_ones_are_served() {
    let deadlines = Deadlines::none().item(Duration::from_secs(1)).idle(Duration::from_secs(60));
    let (options, reports) = reporting(ServerOptions::new().deadlines(deadlines).backlog(1024));
    let server = options.start("127.0.0.1", 0, echo).await.expect("a port");
    let port = port(&server);

    let slow: Vec<_> = (0..SLOW).map(|_| tokio::spawn(trickle(port))).collect();
    let good: Vec<_> = (0..GOOD)
        .map(|_| {
            tokio::spawn(async move {
                let (mut reader, writer) =
                    millstream::open_connection("127.0.0.1", port).await.expect("the server listens");
                let (start, mut worst, mut answers) = (Instant::now(), Duration::ZERO, 0);
                while start.elapsed() < Duration::from_secs(3) {
                    let asked = Instant::now();
                    ping(&mut reader, &writer).await;
                    worst = worst.max(asked.elapsed());
                    answers += 1;
                    sleep(Duration::from_millis(20)).await;
                }
                (worst, answers)
            })
        })
        .collect();

    let mut latest = Duration::ZERO;
    for client in slow {
        latest = latest.max(timeout(LONG, client).await.expect("cut in time").expect("no panic"));
    }
    let (mut worst, mut answers) = (Duration::ZERO, 0);
    for client in good {
        let (longest, n) = client.await.expect("no good client is cut");
        worst = worst.max(longest);
        answers += n;
    }
    println!(
        "{SLOW} slow clients were cut, the last after {latest:?}; {answers} answers, the slowest in {worst:?}"
    );
    counted(&server, DeadlineKind::Item, SLOW).await;
    assert_eq!(server.passed_deadlines(DeadlineKind::Idle), 0);
    end(server).await;
    let reports = reports.lock().expect("no panic");
    assert_eq!(reports.len(), SLOW);
    assert!(reports.iter().all(|report| report.deadline() == Some(DeadlineKind::Item)), "{:?}", reports[0]);
}

/// Waits until the server's counter has come to what it should be.
async fn counted(server: &Server, kind: DeadlineKind, cut: usize) {
    let start = Instant::now();
    while server.passed_deadlines(kind) != cut as u64 {
        assert!(start.elapsed() < LONG, "{} were counted", server.passed_deadlines(kind));
        sleep(Duration::from_millis(10)).await;
    }
}

/// Sends a byte of a line every 100 ms until it is cut. Returns how long that took.
async fn trickle(port: u16) -> Duration {
    let (mut reader, writer) =
        millstream::open_connection("127.0.0.1", port).await.expect("the server listens");
    let start = Instant::now();
    let cut = reader.read(1);
    let sending = async {
        while writer.write(b"x").is_ok() && writer.flush().is_ok() {
            sleep(Duration::from_millis(100)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        result = cut => assert!(result.is_err(), "cut by a reset, not an end"),
        () = sending => {}
    }
    start.elapsed()
}

#[test]
fn a2_five_hundred_trickling_clients_are_cut_among_fifty_good_ones() {
    run(a_crowd_of_trickling_clients_is_cut_and_the_good_ones_are_served());
}

#[test]
fn a2_five_hundred_trickling_clients_are_cut_on_two_threads_too() {
    run_on_threads(a_crowd_of_trickling_clients_is_cut_and_the_good_ones_are_served());
}

#[test]
fn a_handler_that_reads_in_a_task_of_its_own_is_watched_as_well() {
    let test = async || {
        let (options, reports) = reporting(ServerOptions::new().item_deadline(SHORT));
        let spawning = |mut reader: StreamReader, writer: StreamWriter| async move {
            let reading = tokio::spawn(async move { reader.read_line().await.map(drop) });
            let result = reading.await.expect("no panic");
            drop(writer);
            // Any error will do: the report knows why.
            result.map_err(|_| std::io::Error::other("something of the program's own"))
        };
        let server = options.start("127.0.0.1", 0, spawning).await.expect("a port");
        let cut_after = trickle(port(&server)).await;
        assert!(SHORT <= cut_after && cut_after < LONG, "{cut_after:?}");
        counted(&server, DeadlineKind::Item, 1).await;
        end(server).await;
        assert_eq!(reports.lock().expect("no panic")[0].deadline(), Some(DeadlineKind::Item));
    };
    run(test());
    run_on_threads(test());
}

#[test]
fn idle_clients_of_a_unix_server_see_an_end_and_it_is_counted_even_if_the_handler_says_nothing() {
    run(async {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let (options, reports) = reporting(ServerOptions::new().idle_timeout(SHORT));
        let quiet = |mut reader: StreamReader, writer: StreamWriter| async move {
            while let Ok(Some(line)) = reader.read_line().await {
                let _ = writer.write(&line);
            }
        };
        let server = options.start_unix(&path, quiet).expect("a path");
        let (mut reader, writer) = millstream::open_unix_connection(&path).await.expect("it listens");
        ping(&mut reader, &writer).await;
        let start = Instant::now();
        assert_eq!(reader.read(1).await.expect("an end, not a reset"), "");
        assert!(SHORT <= start.elapsed() && start.elapsed() < LONG);
        counted(&server, DeadlineKind::Idle, 1).await;
        end(server).await;
        assert!(reports.lock().expect("no panic").is_empty());
        writer.close();
    });
}

#[test]
fn a_client_is_not_idle_while_its_handler_works_for_it() {
    run(async {
        let working = |mut reader: StreamReader, writer: StreamWriter| async move {
            while reader.read_line().await?.is_some() {
                sleep(SHORT * 5).await;
                writer.write(b"done\n")?;
            }
            Ok::<(), Error>(())
        };
        let deadlines = Deadlines::none().idle(SHORT).item(SHORT).receive_rate(1_000_000, SHORT);
        let server =
            ServerOptions::new().deadlines(deadlines).start("127.0.0.1", 0, working).await.expect("a port");
        let (mut reader, writer) =
            millstream::open_connection("127.0.0.1", port(&server)).await.expect("listens");
        writer.write(b"work\n").expect("open");
        assert_eq!(reader.read_line().await.expect("fine").as_deref(), Some(&b"done\n"[..]));
        drop((reader, writer));
        end(server).await;
    });
}

#[test]
fn a_client_that_takes_no_answers_is_cut_while_its_handler_drains() {
    run(async {
        let (options, reports) = reporting(ServerOptions::new().write_progress_timeout(SHORT));
        let pouring = |_reader: StreamReader, writer: StreamWriter| async move {
            loop {
                writer.write(&[b'x'; 100_000])?;
                writer.drain().await?;
            }
            #[allow(unreachable_code, reason = "says what the handler returns")]
            Ok::<(), Error>(())
        };
        let server = options.start("127.0.0.1", 0, pouring).await.expect("a port");
        let (mut reader, writer) =
            millstream::open_connection("127.0.0.1", port(&server)).await.expect("listens");
        counted(&server, DeadlineKind::WriteProgress, 1).await;
        end(server).await;
        assert_eq!(reports.lock().expect("no panic")[0].deadline(), Some(DeadlineKind::WriteProgress));
        assert!(reader.read_to_end(usize::MAX).await.is_err(), "what was cut is not whole");
        drop(writer);
    });
}

#[test]
fn a_server_without_deadlines_cuts_nobody() {
    run(async {
        let server = millstream::start_server("127.0.0.1", 0, echo).await.expect("a port");
        assert!(timeout(SHORT * 5, trickle(port(&server))).await.is_err());
        end(server).await;
    });
}

#[test]
fn a_client_that_takes_its_answer_slowly_but_steadily_is_not_cut() {
    run(async {
        let (options, reports) =
            reporting(ServerOptions::new().write_progress_timeout(Duration::from_millis(500)));
        let big = |_reader: StreamReader, writer: StreamWriter| async move {
            writer.write(&vec![b'x'; ANSWER])?;
            writer.close();
            writer.wait_closed().await?;
            Ok::<(), Error>(())
        };
        let server = options.start("127.0.0.1", 0, big).await.expect("a port");
        let port = port(&server);
        let taking = std::thread::spawn(move || {
            let mut socket = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
            let (mut got, mut chunk) = (0, vec![0; 16 * 1024]);
            loop {
                match std::io::Read::read(&mut socket, &mut chunk) {
                    Ok(0) => return Ok(got),
                    Ok(n) => got += n,
                    Err(error) => return Err((got, error)),
                }
                std::thread::sleep(Duration::from_millis(8));
            }
        });
        while !taking.is_finished() {
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(
            taking.join().expect("no panic").map_err(|(got, error)| format!("{error} after {got}")),
            Ok(ANSWER)
        );
        end(server).await;
        assert!(reports.lock().expect("no panic").is_empty());
    });
}

/// More than the two systems' buffers hold.
const ANSWER: usize = 12 << 20;
/// A deadline that passes soon, but not before a busy machine has polled everyone.
const SHORT: Duration = Duration::from_millis(200);
/// Nothing here takes so long, unless it hangs.
const LONG: Duration = Duration::from_secs(20);
