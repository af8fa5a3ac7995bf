//! The bulk load: pushes bytes through the server as fast as they fit and checks what returns.
//!
//! Checking every byte would make the load the slower side and hide the server, so that is done while
//! warming up; in the window the ends of each block are checked, which still finds a byte lost or doubled.

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;

use super::clients::watch;
use super::wire::Wire;
use super::{Plan, STALLED};
use crate::Result;

/// What is sent or received at a time.
const CHUNK: usize = 256 * 1024;
/// The bytes repeat after this many: a prime, so that no block size hides a lost or repeated block.
const PERIOD: usize = 65_521;
/// What [`Check::Ends`] looks at on each side of a block.
const END: usize = 64;

/// How much of what returns is compared with what was sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Check {
    /// Every byte.
    All,
    /// The first and last bytes of each block received.
    Ends,
}

struct Stream<W> {
    wire: W,
    to_send: u64,
    to_receive: u64,
    /// Most bytes sent and not back.
    inflight: u64,
    /// Where in the period the next byte sent, and the next received, stands.
    send_at: usize,
    receive_at: usize,
}

/// The connections of a bulk transfer.
pub(super) struct Streams<W> {
    epoll: OwnedFd,
    all: Vec<Stream<W>>,
    pattern: Vec<u8>,
    scratch: Vec<u8>,
}

impl<W: Wire> Streams<W> {
    /// Opens the plan's connections.
    pub(super) fn connect(plan: &Plan) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut all = Vec::new();
        for number in 0..plan.connections {
            let wire = W::connect(plan.port, number)?;
            watch(&epoll, wire.socket(), number)?;
            all.push(Stream {
                wire,
                to_send: 0,
                to_receive: 0,
                inflight: plan.inflight,
                send_at: 0,
                receive_at: 0,
            });
        }
        // A multiplicative hash: no byte of it repeats at a short distance.
        let byte = |at: usize| (at % PERIOD).wrapping_mul(0x9e37_79b9).to_le_bytes()[2];
        let pattern = (0..PERIOD + CHUNK).map(byte).collect();
        Ok(Self { epoll, all, pattern, scratch: vec![0; CHUNK] })
    }

    /// Sends `bytes` in all, shared evenly between the connections, and returns when all are back.
    pub(super) fn transfer(&mut self, bytes: u64, check: Check) -> Result<u64> {
        let share = bytes / self.all.len() as u64;
        for stream in &mut self.all {
            (stream.to_send, stream.to_receive) = (share, share);
        }
        let mut events = Vec::with_capacity(self.all.len());
        while self.all.iter().any(|stream| stream.to_receive > 0) {
            let mut moved = false;
            for stream in &mut self.all {
                moved |= stream.push(&self.pattern)?;
                moved |= stream.pull(&self.pattern, &mut self.scratch, check)?;
            }
            if !moved {
                // Every socket has just said that it is full or empty, so the next change is an event.
                events.clear();
                epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&Timespec::try_from(STALLED)?))?;
                if events.is_empty() {
                    return Err("the server owes bytes and is silent".into());
                }
            }
        }
        Ok(share * self.all.len() as u64)
    }
}

impl<W: Wire> Stream<W> {
    fn push(&mut self, pattern: &[u8]) -> Result<bool> {
        let room = (self.to_send + self.inflight).saturating_sub(self.to_receive);
        let want = usize::try_from(self.to_send.min(room))?.min(CHUNK);
        if want == 0 && !self.wire.holds_back() {
            return Ok(false);
        }
        let n = self.wire.send(&pattern[self.send_at..self.send_at + want])?;
        self.to_send -= n as u64;
        self.send_at = (self.send_at + n) % PERIOD;
        Ok(n > 0)
    }

    fn pull(&mut self, pattern: &[u8], scratch: &mut [u8], check: Check) -> Result<bool> {
        let (to_receive, at) = (&mut self.to_receive, &mut self.receive_at);
        let came = self.wire.receive(scratch, |got| {
            let (n, expected) = (got.len(), &pattern[*at..*at + got.len()]);
            let ends = n.min(END);
            let right = match check {
                Check::All => got == expected,
                Check::Ends => got[..ends] == expected[..ends] && got[n - ends..] == expected[n - ends..],
            };
            if !right {
                return Err("the bytes that came back are not the bytes that were sent".into());
            }
            *to_receive = to_receive.checked_sub(n as u64).ok_or("more came back than was sent")?;
            *at = (*at + n) % PERIOD;
            Ok(())
        })?;
        Ok(came.is_some())
    }
}
