//! One served connection: its task polls the handler and, when the handler has had its turn, the connection's driver.
//!
//! So what a handler writes leaves when it gives control back, without a wake-up or a task of its own.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use millstream_core::tls::TlsFault;
use millstream_core::{ErrorClass, Failure};

use crate::address::Address;
use crate::connection::{Connection, Drive};
use crate::handler::{BoxError, HandlerWork};
use crate::proxy::{AwaitHeader, NotAdmitted, hand_over};
use crate::reader::StreamReader;
use crate::report::{Report, ServerFailure, panic_text, tell};
use crate::sync;
use crate::tls::{Handshake, Secure};
use crate::trace::{self, Watched};
use crate::turn::Turn;
use crate::writer::StreamWriter;

/// Calls the user's handler.
pub(crate) type Handler = dyn Fn(StreamReader, StreamWriter) -> HandlerWork + Send + Sync;

/// The task of one served connection. Completes when the handler has ended and the connection is closed.
pub(crate) struct Serve<Guard> {
    /// Before the drive: when the task is dropped, the handler's halves go first.
    handler: Stage,
    drive: Option<Drive>,
    connection: sync::Arc<Connection>,
    /// After the drive, so that it sees the connection closed.
    watched: Watched,
    report: Report,
    /// Tells the server that this connection is gone.
    guard: Guard,
}

/// What a connection has of its server, given back when dropped.
pub(crate) trait Place {
    /// Counts it for the client that its PROXY header names.
    ///
    /// # Errors
    /// What to send to a client that has as many connections as it may have.
    fn admit_client(&mut self, client: &Address) -> Result<(), Bytes>;

    /// Looks after a refused connection until its peer has read why.
    fn see_out(&self, drive: Drive);
}

/// In the models there is no server.
#[cfg(all(test, millstream_loom))]
impl Place for () {
    fn admit_client(&mut self, _client: &Address) -> Result<(), Bytes> {
        Ok(())
    }

    fn see_out(&self, _drive: Drive) {}
}

/// How far the handler is.
enum Stage {
    AwaitingHeader(Box<AwaitHeader>, Option<Arc<Secure>>, Option<Call>),
    Handshaking(Box<Handshake>, Option<Call>),
    Called(Option<Call>),
    Working(HandlerWork),
    Ended,
}

/// What has to be done on a connection before its handler is called.
pub(crate) enum Before {
    Nothing,
    Handshake(Handshake),
    /// A PROXY header, and a handshake if the server has TLS.
    Header(AwaitHeader, Option<Arc<Secure>>),
}

/// How a stage ended the handler's part.
enum Outcome {
    Done,
    Failed(BoxError),
    NoHandshake(Failure),
    NotAdmitted(NotAdmitted),
    /// Its client has as many connections as it may have, and is to be told so.
    Refused(Bytes),
}

/// A handler and what it is to be called with.
type Call = (Arc<Handler>, StreamReader, StreamWriter);

impl<Guard: Place> Serve<Guard> {
    pub(crate) fn new(
        handler: Arc<Handler>,
        halves: (StreamReader, StreamWriter),
        before: Before,
        connection: sync::Arc<Connection>,
        drive: Drive,
        report: Report,
        guard: Guard,
    ) -> Self {
        let call = Some((handler, halves.0, halves.1));
        let handler = match before {
            Before::Header(awaited, secure) => Stage::AwaitingHeader(Box::new(awaited), secure, call),
            Before::Handshake(handshake) => Stage::Handshaking(Box::new(handshake), call),
            Before::Nothing => Stage::Called(call),
        };
        let watched = Watched::accepted(&connection);
        Self { handler, drive: Some(drive), connection, watched, report, guard }
    }

    /// One turn of the handler.
    fn poll_handler(&mut self, cx: &mut Context<'_>) {
        let _turn = Turn::begin(&self.connection);
        let result = self.watched.in_scope(|| {
            catch_unwind(AssertUnwindSafe(|| {
                self.handler.poll(cx, &self.connection, &self.watched, &mut self.guard)
            }))
        });
        // A panic leaves the stage where it was: a handler's own call is behind this one.
        let handshakes = matches!(self.handler, Stage::Handshaking(..) | Stage::AwaitingHeader(..));
        let failure = match result {
            Ok(Poll::Pending) => return,
            Ok(Poll::Ready(Outcome::Done)) => None,
            Ok(Poll::Ready(Outcome::Failed(error))) => {
                let failure = ServerFailure::error(self.connection.peer_address(), error);
                Some(failure.after_deadline(self.connection.passed_deadline()))
            }
            Ok(Poll::Ready(Outcome::NoHandshake(failure))) => {
                // That this server closed or aborted it is no news to it; that it could not do its part is.
                let is_failed =
                    failure.class() != ErrorClass::ClosedByUs || failure.tls() == Some(TlsFault::Local);
                is_failed.then(|| ServerFailure::handshake(self.connection.peer_address(), failure))
            }
            Ok(Poll::Ready(Outcome::NotAdmitted(refusal))) => {
                if refusal.is_some() {
                    // Nothing was written that a reset could destroy, and who was refused shall hold nothing.
                    self.connection.abort();
                }
                let peer = self.connection.peer_address();
                refusal.map(|refusal| {
                    ServerFailure::proxy_header_refused(peer, refusal)
                        .after_deadline(self.connection.passed_deadline())
                })
            }
            Ok(Poll::Ready(Outcome::Refused(farewell))) => return self.refuse(&farewell),
            Err(payload) if handshakes => {
                let text = format!("what the TLS configuration brought panicked: {}", panic_text(&*payload));
                let failure = TlsFault::Local.failure(text);
                Some(ServerFailure::handshake(self.connection.peer_address(), failure))
            }
            Err(payload) => Some(ServerFailure::panic(self.connection.peer_address(), &*payload)),
        };
        self.drop_handler();
        if let Some(failure) = failure {
            // The halves may live on in tasks that the handler spawned.
            self.connection.close();
            self.watched.in_scope(|| tell(&self.report, failure));
        }
    }

    /// Says farewell, and leaves the end to the server: the place is given back now.
    fn refuse(&mut self, farewell: &[u8]) {
        if let Stage::AwaitingHeader(_, _, Some((_, _, writer))) = &self.handler {
            let _ = writer.set_hard_cap(None);
            let _ = writer.write(farewell);
        }
        self.connection.close();
        self.watched.in_scope(trace::refused);
        self.drop_handler();
        if let Some(drive) = self.drive.take() {
            self.guard.see_out(drive);
        }
    }

    /// Dropping what the handler owned may panic as well; that was reported or is not worth a second report.
    fn drop_handler(&mut self) {
        let handler = std::mem::replace(&mut self.handler, Stage::Ended);
        let _: Result<(), Box<dyn Any + Send>> = catch_unwind(AssertUnwindSafe(|| drop(handler)));
        self.connection.handler_ended();
    }
}

impl<Guard: Place + Unpin> Future for Serve<Guard> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.connection.handler_cancelled() {
            this.drop_handler();
        }
        if !matches!(this.handler, Stage::Ended) {
            this.poll_handler(cx);
        }
        if let Some(drive) = &mut this.drive {
            if !this.connection.is_driver_due() || Pin::new(drive).poll(cx).is_pending() {
                return Poll::Pending;
            }
            this.drive = None;
        }
        if !matches!(this.handler, Stage::Ended) && this.connection.poll_cancelled(cx).is_ready() {
            this.drop_handler();
        }
        if matches!(this.handler, Stage::Ended) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Stage {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        connection: &sync::Arc<Connection>,
        watched: &Watched,
        place: &mut impl Place,
    ) -> Poll<Outcome> {
        if let Self::AwaitingHeader(awaited, secure, call) = self {
            let Some((_, reader, _)) = call else { return Poll::Ready(Outcome::Done) };
            if let Err(refusal) = ready!(awaited.poll(cx, &mut reader.buffer)) {
                return Poll::Ready(Outcome::NotAdmitted(refusal));
            }
            watched.header_over();
            let client = connection.proxied().and_then(|proxied| proxied.peer.as_ref());
            if let Some(Err(farewell)) = client.map(|client| place.admit_client(client)) {
                return Poll::Ready(Outcome::Refused(farewell));
            }
            *self = match secure.take() {
                None => {
                    connection.set_open();
                    Self::Called(call.take())
                }
                Some(secure) => {
                    hand_over(&mut reader.buffer);
                    match secure.handshake(connection, &mut reader.buffer) {
                        Ok(handshake) => Self::Handshaking(Box::new(handshake), call.take()),
                        Err(failure) => return Poll::Ready(Outcome::NoHandshake(failure)),
                    }
                }
            };
        }
        if let Self::Handshaking(handshake, call) = self {
            let Some((_, reader, _)) = call else { return Poll::Ready(Outcome::Done) };
            if let Err(failure) = ready!(handshake.poll(cx, &mut reader.buffer)) {
                return Poll::Ready(Outcome::NoHandshake(failure));
            }
            reader.connection.set_open();
            trace::handshake_over();
            *self = Self::Called(call.take());
        }
        if let Self::Called(call) = self {
            let Some((handler, reader, writer)) = call.take() else { return Poll::Ready(Outcome::Done) };
            *self = Self::Working(handler(reader, writer));
        }
        match self {
            Self::Working(work) => {
                work.0.as_mut().poll(cx).map(|error| error.map_or(Outcome::Done, Outcome::Failed))
            }
            _ => Poll::Ready(Outcome::Done),
        }
    }
}

impl<Guard> fmt::Debug for Serve<Guard> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve").field("connection", &self.connection).finish_non_exhaustive()
    }
}
