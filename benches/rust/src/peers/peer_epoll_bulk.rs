//! The floor for bulk: hand-written epoll, one 64 KiB buffer a connection, `recv` then `send` all of it.

use std::io;

use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::READ_BUFFER;
use super::reactor::{self, Connection, Next, receive, send};

/// Listens, announces its port and serves until the process is ended.
pub(super) fn serve() -> io::Result<()> {
    reactor::serve::<BlockEcho>(&super::listen()?, 0)
}

/// A connection whose bytes go back block by block; nothing is read before the last block has left.
struct BlockEcho {
    socket: OwnedFd,
    block: Box<[u8]>,
    /// What of `block` is still to be sent.
    from: usize,
    to: usize,
    /// The last read did not fill the block, so the socket was empty then.
    drained: bool,
}

/// Blocks in one turn before the others come first: 256 KiB.
const BLOCKS_A_TURN: usize = 4;

impl Connection for BlockEcho {
    fn new(socket: OwnedFd) -> Self {
        Self { socket, block: vec![0; READ_BUFFER].into(), from: 0, to: 0, drained: false }
    }

    fn turn(&mut self, _scratch: &mut [u8], closing: bool) -> Result<Next, Errno> {
        // This turn has an event of its own: the socket may hold bytes again.
        self.drained = false;
        for _ in 0..BLOCKS_A_TURN {
            if self.from == self.to {
                if self.drained && !closing {
                    return Ok(Next::Wait);
                }
                let Some(n) = receive(&self.socket, &mut self.block)? else { return Ok(Next::Wait) };
                if n == 0 {
                    return Ok(Next::Close);
                }
                (self.from, self.to, self.drained) = (0, n, n < self.block.len());
            }
            self.from += send(&self.socket, &self.block[self.from..self.to])?;
            if self.from < self.to {
                return Ok(Next::Wait);
            }
        }
        Ok(Next::Again)
    }
}
