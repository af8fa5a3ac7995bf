//! The handshake load: connect, full handshake, close, and again, on a fixed number of connections at once.

use std::net::Shutdown;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;

use super::clients::watch;
use super::session::Session;
use super::{Plan, STALLED, histogram::Latencies, wire};
use crate::Result;
use crate::process::nanos;

/// One connection on its way from the SYN to the server's end of the stream.
struct Attempt {
    session: Session,
    since: Instant,
    /// Our side is over: close_notify and FIN have left.
    closed: bool,
}

/// The connections that are on their way.
pub(super) struct Attempts {
    port: u16,
    epoll: OwnedFd,
    all: Vec<Option<Attempt>>,
    scratch: Vec<u8>,
    /// Connections so far.
    opened: usize,
}

impl Attempts {
    /// Room for the plan's connections; none is opened.
    pub(super) fn new(plan: &Plan) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let all = (0..plan.connections).map(|_| None).collect();
        Ok(Self { port: plan.port, epoll, all, scratch: vec![0; 64 * 1024], opened: 0 })
    }

    /// Goes on for `window`, then waits for what is on its way. Returns the number of handshakes and adds the
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
                return Err("the server owes a handshake and is silent".into());
            }
            for epoll::Event { data, .. } in events.drain(..) {
                let number = usize::try_from(data.u64())?;
                let Some(attempt) = &mut self.all[number] else { continue };
                if !attempt.step(&mut self.scratch)? {
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

    /// Opens a connection and sends its first flight.
    fn begin(&mut self, number: usize) -> Result<()> {
        let since = Instant::now();
        let mut session = Session::dial(self.port, self.opened)?;
        self.opened += 1;
        session.socket.set_nonblocking(true)?;
        watch(&self.epoll, &session.socket, number)?;
        session.flush()?;
        self.all[number] = Some(Attempt { session, since, closed: false });
        Ok(())
    }
}

impl Attempt {
    /// Does what can be done without waiting; true when the server has closed after a handshake.
    fn step(&mut self, scratch: &mut [u8]) -> Result<bool> {
        loop {
            self.session.flush()?;
            if !self.session.tls.is_handshaking() && !self.closed {
                self.session.tls.send_close_notify();
                self.session.flush()?;
                self.session.socket.shutdown(Shutdown::Write)?;
                self.closed = true;
            }
            match wire::receive(&self.session.socket, scratch)? {
                None => return Ok(false),
                Some(0) if self.closed => return Ok(true),
                Some(0) => return Err("the server closed the connection in its handshake".into()),
                Some(n) => self.session.open(&scratch[..n], |_| Err("nobody asked for bytes".into()))?,
            }
        }
    }
}
