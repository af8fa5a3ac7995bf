//! One handshake under way: what the connection has to do for it, its deadline, and its place among the others.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use millstream_core::tls::{TlsEngine, TlsFault, TlsPipe};
use millstream_core::{DrainError, Failure, ReadBuffer};
use tokio::time::Sleep;

use super::Manners;
use super::crowd::Place;
use crate::connection::Connection;
use crate::sync::Arc;
use crate::waiters::Ticket;

/// A handshake. If it fails or is dropped before its end, its connection is closed with it.
#[derive(Debug)]
pub(crate) struct Handshake {
    connection: Arc<Connection>,
    /// Until what was queued before has left.
    pipe: Option<TlsPipe>,
    flushed: Ticket,
    /// What had arrived before: ciphertext.
    early: Bytes,
    deadline: Pin<Box<Sleep>>,
    timeout: Duration,
    place: Option<Place>,
    over: bool,
}

impl Handshake {
    /// Begins as soon as everything that is queued has left. What is in the reader's buffer is the peer's part of the
    /// handshake already, whatever becomes of it: it never gets back to the reader.
    pub(crate) fn new(
        connection: &Arc<Connection>,
        buffer: &mut ReadBuffer,
        engine: impl TlsEngine + 'static,
        manners: Manners,
        place: Option<Place>,
    ) -> Self {
        Self {
            connection: Arc::clone(connection),
            pipe: Some(TlsPipe::new(Box::new(engine), manners.truncation_is_end)),
            flushed: Ticket::default(),
            early: buffer.take(buffer.len()),
            deadline: Box::pin(tokio::time::sleep(manners.timeout)),
            timeout: manners.timeout,
            place,
            over: false,
        }
    }

    /// Goes on until the handshake is over. `buffer` is that of the connection's reader.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuffer,
    ) -> Poll<Result<(), Failure>> {
        let result = match self.poll_steps(cx, buffer) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(ready!(self.poll_given_up(cx))),
        };
        self.over = true;
        if let Err(failure) = &result {
            self.connection.end_handshake(failure.clone());
            buffer.consume(buffer.len());
            buffer.fail(failure.clone());
        }
        Poll::Ready(result)
    }

    /// As a future.
    pub(crate) async fn run(mut self, buffer: &mut ReadBuffer) -> Result<(), Failure> {
        poll_fn(|cx| self.poll(cx, buffer)).await
    }

    fn poll_steps(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuffer) -> Poll<Result<(), Failure>> {
        while self.pipe.is_some() {
            match ready!(self.connection.poll_flushed(cx, &mut self.flushed)) {
                Ok(()) => {}
                Err(DrainError::Failed(failure)) => return Poll::Ready(Err(failure)),
                Err(_) => return Poll::Ready(Err(closed_by_us())),
            }
            if self.connection.begin_tls(&mut self.pipe) {
                self.connection.open(&std::mem::take(&mut self.early), buffer);
            }
        }
        self.connection.poll_handshake(cx, buffer)
    }

    /// Why this handshake must not go on, if so.
    fn poll_given_up(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        if let Some(most) = self.place.as_ref().and_then(|place| place.pushed_out_of(cx)) {
            let text =
                format!("dropped for a newer one: {most} handshakes ran at once, and this was the oldest");
            return Poll::Ready(TlsFault::Overloaded.failure(text));
        }
        ready!(self.deadline.as_mut().poll(cx));
        let text = format!("the TLS handshake was not over within {:?}", self.timeout);
        Poll::Ready(TlsFault::TimedOut.failure(text))
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.connection.forget_flusher(&mut self.flushed);
        if !self.over {
            let text = "this side gave up on the TLS handshake before it was over";
            self.connection.end_handshake(TlsFault::Cancelled.failure(text));
        }
    }
}

/// This side has closed the connection meanwhile.
fn closed_by_us() -> Failure {
    TlsFault::Cancelled.failure("this side closed the connection before the TLS handshake was over")
}
