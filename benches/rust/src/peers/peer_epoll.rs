//! The floor for lines: hand-written epoll, one `recv` and one `send` for all lines that came together.

use std::io;

use memchr::memchr_iter;
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::READ_BUFFER;
use super::reactor::{self, Connection, Next, receive, send};

/// Listens, announces its port and serves until the process is ended.
pub(super) fn serve() -> io::Result<()> {
    // Room for the longest unfinished line and one full read after it.
    reactor::serve::<LineEcho>(&super::listen()?, 2 * READ_BUFFER)
}

/// A connection whose complete lines go back straight from the buffer they were read into.
struct LineEcho {
    socket: OwnedFd,
    /// The beginning of a line whose end has not come; shorter than [`READ_BUFFER`].
    partial: Vec<u8>,
    /// Answers the socket had no room for. While there are any, nothing is read.
    unsent: Vec<u8>,
    /// How much of `unsent` has left since.
    sent: usize,
    /// Complete lines seen.
    lines: u64,
}

/// Full reads in one turn before the others come first: 256 KiB.
const READS_A_TURN: usize = 4;

impl Connection for LineEcho {
    fn new(socket: OwnedFd) -> Self {
        Self { socket, partial: vec![], unsent: vec![], sent: 0, lines: 0 }
    }

    fn turn(&mut self, scratch: &mut [u8], closing: bool) -> Result<Next, Errno> {
        if !self.unsent.is_empty() && !self.send_rest()? {
            return Ok(Next::Wait);
        }
        for _ in 0..READS_A_TURN {
            let kept = self.partial.len();
            scratch[..kept].copy_from_slice(&self.partial);
            let Some(n) = receive(&self.socket, &mut scratch[kept..kept + READ_BUFFER])? else {
                return Ok(Next::Wait);
            };
            if n == 0 {
                // Like `read_until`: what is left without its newline is the last line.
                let _ = send(&self.socket, &self.partial)?;
                return Ok(Next::Close);
            }
            if !self.answer(&scratch[..kept + n], kept)? {
                return Ok(Next::Wait);
            }
            if self.partial.len() >= READ_BUFFER {
                return Ok(Next::Close);
            }
            if n < READ_BUFFER && !closing {
                // Less than asked for: the socket is empty, and the next byte is an event.
                return Ok(Next::Wait);
            }
        }
        Ok(Next::Again)
    }
}

impl LineEcho {
    /// Sends back the complete lines of `bytes`, of which those from `fresh` on have not been looked at,
    /// and keeps the rest. False when the socket has no more room.
    fn answer(&mut self, bytes: &[u8], fresh: usize) -> Result<bool, Errno> {
        let mut end = 0;
        for newline in memchr_iter(b'\n', &bytes[fresh..]) {
            self.lines += 1;
            end = fresh + newline + 1;
        }
        let (lines, rest) = bytes.split_at(end);
        self.partial.clear();
        self.partial.extend_from_slice(rest);
        if lines.is_empty() {
            return Ok(true);
        }
        let sent = send(&self.socket, lines)?;
        self.unsent.extend_from_slice(&lines[sent..]);
        Ok(self.unsent.is_empty())
    }

    /// Sends what an earlier turn could not. False when there is still no room for all of it.
    fn send_rest(&mut self) -> Result<bool, Errno> {
        self.sent += send(&self.socket, &self.unsent[self.sent..])?;
        let done = self.sent == self.unsent.len();
        if done {
            self.unsent.clear();
            self.sent = 0;
        }
        Ok(done)
    }
}
