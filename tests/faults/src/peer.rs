//! Scripted bad peers on blocking sockets: one that resets, one that says its end and reads on, one that floods, one that
//! never reads, one that trickles, and one that says nothing at all.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::Result;

/// Every wait of a peer ends after this: a server that does not answer is a failure, not a rig that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to this port on loopback, with timeouts.
pub(crate) fn connect(port: u16) -> Result<TcpStream> {
    let socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// The same with a receive buffer as small as the kernel allows, so that little fits between the two.
pub(crate) fn connect_with_a_small_buffer(port: u16) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(1)?;
    socket.connect(&std::net::SocketAddr::from(([127, 0, 0, 1], port)).into())?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket.into())
}

/// Both ends of a TCP connection; the first has no timeouts.
pub(crate) fn tcp_pair() -> Result<(TcpStream, TcpStream)> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let one = TcpStream::connect(listener.local_addr()?)?;
    let (other, _) = listener.accept()?;
    other.set_read_timeout(Some(PATIENCE))?;
    other.set_nodelay(true)?;
    Ok((one, other))
}

/// Closes with a reset instead of an end.
pub(crate) fn reset(socket: TcpStream) -> io::Result<()> {
    SockRef::from(&socket).set_linger(Some(Duration::ZERO))
}

/// Sends one line and reads one.
pub(crate) fn ask(socket: &mut (impl Read + Write), line: &str) -> io::Result<String> {
    socket.write_all(format!("{line}\n").as_bytes())?;
    socket.flush()?;
    read_line(socket)
}

/// Reads through the next line feed, byte by byte, and no further.
pub(crate) fn read_line(socket: &mut impl Read) -> io::Result<String> {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while socket.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// Says the end of its own direction and reads the other to its end; how much that was.
pub(crate) fn half_close_and_read(socket: &mut TcpStream) -> io::Result<u64> {
    socket.shutdown(Shutdown::Write)?;
    io::copy(socket, &mut io::sink())
}

/// Whether the server ends the connection within the patience of the socket: by an end or a reset.
pub(crate) fn is_ended(socket: &mut TcpStream) -> bool {
    let mut block = [0; 4096];
    loop {
        match socket.read(&mut block) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => {
                return !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
            }
        }
    }
}

/// A peer that sends as fast as it can, on a thread, until it is dropped.
pub(crate) struct Flooder {
    over: Arc<AtomicBool>,
    pub(crate) sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Flooder {
    /// Begins with this line.
    pub(crate) fn start(port: u16, first: &str) -> Result<Self> {
        let mut socket = connect(port)?;
        socket.write_all(first.as_bytes())?;
        let (over, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = std::thread::spawn({
            let (over, sent) = (Arc::clone(&over), Arc::clone(&sent));
            move || {
                let block = vec![b'x'; 256 * 1024];
                while !over.load(Ordering::Relaxed) && socket.write_all(&block).is_ok() {
                    sent.fetch_add(block.len() as u64, Ordering::Relaxed);
                }
            }
        });
        Ok(Self { over, sent, thread: Some(thread) })
    }
}

impl Drop for Flooder {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A flood that panicked has been seen on standard error.
            let _ = thread.join();
        }
    }
}

/// Peers that send one byte each now and then, and never a whole line; without a pace they say nothing at all.
pub(crate) struct Tricklers {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Tricklers {
    /// So many of them, each with a byte in every `pace`, from several loopback addresses.
    pub(crate) fn start(port: u16, count: usize, pace: Option<Duration>) -> Result<Self> {
        let mut sockets = Vec::with_capacity(count);
        for number in 0..count {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            // A quarter of the addresses' ports each.
            let host = u8::try_from(2 + number / 7_000)?;
            socket.bind(&std::net::SocketAddr::from(([127, 0, 0, host], 0)).into())?;
            socket.connect(&std::net::SocketAddr::from(([127, 0, 0, 1], port)).into())?;
            sockets.push(TcpStream::from(socket));
        }
        let over = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let over = Arc::clone(&over);
            move || trickle(sockets, pace, &over)
        });
        Ok(Self { over, thread: Some(thread) })
    }
}

impl Drop for Tricklers {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn trickle(mut sockets: Vec<TcpStream>, pace: Option<Duration>, over: &AtomicBool) {
    let count = u32::try_from(sockets.len().max(1)).unwrap_or(u32::MAX);
    let step = pace.map_or(Duration::from_millis(20), |pace| pace / count);
    let mut turn = 0;
    let began = std::time::Instant::now();
    while !over.load(Ordering::Relaxed) && !sockets.is_empty() {
        if pace.is_some() {
            // Catches up with what is due, so that a coarse sleep does not slow the drip.
            while began.elapsed() > step * turn && !over.load(Ordering::Relaxed) {
                let at = usize::try_from(turn).unwrap_or(0) % sockets.len();
                // Those that the server has cut stay dead.
                let _ = sockets[at].write(b"z");
                turn += 1;
            }
        }
        std::thread::sleep(step.max(Duration::from_millis(1)));
    }
    sockets.clear();
}
