//! What is to be done for a connection right now, derived from its state and from nothing else.

use millstream_core::Duty;

use super::{ReaderHalf, State};

/// The next thing to do. Equal tasks are the same work: a driver that waits on one need not be called for it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Rest,
    /// Send what is queued; while closing, only until the deadline.
    Flush {
        closing: bool,
    },
    /// Tell the peer that nothing more comes.
    SendEnd {
        closing: bool,
    },
    /// All is sent, but a reader that outlived its writer, or that has yet to learn of a failure, may read on.
    WaitForReader,
    /// Read and drop what the peer still sends.
    Linger,
    Close {
        reset: bool,
    },
    Done,
}

impl Task {
    /// Whether someone has to work on it, or wait for its time.
    pub(super) fn needs_driver(self) -> bool {
        !matches!(self, Self::Rest | Self::WaitForReader)
    }
}

impl State {
    /// Whether there is anything that the transport could be given now.
    #[inline]
    pub(super) fn has_output(&self) -> bool {
        match &self.tls {
            None => !self.queue.is_empty(),
            Some(tls) => {
                let may_leave = self.plain_left > 0 || !tls.is_handshaking();
                tls.wants_send() || (may_leave && !self.queue.is_empty())
            }
        }
    }

    pub(super) fn task(&self) -> Task {
        let reading = self.reader == ReaderHalf::Reading;
        match self.life.duty(self.has_output()) {
            Duty::Rest => Task::Rest,
            Duty::Flush => Task::Flush { closing: self.life.is_closing() },
            // An end that was written during the handshake comes after it.
            Duty::SendEnd if self.is_handshaking() && !self.life.is_closing() => Task::Rest,
            Duty::SendEnd => Task::SendEnd { closing: self.life.is_closing() },
            Duty::Linger if self.reader_keeps && reading => Task::WaitForReader,
            Duty::Linger => Task::Linger,
            Duty::Close { .. } if self.transport_closed => Task::Done,
            Duty::Close { .. } if self.delivers() => Task::WaitForReader,
            Duty::Close { reset } => Task::Close { reset },
        }
    }
}
