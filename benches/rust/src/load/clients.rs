//! The connections of the line loads: each sends and checks one batch of lines of its own, again and again.

use std::fmt::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::wire::Wire;
use super::{Format, Plan, STALLED};
use crate::Result;

/// One connection with at most one batch outstanding.
struct Client<W> {
    wire: W,
    batch: Vec<u8>,
    sent: usize,
    received: usize,
    /// When this batch was due.
    since: Instant,
}

/// All connections to one server, and the epoll that watches them.
pub(super) struct Clients<W> {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    all: Vec<Client<W>>,
    scratch: Vec<u8>,
    /// Lines in a batch.
    pub(super) depth: usize,
    /// Compare every byte of every answer, else only the ends of long pieces.
    pub(super) check_all: bool,
}

const SCRATCH: usize = 64 * 1024;
/// Pieces above this are compared at their ends only, [`END`] bytes each: comparing a mebibyte would make the load
/// the slower side. The ends still show a byte lost or doubled, and warming up compares all.
const LONG: usize = 8 * 1024;
const END: usize = 64;

impl<W: Wire> Clients<W> {
    /// Opens the plan's connections.
    pub(super) fn connect(plan: &Plan) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut all = Vec::with_capacity(plan.connections);
        for number in 0..plan.connections {
            let wire = W::connect(plan.port, number)?;
            watch(&epoll, wire.socket(), number)?;
            let batch = match plan.format {
                Format::Lines => batch(number, plan.depth, plan.line),
                Format::Counted => counted(number, plan.depth, plan.line),
            };
            // Nothing outstanding: as if this batch had just come back.
            let (sent, received) = (batch.len(), batch.len());
            all.push(Client { wire, batch, sent, received, since: Instant::now() });
        }
        let events = Vec::with_capacity(plan.connections);
        Ok(Self { epoll, events, all, scratch: vec![0; SCRATCH], depth: plan.depth, check_all: true })
    }

    /// How many connections there are; they are numbered from 0.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Sends the batch of connection `number`, which was due at `since`.
    pub(super) fn ask(&mut self, number: usize, since: Instant) -> Result<()> {
        let client = &mut self.all[number];
        (client.sent, client.received, client.since) = (0, 0, since);
        client.send()
    }

    /// Waits for answers, at most `timeout`, and calls `done` with the number of each connection whose
    /// batch is fully back and the time it was due. Returns whether any byte came.
    pub(super) fn answers(
        &mut self,
        timeout: Duration,
        mut done: impl FnMut(usize, Instant),
    ) -> Result<bool> {
        let timeout = Timespec::try_from(timeout)?;
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let any = !self.events.is_empty();
        for epoll::Event { data, .. } in self.events.drain(..) {
            let number = usize::try_from(data.u64())?;
            let client = &mut self.all[number];
            if client.received == client.batch.len() {
                // Nothing outstanding: the socket only says that there is room to send.
                continue;
            }
            client.send()?;
            if client.receive(&mut self.scratch, self.check_all)? {
                done(number, client.since);
            }
        }
        Ok(any)
    }

    /// Like [`answers`](Self::answers), and fails when the server stays silent.
    pub(super) fn answers_or_stalled(&mut self, done: impl FnMut(usize, Instant)) -> Result<()> {
        if self.answers(STALLED, done)? {
            Ok(())
        } else {
            Err("the server owes answers and is silent".into())
        }
    }
}

impl<W: Wire> Client<W> {
    /// Sends until there is no more room, which is when the next event says that there is some.
    fn send(&mut self) -> Result<()> {
        while self.sent < self.batch.len() || self.wire.holds_back() {
            let sent = self.wire.send(&self.batch[self.sent..])?;
            self.sent += sent;
            if sent == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Takes what has come and checks every byte of it; true when the batch is back.
    fn receive(&mut self, scratch: &mut [u8], all: bool) -> Result<bool> {
        loop {
            let (batch, received) = (&self.batch, &mut self.received);
            let came = self.wire.receive(scratch, |got| {
                let due = batch.get(*received..*received + got.len());
                if !due.is_some_and(|due| same(due, got, all)) {
                    return Err(format!("wrong answer after {received} bytes of a batch").into());
                }
                *received += got.len();
                Ok(())
            })?;
            if came.is_none_or(|n| n < scratch.len()) {
                return Ok(self.received == self.batch.len());
            }
        }
    }
}

/// Watches both directions of a connection, edge-triggered.
pub(super) fn watch(epoll: &OwnedFd, stream: &TcpStream, number: usize) -> Result<()> {
    let interest = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
    Ok(epoll::add(epoll, stream, epoll::EventData::new_u64(number as u64), interest)?)
}

/// Whether this piece of an answer is what was due.
fn same(due: &[u8], got: &[u8], all: bool) -> bool {
    if all || got.len() <= LONG {
        return due == got;
    }
    let end = got.len() - END;
    due[..END] == got[..END] && due[end..] == got[end..]
}

/// Messages behind their length, four bytes with the most significant first.
fn counted(connection: usize, depth: usize, payload: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(depth * (payload + 4));
    for number in 0..depth {
        bytes.extend_from_slice(&u32::try_from(payload).unwrap_or(u32::MAX).to_be_bytes());
        // A period of 251 hides no block that was lost: no buffer's size is a multiple of it.
        let first = connection * 31 + number * 7;
        bytes.extend((first..first + payload).map(|at| u8::try_from(at % 251).unwrap_or(0)));
    }
    bytes
}

/// Lines that say whose they are and which, so that a swapped or repeated one is seen.
fn batch(connection: usize, depth: usize, line: usize) -> Vec<u8> {
    let mut text = String::with_capacity(depth * line);
    for number in 0..depth {
        let start = text.len();
        let _ = write!(text, "connection {connection} line {number} ");
        while text.len() - start + 1 < line {
            text.push('x');
        }
        text.truncate(start + line - 1);
        text.push('\n');
    }
    text.into_bytes()
}
