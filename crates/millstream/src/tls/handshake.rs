//! One handshake under way: what the connection has to do for it, its deadline, and its place among the others.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use millstream_core::tls::{TlsEngine, TlsFault, TlsPipe};
use millstream_core::{Failure, ReadBuffer};
use tokio::time::Sleep;

use super::Manners;
use super::crowd::Place;
use crate::connection::Connection;
use crate::sync::Arc;

/// A handshake. If it fails or is dropped before its end, its connection is closed with it.
#[derive(Debug)]
pub(crate) struct Handshake {
    connection: Arc<Connection>,
    deadline: Pin<Box<Sleep>>,
    timeout: Duration,
    place: Option<Place>,
    over: bool,
}

impl Handshake {
    /// Begins behind everything that is queued. What is in the reader's buffer is the peer's part of the handshake already,
    /// whatever becomes of it: it never gets back to the reader.
    pub(crate) fn new(
        connection: &Arc<Connection>,
        buffer: &mut ReadBuffer,
        engine: impl TlsEngine + 'static,
        manners: Manners,
        place: Option<Place>,
    ) -> Self {
        let early = buffer.take(buffer.len());
        connection.begin_tls(TlsPipe::new(Box::new(engine), manners.truncation_is_end));
        connection.open(&early, buffer);
        Self {
            connection: Arc::clone(connection),
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
        let result = match self.connection.poll_handshake(cx, buffer) {
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
        if !self.over {
            let text = "this side gave up on the TLS handshake before it was over";
            self.connection.end_handshake(TlsFault::Cancelled.failure(text));
        }
    }
}
