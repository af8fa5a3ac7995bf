//! One connection whose header has not come: what a server does before TLS and before the handler.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use millstream_core::proxy::{ProxyParse, parse_proxy_header};
use millstream_core::{ErrorClass, ReadBuffer};
use tokio::time::Sleep;

use super::info::Proxied;
use super::protocol::ProxyProtocol;
use super::refusal::ProxyRefusal;
use crate::connection::Connection;
use crate::sync::Arc;

/// Waits for a header in the reader's own buffer, so that what comes behind it is where the next stage looks for it.
#[derive(Debug)]
pub(crate) struct AwaitHeader {
    connection: Arc<Connection>,
    required: bool,
    deadline: Pin<Box<Sleep>>,
    timeout: Duration,
}

/// Why a handler is not called. `None` if this side closed the connection meanwhile, which is no news to it.
pub(crate) type NotAdmitted = Option<ProxyRefusal>;

impl AwaitHeader {
    pub(crate) fn new(connection: &Arc<Connection>, protocol: &ProxyProtocol) -> Self {
        Self {
            connection: Arc::clone(connection),
            required: protocol.is_required(),
            deadline: Box::pin(tokio::time::sleep(protocol.timeout)),
            timeout: protocol.timeout,
        }
    }

    /// Goes on until the header is there, or it is known that none will come. Receives no more once it is.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuffer,
    ) -> Poll<Result<(), NotAdmitted>> {
        loop {
            // Decided by the first bytes that can decide, and of no more than a header's limit: this ends.
            match parse_proxy_header(buffer.unread()) {
                Ok(ProxyParse::Header { header, len }) => {
                    buffer.consume(len);
                    self.connection.set_proxied(Proxied::new(header));
                    return Poll::Ready(Ok(()));
                }
                Ok(ProxyParse::NeedMore { .. }) => {}
                Ok(_) if self.required => return refuse(ProxyRefusal::Missing),
                Ok(_) => return Poll::Ready(Ok(())),
                Err(error) => return refuse(error.into()),
            }
            let received = buffer.len();
            if buffer.is_ended() {
                return Poll::Ready(self.ended(received, buffer));
            }
            if self.connection.poll_fill(cx, buffer, 0).is_pending() {
                ready!(self.deadline.as_mut().poll(cx));
                return refuse(ProxyRefusal::TimedOut { timeout: self.timeout, received });
            }
        }
    }

    /// The stream has ended where a header may still have come.
    fn ended(&self, received: usize, buffer: &ReadBuffer) -> Result<(), NotAdmitted> {
        match buffer.failure() {
            Some(failure) if failure.class() == ErrorClass::ClosedByUs => Err(None),
            None if self.connection.is_closing() => Err(None),
            // Without a byte it has no header, and its handler is to see how it ended.
            failure
                if !self.required
                    && received == 0
                    && failure.is_none_or(|failure| failure.deadline().is_none()) =>
            {
                Ok(())
            }
            Some(failure) => Err(Some(ProxyRefusal::Failed { received, failure: failure.clone() })),
            None => Err(Some(ProxyRefusal::Ended { received })),
        }
    }
}

/// TLS follows. It receives into a buffer of the thread's, so the reader's need not keep the room of a whole receive: what came
/// behind the header moves into one of its own size.
pub(crate) fn hand_over(buffer: &mut ReadBuffer) {
    if buffer.is_ended() {
        return;
    }
    if let Ok(mut fitting) = ReadBuffer::new(buffer.limit()) {
        fitting.feed(buffer.unread());
        *buffer = fitting;
    }
}

fn refuse(refusal: ProxyRefusal) -> Poll<Result<(), NotAdmitted>> {
    Poll::Ready(Err(Some(refusal)))
}
