//! One direction of a relay: reads one side and writes the other, as fast as the slower of them.

use std::fmt;
use std::task::{Context, Poll};

use millstream_core::{Answer, DrainError, Request, WriteError};

use super::outcome::RelayEnd;
use super::side::Side;
use crate::waiters::Ticket;

#[derive(Default)]
pub(super) struct Direction {
    phase: Phase,
    /// Its places among those who wait for the receiver's low mark and for its empty queue.
    drain: Ticket,
    flush: Ticket,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Copying,
    /// All that came is queued, the end included if there was one; it has yet to leave.
    Flushing {
        source_failed: bool,
    },
    Over {
        source_failed: bool,
    },
}

impl Direction {
    /// Moves what can be moved now. `failed` hears of a failure, which stops this direction.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Side<'_>,
        to: &mut Side<'_>,
        moved: impl Fn(usize),
        failed: &mut impl FnMut(RelayEnd),
    ) {
        let result = match self.phase {
            Phase::Copying => self.poll_copy(cx, from, to, moved, failed),
            Phase::Flushing { .. } => self.poll_flush(cx, to),
            Phase::Over { .. } => return,
        };
        if let Poll::Ready(result) = result {
            if let Err(error) = result {
                failed(RelayEnd::WriteFailed { side: to.name, error });
            }
            self.stop(to);
        }
    }

    /// Ready when there is nothing more to do for this direction.
    fn poll_copy(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Side<'_>,
        to: &mut Side<'_>,
        moved: impl Fn(usize),
        failed: &mut impl FnMut(RelayEnd),
    ) -> Poll<Result<(), WriteError>> {
        loop {
            match to.writer.connection.poll_drain(cx, &mut self.drain) {
                Poll::Ready(result) => result.map_err(as_write_error)?,
                Poll::Pending => return Poll::Pending,
            }
            match from.reader.poll_answer(cx, &Request::Some { max: usize::MAX }) {
                Poll::Pending => {
                    from.reader_waits();
                    return Poll::Pending;
                }
                Poll::Ready(Answer::Ready { len }) => {
                    let n = to.room_for(len);
                    to.write(&from.reader.buffered()[..n])?;
                    from.reader.buffer.consume(n);
                    moved(n);
                }
                Poll::Ready(Answer::Failed(failure)) => {
                    failed(RelayEnd::ReadFailed { side: from.name, error: failure.into() });
                    self.phase = Phase::Flushing { source_failed: true };
                    return self.poll_flush(cx, to);
                }
                Poll::Ready(_) => {
                    to.writer.connection.shut_down()?;
                    self.phase = Phase::Flushing { source_failed: false };
                    return self.poll_flush(cx, to);
                }
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, to: &Side<'_>) -> Poll<Result<(), WriteError>> {
        to.writer.connection.poll_flushed(cx, &mut self.flush).map_err(as_write_error)
    }

    /// Does no more, and waits for nothing on the side that it wrote to.
    pub(super) fn stop(&mut self, to: &mut Side<'_>) {
        to.writer.connection.forget_drainer(&mut self.drain);
        to.writer.connection.forget_flusher(&mut self.flush);
        self.phase = Phase::Over { source_failed: self.lost_its_source() };
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over { .. })
    }

    /// Whether the side that it reads has failed, so that nothing need be written to it any more.
    pub(super) fn lost_its_source(&self) -> bool {
        matches!(self.phase, Phase::Flushing { source_failed: true } | Phase::Over { source_failed: true })
    }
}

impl fmt::Debug for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.phase)
    }
}

fn as_write_error(error: DrainError) -> WriteError {
    match error {
        DrainError::Failed(failure) => WriteError::Failed(failure),
        _ => WriteError::Closed,
    }
}
