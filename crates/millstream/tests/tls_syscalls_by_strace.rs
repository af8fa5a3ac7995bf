//! How many system calls and records TLS takes: a record or a few in one receive, a pipelined batch answered
//! in one send; as strace counts them, as the peer counts records, and as the connection counts for itself.
//!
//! The server is this test binary, run again under strace for the same test. Its peer is rustls over a
//! blocking socket.
#![cfg(feature = "tls")]

mod support;

use std::future::Future;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use millstream::tls::{TlsServer, TlsVersion};
use millstream::{Error, ServerOptions, Stats, StreamReader, StreamWriter};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use support::certificates::Authority;
use support::programs::{Program, have};
use support::run;
use tokio::sync::mpsc::unbounded_channel;

#[test]
fn a_lone_record_of_16_kib_takes_one_receive() {
    traced("a_lone_record_of_16_kib_takes_one_receive", take_messages, |server| {
        for calls in server.send_messages(16 * KIB) {
            assert_eq!(calls.receives, 1, "{calls:?}");
        }
    });
}

#[test]
fn a_lone_message_of_64_kib_takes_two_receives_at_most() {
    traced("a_lone_message_of_64_kib_takes_two_receives_at_most", take_messages, |server| {
        for calls in server.send_messages(64 * KIB) {
            assert!((1..=2).contains(&calls.receives), "{calls:?}");
        }
    });
}

#[test]
fn a_pipelined_batch_is_answered_in_two_records_and_two_sends_at_most() {
    traced(
        "a_pipelined_batch_is_answered_in_two_records_and_two_sends_at_most",
        answer_line_by_line,
        |server| {
            let batch = LINE.repeat(100);
            let before = server.records();
            server.socket.write_all(&batch).expect("the server is there");
            let mut answers = vec![0; batch.len()];
            server.socket.read_exact(&mut answers).expect("the server answers");
            assert!(answers == batch, "another answer came");
            let records = server.records() - before;
            server.socket.write_all(b"end\n").expect("the server is there");
            let calls = server.calls();
            eprintln!("{}: 100 lines: {records} records, {calls:?}", server.version);
            assert!((1..=2).contains(&records), "{records} records");
            assert!((1..=2).contains(&calls.sends), "{calls:?}");
            // The batch, which may come in two pieces, and the last word.
            assert!((2..=3).contains(&calls.receives), "{calls:?}");
        },
    );
}

#[test]
fn a_message_of_64_kib_leaves_in_four_records_and_two_sends_at_most() {
    traced("a_message_of_64_kib_leaves_in_four_records_and_two_sends_at_most", send_one_message, |server| {
        let before = server.records();
        server.socket.write_all(b"now\n").expect("the server is there");
        let mut message = vec![0; 64 * KIB];
        server.socket.read_exact(&mut message).expect("the server sends");
        let records = server.records() - before;
        server.socket.write_all(b"end\n").expect("the server is there");
        let calls = server.calls();
        eprintln!("{}: a message of 64 KiB: {records} records, {calls:?}", server.version);
        assert_eq!(records, 4);
        assert!((1..=2).contains(&calls.sends), "{calls:?}");
    });
}

/// At the server: reads one message after the other, each once all of it has arrived.
async fn take_messages(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
    loop {
        let mut told = String::new();
        io::stdin().read_line(&mut told)?;
        let Ok(len) = told.trim().parse() else { return Ok(()) };
        counted(&writer, reader.read_exactly(len)).await?;
        writer.write(b".")?;
        // The next wait is one for the input, of which the runtime knows nothing.
        writer.flush()?;
    }
}

/// At the server: the plain loop, with no care taken.
async fn answer_line_by_line(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
    counted(&writer, async {
        while let Some(line) = reader.read_line().await? {
            if line == "end\n" {
                break;
            }
            writer.write(&line)?;
            writer.drain().await?;
        }
        Ok(())
    })
    .await
}

/// At the server: sends when it is asked to, and closes only when the peer has counted the records.
async fn send_one_message(mut reader: StreamReader, writer: StreamWriter) -> Result<(), Error> {
    reader.read_line().await?;
    counted(&writer, async {
        writer.write_bytes(vec![1; 64 * KIB])?;
        writer.flush()?;
        Ok::<_, Error>(())
    })
    .await?;
    reader.read_line().await?;
    Ok(())
}

/// At the server: does it between two words that mark the place in strace's log, and says what the connection
/// counted meanwhile.
async fn counted<T>(writer: &StreamWriter, work: impl Future<Output = T>) -> T {
    let Stats { reads, writes, .. } = writer.stats();
    println!("begin");
    let result = work.await;
    println!("end");
    let now = writer.stats();
    println!("counted receives={} sends={}", now.reads - reads, now.writes - writes);
    result
}

/// Runs the server of this test under strace, once for each version, and plays its peer; or is that server.
fn traced<F, R>(test: &str, handler: F, peer: impl Fn(&mut Traced))
where
    F: Fn(StreamReader, StreamWriter) -> R + Send + Sync + Copy + 'static,
    R: Future<Output = Result<(), Error>> + Send + 'static,
{
    if let Ok(papers) = std::env::var(PAPERS) {
        return serve(Path::new(&papers), handler);
    }
    if !have(&["strace"]) {
        return;
    }
    run(async {
        let traced = Command::new("strace").args(["-o", "/dev/null", "true"]).output().expect("it was found");
        if !traced.status.success() {
            eprintln!("skipped: strace may not trace: {}", String::from_utf8_lossy(&traced.stderr));
            return;
        }
        for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
            let mut server = Traced::start(test, version).await;
            peer(&mut server);
            server.ends().await;
        }
    });
}

/// At the server: one connection, a greeting to be sure that the handshake is behind, then the handler.
fn serve<F, R>(papers: &Path, handler: F)
where
    F: Fn(StreamReader, StreamWriter) -> R + Send + Sync + Copy + 'static,
    R: Future<Output = Result<(), Error>> + Send + 'static,
{
    let read = |name| std::fs::read(papers.join(name)).expect("written before");
    let tls = TlsServer::new(read("chain"), read("key")).expect("valid");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (tell, mut end) = unbounded_channel();
        let options = ServerOptions::new().tls(tls);
        let server = options.start("127.0.0.1", 0, move |mut reader: StreamReader, writer: StreamWriter| {
            let tell = tell.clone();
            async move {
                let greeting = reader.read_line().await?.expect("a greeting");
                writer.write(&greeting)?;
                writer.flush()?;
                let result = handler(reader, writer).await;
                let _ = tell.send(());
                result
            }
        });
        let server = server.await.expect("a free port");
        println!("\nlistens at {}", server.sockets()[0]);
        end.recv().await;
    });
}

/// The traced server, as its peer sees it.
struct Traced {
    program: Program,
    version: TlsVersion,
    socket: StreamOwned<ClientConnection, Tap>,
    folder: tempfile::TempDir,
    /// How many marked stretches of the log were read.
    seen: usize,
}

/// What the server did between two marks.
#[derive(Debug)]
struct Calls {
    receives: usize,
    sends: usize,
}

impl Traced {
    async fn start(test: &str, version: TlsVersion) -> Self {
        let authority = Authority::new("test root");
        let identity = authority.server(&["localhost"]);
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("chain"), identity.chain).expect("a temporary folder");
        std::fs::write(folder.path().join("key"), identity.key).expect("a temporary folder");
        let papers = format!("{PAPERS}={}", folder.path().display());
        let binary = std::env::current_exe().expect("this test");
        let binary = binary.to_str().expect("UTF-8");
        let strace = ["-f", "-o", "log", "-E", &papers, "-e", "trace=network,read,write,readv,writev"];
        let arguments = [&strace[..], &[binary, "--exact", test, "--nocapture"]].concat();
        let mut program = Program::start("strace", &arguments, folder.path());
        let port = program.port_after("listens at ").await;
        let socket = connect(port, version, &authority.root()).expect("the server is there");
        Self { program, version, socket, folder, seen: 0 }
    }

    /// Sends a few messages, each when the last was taken, and tells the server of each when all of it has
    /// arrived.
    fn send_messages(&mut self, len: usize) -> Vec<Calls> {
        let mut all = Vec::new();
        for _ in 0..MESSAGES {
            self.socket.write_all(&vec![1; len]).expect("the server is there");
            self.program.say(format!("{len}\n"));
            self.socket.read_exact(&mut [0]).expect("the server answers");
            all.push(self.calls());
        }
        self.program.end_of_input();
        let receives: Vec<usize> = all.iter().map(|calls| calls.receives).collect();
        eprintln!("{}: receives for each of {MESSAGES} messages of {len} bytes: {receives:?}", self.version);
        all
    }

    /// How many records have arrived.
    fn records(&self) -> usize {
        self.socket.sock.records
    }

    /// What the server did in its next marked stretch, as strace and the connection itself agree.
    fn calls(&mut self) -> Calls {
        let deadline = std::time::Instant::now() + PATIENCE;
        let nth = self.seen;
        self.seen += 1;
        loop {
            let log = std::fs::read_to_string(self.folder.path().join("log")).expect("strace's log");
            if let Some(calls) = Calls::between_marks(&log, nth) {
                let said = self.program.said();
                if let Some(own) = said.lines().filter_map(|line| line.strip_prefix("counted ")).nth(nth) {
                    let strace = format!("receives={} sends={}", calls.receives, calls.sends);
                    assert_eq!(own, strace, "the connection and strace count differently");
                    return calls;
                }
            }
            assert!(
                std::time::Instant::now() < deadline,
                "nothing was counted: {}\n{log}",
                self.program.said()
            );
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    async fn ends(mut self) {
        self.program.succeeds().await;
        assert!(self.program.said().contains("1 passed"), "{}", self.program.said());
    }
}

impl Calls {
    /// Those on the accepted socket, failed ones included, in the nth marked stretch of a log.
    fn between_marks(log: &str, nth: usize) -> Option<Self> {
        let accepted = log.lines().rfind(|line| line.contains("accept4(") && !line.contains(" = -1 "))?;
        let socket = accepted.rsplit("= ").next()?.trim();
        let stretch = log.split("write(1, \"begin\\n\"").nth(nth + 1)?;
        let (stretch, _) = stretch.split_once("write(1, \"end\\n\"")?;
        let count = |names: [&str; 4]| {
            let is_one = |line: &&str| names.iter().any(|name| line.contains(&format!(" {name}({socket},")));
            stretch.lines().filter(is_one).count()
        };
        Some(Self {
            receives: count(["recvfrom", "recvmsg", "read", "readv"]),
            sends: count(["sendto", "sendmsg", "write", "writev"]),
        })
    }
}

/// A blocking TLS client by rustls itself, greeted.
fn connect(port: u16, version: TlsVersion, root: &str) -> io::Result<StreamOwned<ClientConnection, Tap>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root.as_bytes()).expect("PEM")).expect("a root");
    let version = match version {
        TlsVersion::V1_2 => &rustls::version::TLS12,
        _ => &rustls::version::TLS13,
    };
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a valid configuration");
    let socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut socket = StreamOwned::new(connection, Tap { socket, records: 0, header: Vec::new(), left: 0 });
    socket.write_all(b"hello\n")?;
    let mut greeting = [0; 6];
    socket.read_exact(&mut greeting)?;
    assert_eq!(&greeting, b"hello\n");
    Ok(socket)
}

/// A socket that counts the records that arrive (RFC 8446, section 5.1).
struct Tap {
    socket: TcpStream,
    records: usize,
    header: Vec<u8>,
    /// Bytes until the next header.
    left: usize,
}

impl Read for Tap {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.socket.read(buf)?;
        for &byte in &buf[..n] {
            if self.left > 0 {
                self.left -= 1;
                continue;
            }
            self.header.push(byte);
            if let [_, _, _, high, low] = self.header[..] {
                self.left = usize::from(u16::from_be_bytes([high, low]));
                self.records += 1;
                self.header.clear();
            }
        }
        Ok(n)
    }
}

impl Write for Tap {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.socket.write(buf)
    }

    fn write_vectored(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.socket.write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const KIB: usize = 1024;
const MESSAGES: usize = 20;
const LINE: [u8; 64] = *b"a line of 64 bytes with its line feed, as in the measurements..\n";
/// Names the folder with the certificate; only set for the server.
const PAPERS: &str = "MILLSTREAM_TEST_PAPERS";
/// How long the server may be silent, on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(30);
