//! The life of a connection as one table: what may still be written, and what the driver has to do next.
//!
//! ```text
//!           write_eof()             end sent
//!   Open ───────────────▶ Ending ─────────────▶ Ended
//!     │                     │                     │
//!     │ close()             │ close()             │ close()
//!     ▼                     ▼                     ▼
//!   Closing ──── flushed, end sent ────────▶ Lingering ──── peer ended, or time is up ────▶ Closed
//! ```
//!
//! A failure or `abort()` goes straight to `Closed` from anywhere.

use crate::error::{CloseError, DrainError, WriteError};
use crate::failure::Failure;

/// Where a connection stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Both directions are open.
    Open,
    /// `write_eof` was called; queued bytes still have to leave before the end.
    Ending,
    /// The end was sent. Reading goes on.
    Ended,
    /// `close` was called; queued bytes still have to leave before the end.
    Closing,
    /// The end was sent after `close`; the peer's last bytes are read and dropped so that ours are not lost to a reset.
    Lingering,
    /// Nothing more happens.
    Closed,
}

/// What the driver has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Nothing until something changes.
    Rest,
    /// Send what is queued.
    Flush,
    /// Tell the transport that nothing more will come (shut its write side down), then call
    /// [`Lifecycle::end_sent`].
    SendEnd,
    /// Read and drop what the peer still sends until it ends or the time for it is up, then call
    /// [`Lifecycle::lingered`].
    Linger,
    /// Close the transport: gracefully, or with a reset if the connection was aborted or failed.
    Close {
        /// Whether the peer has to see a reset instead of an end.
        reset: bool,
    },
}

/// The state machine of one connection's life.
#[derive(Debug)]
pub struct Lifecycle {
    phase: Phase,
    /// Why the life ended early, if it did. Boxed: most do not.
    cut: Option<Box<Cut>>,
    /// The peer was told the end inside the stream (by TLS); the transport's own end is still to come.
    only_announced: bool,
}

#[derive(Debug)]
enum Cut {
    Aborted,
    Failed(Failure),
    /// Failed, and nothing is on its way that an end could make look whole.
    Left(Failure),
    Deadline {
        unsent: usize,
    },
}

impl Cut {
    /// Whether the peer has to see a reset. One whose TLS failed gets an alert, which a reset could destroy.
    fn resets(&self) -> bool {
        match self {
            Self::Failed(failure) => failure.tls().is_none(),
            Self::Left(_) => false,
            Self::Aborted | Self::Deadline { .. } => true,
        }
    }
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self { phase: Phase::Open, cut: None, only_announced: false }
    }
}

impl Lifecycle {
    /// Where the connection stands.
    #[inline]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether `close` or `abort` was called or the transport failed.
    #[inline]
    pub fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing | Phase::Lingering | Phase::Closed)
    }

    /// Whether nothing more happens.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// The transport's failure, if it was one that ended the life.
    #[inline]
    pub fn failure(&self) -> Option<&Failure> {
        match self.cut.as_deref() {
            Some(Cut::Failed(failure) | Cut::Left(failure)) => Some(failure),
            _ => None,
        }
    }

    /// Whether this side aborted the connection.
    pub fn is_aborted(&self) -> bool {
        matches!(self.cut.as_deref(), Some(Cut::Aborted | Cut::Deadline { .. }))
    }

    /// May a message be queued?
    ///
    /// # Errors
    /// [`WriteError::Failed`] after a failure, [`WriteError::Closed`] after `close` or `abort`,
    /// [`WriteError::AfterEof`] after `write_eof`.
    #[inline]
    pub fn check_write(&self) -> Result<(), WriteError> {
        if self.phase == Phase::Open {
            return Ok(());
        }
        self.refuse_write()
    }

    #[cold]
    fn refuse_write(&self) -> Result<(), WriteError> {
        match (self.failure(), self.phase) {
            (Some(failure), _) => Err(WriteError::Failed(failure.clone())),
            (None, Phase::Open) => Ok(()),
            (None, Phase::Ending | Phase::Ended) => Err(WriteError::AfterEof),
            (None, Phase::Closing | Phase::Lingering | Phase::Closed) => Err(WriteError::Closed),
        }
    }

    /// May someone wait for the queue to empty?
    ///
    /// # Errors
    /// [`DrainError::Failed`] after a failure, [`DrainError::Closed`] once the connection is closed or aborted.
    pub fn check_drain(&self) -> Result<(), DrainError> {
        match self.failure() {
            Some(failure) => Err(DrainError::Failed(failure.clone())),
            None if self.is_closed() => Err(DrainError::Closed),
            None => Ok(()),
        }
    }

    /// How the closed life ended; `None` while it goes on.
    pub fn outcome(&self) -> Option<Result<(), CloseError>> {
        if !self.is_closed() {
            return None;
        }
        Some(match self.cut.as_deref() {
            None | Some(Cut::Aborted) => Ok(()),
            Some(Cut::Failed(failure) | Cut::Left(failure)) => Err(CloseError::Failed(failure.clone())),
            Some(Cut::Deadline { unsent }) => Err(CloseError::Deadline { unsent: *unsent }),
        })
    }

    /// Half-closes after what is queued. Calling it again is allowed and does nothing.
    ///
    /// # Errors
    /// As [`check_write`](Self::check_write), except that a second call is no error.
    pub fn write_eof(&mut self) -> Result<(), WriteError> {
        match self.check_write() {
            Ok(()) => self.phase = Phase::Ending,
            Err(WriteError::AfterEof) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Closes after what is queued. Calling it again is allowed and does nothing.
    pub fn close(&mut self) {
        match self.phase {
            Phase::Open | Phase::Ending => self.phase = Phase::Closing,
            Phase::Ended if self.only_announced => self.phase = Phase::Closing,
            Phase::Ended => self.phase = Phase::Lingering,
            Phase::Closing | Phase::Lingering | Phase::Closed => {}
        }
    }

    /// Ends at once, with a reset.
    pub fn abort(&mut self) {
        self.cut(Cut::Aborted);
    }

    /// The transport failed. The first cause stays.
    pub fn fail(&mut self, failure: Failure) {
        self.cut(Cut::Failed(failure));
    }

    /// This side gives up a peer that is silent: as a failure, but the peer sees an end. Only while nothing is queued for
    /// it, or the end would make what it got look whole.
    pub fn leave(&mut self, failure: Failure) {
        self.cut(Cut::Left(failure));
    }

    /// The time for closing is up with `unsent` bytes still queued.
    pub fn deadline(&mut self, unsent: usize) {
        self.cut(Cut::Deadline { unsent });
    }

    /// The end reached the transport.
    pub fn end_sent(&mut self) {
        match self.phase {
            Phase::Ending => self.phase = Phase::Ended,
            Phase::Closing => self.phase = Phase::Lingering,
            _ => {}
        }
    }

    /// After `write_eof`, the end was told inside the stream, by TLS: the transport stays open both ways until `close`.
    pub fn end_announced(&mut self) {
        if self.phase == Phase::Ending {
            self.phase = Phase::Ended;
            self.only_announced = true;
        }
    }

    /// Lingering is over.
    pub fn lingered(&mut self) {
        if self.phase == Phase::Lingering {
            self.phase = Phase::Closed;
        }
    }

    /// What to do next, given whether bytes are queued.
    #[inline]
    pub fn duty(&self, queued: bool) -> Duty {
        match self.phase {
            Phase::Closed => Duty::Close { reset: self.cut.as_deref().is_some_and(Cut::resets) },
            _ if queued => Duty::Flush,
            Phase::Open | Phase::Ended => Duty::Rest,
            Phase::Ending | Phase::Closing => Duty::SendEnd,
            Phase::Lingering => Duty::Linger,
        }
    }

    fn cut(&mut self, cause: Cut) {
        if self.phase != Phase::Closed {
            self.phase = Phase::Closed;
            self.cut = Some(Box::new(cause));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_sends_everything_then_the_end_then_lingers() {
        let mut life = Lifecycle::default();
        life.close();
        assert_eq!(life.duty(true), Duty::Flush);
        assert_eq!(life.duty(false), Duty::SendEnd);
        life.end_sent();
        assert_eq!(life.duty(false), Duty::Linger);
        assert_eq!(life.outcome(), None);
        life.lingered();
        assert_eq!(life.duty(false), Duty::Close { reset: false });
        assert_eq!(life.outcome(), Some(Ok(())));
    }

    #[test]
    fn a_half_closed_connection_does_not_send_a_second_end() {
        let mut life = Lifecycle::default();
        life.write_eof().unwrap();
        life.write_eof().unwrap();
        life.end_sent();
        assert_eq!(life.check_write(), Err(WriteError::AfterEof));
        assert_eq!(life.duty(false), Duty::Rest);
        life.close();
        assert_eq!(life.duty(false), Duty::Linger);
    }

    #[test]
    fn an_end_that_was_only_announced_is_sent_by_close() {
        let mut life = Lifecycle::default();
        life.write_eof().unwrap();
        life.end_announced();
        assert_eq!((life.phase(), life.duty(false)), (Phase::Ended, Duty::Rest));
        assert_eq!(life.check_write(), Err(WriteError::AfterEof));
        life.close();
        assert_eq!(life.duty(false), Duty::SendEnd);
        life.end_sent();
        assert_eq!(life.duty(false), Duty::Linger);
    }

    #[test]
    fn a_tls_failure_closes_without_a_reset_that_could_destroy_the_alert() {
        let mut life = Lifecycle::default();
        life.fail(crate::tls::TlsFault::BadRecord.failure("flipped"));
        assert_eq!(life.duty(true), Duty::Close { reset: false });
    }

    #[test]
    fn only_the_first_cause_counts() {
        let mut life = Lifecycle::default();
        let failure = Failure::from(std::io::Error::from_raw_os_error(32));
        life.fail(failure.clone());
        life.abort();
        assert_eq!(life.check_write(), Err(WriteError::Failed(failure.clone())));
        assert_eq!(life.outcome(), Some(Err(CloseError::Failed(failure))));
    }

    #[test]
    fn an_abort_is_no_failure_for_those_who_wait_for_the_close() {
        let mut life = Lifecycle::default();
        life.abort();
        assert_eq!(life.duty(true), Duty::Close { reset: true });
        assert_eq!(life.check_drain(), Err(DrainError::Closed));
        assert_eq!(life.outcome(), Some(Ok(())));
    }
}
