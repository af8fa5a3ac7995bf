//! The floor for messages behind their length: hand-written epoll, one `send` for all that came whole together.

use std::io;

use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::reactor::{self, Connection, Next, receive, send};
use super::{READ_BUFFER, counted_len};

/// Listens, announces its port and serves until the process is ended.
pub(super) fn serve() -> io::Result<()> {
    reactor::serve::<CountedEcho>(&super::listen()?, 0)
}

/// A connection whose whole messages go back straight from the buffer they were read into.
struct CountedEcho {
    socket: OwnedFd,
    /// As long as the longest message yet; what is in it is `..filled`.
    buffer: Vec<u8>,
    filled: usize,
    /// Whole messages end here; while some of them are unsent, nothing is read.
    whole: usize,
    /// How much of them has left.
    sent: usize,
}

/// Full reads in one turn before the others come first: 256 KiB.
const READS_A_TURN: usize = 4;

impl Connection for CountedEcho {
    fn new(socket: OwnedFd) -> Self {
        Self { socket, buffer: vec![0; READ_BUFFER], filled: 0, whole: 0, sent: 0 }
    }

    fn turn(&mut self, _scratch: &mut [u8], closing: bool) -> Result<Next, Errno> {
        if !self.send_whole()? {
            return Ok(Next::Wait);
        }
        for _ in 0..READS_A_TURN {
            let room = self.buffer.len() - self.filled;
            let Some(n) = receive(&self.socket, &mut self.buffer[self.filled..])? else {
                return Ok(Next::Wait);
            };
            if n == 0 {
                return Ok(Next::Close);
            }
            self.filled += n;
            if !self.find_whole() {
                return Ok(Next::Close);
            }
            if !self.send_whole()? || (n < room && !closing) {
                return Ok(Next::Wait);
            }
        }
        Ok(Next::Again)
    }
}

impl CountedEcho {
    /// Finds the end of the last whole message and makes room for the one after it; false if that is too long.
    fn find_whole(&mut self) -> bool {
        while let Some(length) = self.buffer[self.whole..self.filled].first_chunk::<4>() {
            let Ok(len) = counted_len(*length) else { return false };
            if len > self.filled - self.whole {
                if len > self.buffer.len() {
                    self.buffer.resize(len, 0);
                }
                break;
            }
            self.whole += len;
        }
        true
    }

    /// Sends the whole messages and moves the rest to the front. False when there is no room for all of them.
    fn send_whole(&mut self) -> Result<bool, Errno> {
        if self.whole == 0 {
            return Ok(true);
        }
        self.sent += send(&self.socket, &self.buffer[self.sent..self.whole])?;
        if self.sent < self.whole {
            return Ok(false);
        }
        self.buffer.copy_within(self.whole..self.filled, 0);
        self.filled -= self.whole;
        (self.whole, self.sent) = (0, 0);
        Ok(true)
    }
}
