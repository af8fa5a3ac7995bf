//! What the integration tests share: a runner that ends every test with a leak check, real socket pairs, a seeded
//! generator. Not a test itself.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

pub mod certificates;
pub mod namespaces;
pub mod programs;
pub mod proxy;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "tls")]
pub mod tls_path;

use std::future::Future;
use std::net::{TcpListener, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use millstream::{ConnectOptions, StreamReader, StreamWriter};
use tokio::runtime::{Builder, Handle};

/// Runs a test on a current-thread runtime of its own; at its end no descriptor and no task may be left. Under
/// `cargo test`, where the tests of a binary share one table of descriptors, such tests take turns.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    run_on(Builder::new_current_thread(), test)
}

/// As [`run`], under tokio's paused clock.
pub fn run_paused<T>(test: impl Future<Output = T>) -> T {
    let mut builder = Builder::new_current_thread();
    builder.start_paused(true);
    run_on(builder, test)
}

/// As [`run`], on two worker threads.
pub fn run_on_threads<T>(test: impl Future<Output = T>) -> T {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2);
    run_on(builder, test)
}

fn run_on<T>(mut builder: Builder, test: impl Future<Output = T>) -> T {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = builder.enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let before = Held::now();
        let output = test.await;
        before.comes_back().await;
        output
    })
}

/// What a test may not have more of at its end. Only exact where nothing else in the process opens descriptors: inside
/// the runners above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub descriptors: usize,
    pub tasks: usize,
}

impl Held {
    pub fn now() -> Self {
        let descriptors = std::fs::read_dir("/proc/self/fd").expect("procfs").count();
        Self { descriptors, tasks: Handle::current().metrics().num_alive_tasks() }
    }

    /// Waits until everything was given back; closing may linger a second for a silent peer.
    pub async fn comes_back(self) {
        for _ in 0..500 {
            if Self::now() == self {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("leaked: {:?}, before the test {self:?}", Self::now());
    }
}

/// A stream under test over TCP, and the plain blocking socket at its other end.
pub fn tcp_pair(options: &ConnectOptions) -> ((StreamReader, StreamWriter), TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let tested = TcpStream::connect(listener.local_addr().expect("bound")).expect("loopback");
    let (peer, _) = listener.accept().expect("the connection just made");
    (options.adopt_tcp(tested).expect("a connected socket"), peer)
}

/// The two ends of a connection over a Unix socket.
pub fn unix_pair() -> [(StreamReader, StreamWriter); 2] {
    let (one, other) = std::os::unix::net::UnixStream::pair().expect("two sockets");
    [one, other].map(|socket| ConnectOptions::new().adopt_unix(socket).expect("it is connected"))
}

/// Looks for more once, and finds nothing: the reader waits as one does between two requests.
pub async fn until_it_waits(reader: &mut StreamReader) {
    let mut next = std::pin::pin!(reader.read(1));
    assert!(std::future::poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx).is_pending())).await);
}

/// Makes the socket's close a reset.
pub fn reset(socket: TcpStream) {
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
}

/// Resets the high-water mark of this process's memory and returns what it holds now, in bytes.
pub fn restart_peak_memory() -> usize {
    std::fs::write("/proc/self/clear_refs", "5").expect("procfs");
    memory("VmRSS:")
}

/// The most memory this process held since [`restart_peak_memory`], in bytes.
pub fn peak_memory() -> usize {
    memory("VmHWM:")
}

/// A line of `/proc/self/status`, in bytes.
pub fn memory(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|line| line.starts_with(name)).expect("a known line");
    let kib: usize = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    kib * 1024
}

/// A small xorshift generator: the same numbers for the same seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).expect("31 bits") % bound
    }
}

/// A seed that no run had before, to be printed when a test fails.
pub fn fresh_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    now.as_secs() ^ u64::from(now.subsec_nanos()) << 32
}

/// Runs the test that has this name in a child process of its own, for tests that change their process. True in the
/// child; in the parent false, once the child has passed the test.
pub fn in_child(test: &str) -> bool {
    const MARK: &str = "MILLSTREAM_TEST_CHILD";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let child = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args([test, "--exact", "--nocapture"])
        .env(MARK, "1")
        .output()
        .expect("a child process");
    let output = String::from_utf8_lossy(&child.stdout);
    let errors = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && output.contains("1 passed"), "{}\n{output}\n{errors}", child.status);
    false
}

/// A handler that sends back every line.
pub async fn echo(mut reader: StreamReader, writer: StreamWriter) -> Result<(), millstream::Error> {
    while let Some(line) = reader.read_line().await? {
        writer.write(&line)?;
        writer.drain().await?;
    }
    Ok(())
}

/// One line to such a handler and back.
pub async fn ping(reader: &mut StreamReader, writer: &StreamWriter) {
    writer.write(b"ping\n").expect("open");
    assert_eq!(reader.read_line().await.expect("an echo").as_deref(), Some(&b"ping\n"[..]));
}
