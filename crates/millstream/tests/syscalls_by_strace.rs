//! A served ping-pong takes three system calls a request, as strace counts them; see docs/syscalls.md.
//!
//! The server is this test binary, run again under `strace -f -c`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use millstream::{StreamReader, StreamWriter, start_server};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

const LINE: [u8; 64] = *b"a line of 64 bytes with its line feed, as in the measurements..\n";
const PINGS: u64 = 10_000;
const BATCH: u64 = 100;
/// Names the port to which the server reports its own; only set for the server.
const REPORT_TO: &str = "MILLSTREAM_TEST_REPORT_TO";
/// Makes the server tokio's own reads and writes, for comparison.
const PLAIN_TOKIO: &str = "MILLSTREAM_TEST_PLAIN_TOKIO";

#[test]
fn a_ping_takes_three_system_calls() {
    let Some(calls) = Calls::for_pings("served one by one", 1, false) else { return };
    assert!(calls.total() <= 3 * PINGS + PINGS / 20, "{calls:?}");
    assert!(calls.failed("recvfrom") + calls.failed("sendto") < PINGS / 100, "{calls:?}");
    assert!(
        calls.made("recvfrom") >= PINGS && calls.made("sendto") >= PINGS,
        "the table lacks rows: {calls:?}"
    );
}

#[test]
fn a_hundred_pipelined_lines_share_three_system_calls() {
    let Some(calls) = Calls::for_pings("served in hundreds", BATCH, false) else { return };
    let batches = PINGS / BATCH;
    // A batch may come in two pieces, and its answer leave in two.
    assert!(calls.total() <= 2 * 3 * batches, "{calls:?}");
    assert!(calls.failed("recvfrom") + calls.failed("sendto") <= batches / 10, "{calls:?}");
    assert!(calls.made("recvfrom") >= batches && calls.made("sendto") >= batches, "rows lack: {calls:?}");
}

/// For docs/syscalls.md: run it with `--ignored --nocapture`.
#[test]
#[ignore = "a figure to compare with, no property of this crate"]
fn tokio_read_until_and_write_all_for_comparison() {
    Calls::for_pings("tokio, one by one", 1, true);
    Calls::for_pings("tokio, in hundreds", BATCH, true);
}

/// The server. Does nothing unless it was started by one of the tests above.
#[test]
#[ignore = "the server of the other tests"]
fn the_server_under_strace() {
    let Ok(report_to) = std::env::var(REPORT_TO) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (ended, mut end) = unbounded_channel();
        if std::env::var_os(PLAIN_TOKIO).is_some() {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            report(&report_to, listener.local_addr().expect("bound").port());
            let (socket, _) = listener.accept().await.expect("the test connects");
            tokio::spawn(echo_with_tokio(socket, ended));
            end.recv().await;
        } else {
            let server =
                start_server("127.0.0.1", 0, move |reader, writer| echo(reader, writer, ended.clone()));
            let server = server.await.expect("a free port");
            report(&report_to, server.sockets()[0].port().expect("TCP"));
            end.recv().await;
        }
    });
}

fn report(to: &str, port: u16) {
    let mut to = TcpStream::connect(to).expect("the test listens");
    to.write_all(&port.to_be_bytes()).expect("the test listens");
}

async fn echo(
    mut reader: StreamReader,
    writer: StreamWriter,
    ended: UnboundedSender<()>,
) -> Result<(), millstream::Error> {
    while let Some(line) = reader.read_line_borrowed().await? {
        writer.write(line)?;
        writer.drain().await?;
    }
    let _ = ended.send(());
    Ok(())
}

async fn echo_with_tokio(socket: tokio::net::TcpStream, ended: UnboundedSender<()>) -> std::io::Result<()> {
    let (reader, mut writer) = socket.into_split();
    let (mut reader, mut line) = (tokio::io::BufReader::new(reader), Vec::new());
    while reader.read_until(b'\n', &mut line).await? > 0 {
        writer.write_all(&line).await?;
        line.clear();
    }
    let _ = ended.send(());
    Ok(())
}

/// The rows of strace's table, by the name of the call.
#[derive(Debug)]
struct Calls(BTreeMap<String, Row>);

/// How often a call was made, and how often it failed.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    made: u64,
    failed: u64,
}

impl Calls {
    /// What a server needs for [`PINGS`] lines, so many in a segment, beyond what it needs for a connection without any.
    /// `None`, and a word why, without a strace that may trace.
    fn for_pings(what: &str, batch: u64, plain_tokio: bool) -> Option<Self> {
        if let Err(reason) = strace_works() {
            eprintln!("skipped: {reason}");
            return None;
        }
        let idle = Self::of_server(0, batch, plain_tokio);
        let mut calls = Self::of_server(PINGS, batch, plain_tokio);
        for (name, row) in &mut calls.0 {
            row.made = row.made.saturating_sub(idle.made(name));
            row.failed = row.failed.saturating_sub(idle.failed(name));
        }
        calls.0.retain(|_, row| row.made > 0);
        eprintln!("{what}: {} calls for {PINGS} lines: {calls:?}", calls.total());
        Some(calls)
    }

    fn of_server(pings: u64, batch: u64, plain_tokio: bool) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let table = folder.path().join("table");
        let reports = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = reports.local_addr().expect("bound").to_string();
        let mut server = Command::new("strace");
        server.args(["-f", "-c", "-o"]).arg(&table).arg(std::env::current_exe().expect("this test"));
        server.args(["--exact", "the_server_under_strace", "--ignored", "--test-threads=1"]);
        server.env(REPORT_TO, address).stdout(Stdio::null());
        if plain_tokio {
            server.env(PLAIN_TOKIO, "1");
        }
        let server = Running(server.spawn().expect("strace starts"));
        play_client(port_from(&reports), pings, batch);
        server.ends();
        Self::read(&table)
    }

    /// The columns are: share, seconds, microseconds a call, calls, errors (or nothing), name.
    fn read(table: &Path) -> Self {
        let table = std::fs::read_to_string(table).expect("strace has written its table");
        let rows = table.lines().filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (made, failed, name) = match words[..] {
                [_, _, _, made, failed, name] => (made, failed.parse().ok()?, name),
                [_, _, _, made, name] => (made, 0, name),
                _ => return None,
            };
            (name != "total").then_some((name.to_owned(), Row { made: made.parse().ok()?, failed }))
        });
        Self(rows.collect())
    }

    fn made(&self, name: &str) -> u64 {
        self.0.get(name).map_or(0, |row| row.made)
    }

    fn failed(&self, name: &str) -> u64 {
        self.0.get(name).map_or(0, |row| row.failed)
    }

    fn total(&self) -> u64 {
        self.0.values().map(|row| row.made).sum()
    }
}

fn strace_works() -> Result<(), String> {
    let traced = Command::new("strace").args(["-f", "-c", "-o", "/dev/null", "true"]).output();
    let traced = traced.map_err(|error| format!("no strace: {error}"))?;
    if traced.status.success() {
        return Ok(());
    }
    Err(format!("strace may not trace: {}", String::from_utf8_lossy(&traced.stderr)))
}

fn port_from(reports: &TcpListener) -> u16 {
    let (mut report, _) = reports.accept().expect("the server reports");
    let mut port = [0; 2];
    report.read_exact(&mut port).expect("the server reports");
    u16::from_be_bytes(port)
}

fn play_client(port: u16, pings: u64, batch: u64) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
    socket.set_nodelay(true).expect("a TCP socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a TCP socket");
    let lines = LINE.repeat(usize::try_from(batch).expect("small"));
    let mut answers = vec![0; lines.len()];
    for _ in 0..pings / batch {
        socket.write_all(&lines).expect("the server is there");
        socket.read_exact(&mut answers).expect("the server answers");
        assert!(answers == lines, "another answer came");
    }
    socket.shutdown(Shutdown::Write).expect("the server is there");
}

/// The traced server; killed if the test fails.
struct Running(Child);

impl Running {
    fn ends(mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.0.try_wait().expect("our own child").is_none() {
            assert!(Instant::now() < deadline, "the server does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How long the server may be silent, on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(60);
