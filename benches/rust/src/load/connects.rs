//! The connect-and-close load: connect, one line there and back, close, and again, on a fixed number at once.

use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::net::SendFlags;

use super::clients::watch;
use super::histogram::Latencies;
use super::{Plan, STALLED, wire};
use crate::Result;
use crate::process::nanos;

/// One connection on its way from the SYN to the server's FIN.
struct Attempt {
    socket: TcpStream,
    since: Instant,
    received: usize,
}

/// The connections that are on their way.
pub(super) struct Attempts {
    port: u16,
    epoll: OwnedFd,
    all: Vec<Option<Attempt>>,
    line: Vec<u8>,
    scratch: Vec<u8>,
    /// Connections so far.
    opened: usize,
}

impl Attempts {
    /// Room for the plan's connections; none is opened.
    pub(super) fn new(plan: &Plan) -> Result<Self> {
        let mut line = vec![b'x'; plan.line];
        line.pop();
        line.push(b'\n');
        Ok(Self {
            port: plan.port,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            all: (0..plan.connections).map(|_| None).collect(),
            scratch: vec![0; 2 * line.len()],
            line,
            opened: 0,
        })
    }

    /// Goes on for `window`, then waits for what is on its way. Returns the number of connections and adds the
    /// time of each, from the SYN to the server's FIN, to `times`.
    pub(super) fn drive(&mut self, window: Duration, times: &mut Latencies) -> Result<u64> {
        let end = Instant::now() + window;
        let mut events = Vec::with_capacity(self.all.len());
        let mut done = 0;
        for number in 0..self.all.len() {
            self.begin(number)?;
        }
        while self.all.iter().any(Option::is_some) {
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&Timespec::try_from(STALLED)?))?;
            if events.is_empty() {
                return Err("the server owes an answer and is silent".into());
            }
            for epoll::Event { data, .. } in events.drain(..) {
                let number = usize::try_from(data.u64())?;
                let Some(attempt) = &mut self.all[number] else { continue };
                if !attempt.step(&self.line, &mut self.scratch)? {
                    continue;
                }
                times.push(nanos(attempt.since.elapsed()));
                done += 1;
                self.all[number] = None;
                if Instant::now() < end {
                    self.begin(number)?;
                }
            }
        }
        Ok(done)
    }

    /// Opens a connection and sends its line, which fits into any socket's buffer.
    fn begin(&mut self, number: usize) -> Result<()> {
        let since = Instant::now();
        let socket = wire::dial(self.port, self.opened)?;
        self.opened += 1;
        socket.set_nonblocking(true)?;
        watch(&self.epoll, &socket, number)?;
        if rustix::net::send(&socket, &self.line, SendFlags::NOSIGNAL)? < self.line.len() {
            return Err("no room for one line in a new connection".into());
        }
        self.all[number] = Some(Attempt { socket, since, received: 0 });
        Ok(())
    }
}

impl Attempt {
    /// Does what can be done without waiting; true when the server has closed after its answer.
    fn step(&mut self, line: &[u8], scratch: &mut [u8]) -> Result<bool> {
        loop {
            match wire::receive(&self.socket, scratch)? {
                None => return Ok(false),
                Some(0) if self.received == line.len() => return Ok(true),
                Some(0) => return Err("the server closed the connection before its answer".into()),
                Some(n) => {
                    if line.get(self.received..self.received + n) != Some(&scratch[..n]) {
                        return Err("wrong answer".into());
                    }
                    self.received += n;
                    if self.received == line.len() {
                        self.socket.shutdown(Shutdown::Write)?;
                    }
                }
            }
        }
    }
}
