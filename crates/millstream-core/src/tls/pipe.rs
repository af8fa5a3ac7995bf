//! The TLS pipe of one connection: what may pass when, what an end means, and how much is sealed at once.

use std::io::{self, IoSlice};

use super::engine::{TlsEngine, TlsInfo, TlsVersion};
use super::fault::TlsFault;
use super::record_edge::RecordEdge;
use super::watch::HandshakeWatch;
use crate::failure::{ErrorClass, Failure};
use crate::read_buffer::ReadBuffer;
use crate::write_queue::WriteQueue;

/// A connection's TLS. The driver feeds it the ciphertext that arrives and sends the ciphertext that it seals.
///
/// # The contract a driver keeps
///
/// 1. Ciphertext goes to [`receive`](Self::receive) until all of it is taken; bytes that arrived before the pipe was made
///    are ciphertext too.
/// 2. Whenever [`wants_send`](Self::wants_send), it calls [`send`](Self::send); only when nothing waits any more does it
///    [`seal`](Self::seal) more. So at most [`SEAL_LEN`] bytes are ciphertext that has not left.
/// 3. The transport's end goes to [`end`](Self::end), which says whether it is one.
/// 4. A failure is final. The driver tries to send what waits (an alert for the peer), once, and closes.
#[derive(Debug)]
pub struct TlsPipe {
    engine: Box<dyn TlsEngine>,
    /// Until the handshake is over.
    watch: Option<Box<HandshakeWatch>>,
    /// Of what was received.
    edge: RecordEdge,
    close_notify_queued: bool,
    /// After a failure nothing is sealed any more.
    failed: bool,
    /// Whether an end without close_notify is taken for one.
    truncation_is_end: bool,
}

impl TlsPipe {
    /// A pipe whose handshake is to begin. With `truncation_is_end`, a peer may end the connection without a close_notify
    /// (which lets anyone on the path cut the stream unnoticed).
    pub fn new(engine: Box<dyn TlsEngine>, truncation_is_end: bool) -> Self {
        Self {
            engine,
            watch: Some(Box::default()),
            edge: RecordEdge::default(),
            close_notify_queued: false,
            failed: false,
            truncation_is_end,
        }
    }

    /// Whether the handshake goes on: nothing but its own messages passes.
    #[inline]
    pub fn is_handshaking(&self) -> bool {
        self.watch.is_some()
    }

    /// Takes a first part of the ciphertext and appends what it decrypts to. Returns how much was taken: less than all
    /// means that there is more to do with the rest, nothing that the peer has closed and the rest is void.
    ///
    /// # Errors
    /// A [`Failure`] with its [`TlsFault`]. What came before it is in the buffer.
    pub fn receive(&mut self, ciphertext: &[u8], buffer: &mut ReadBuffer) -> Result<usize, Failure> {
        if self.engine.peer_closed() {
            return Ok(0);
        }
        let received = self.engine.receive(ciphertext);
        self.engine.take_plaintext(&mut |chunk| buffer.feed(chunk));
        let received = self.judge(ciphertext, received);
        match received {
            Ok(taken) => self.edge.see(&ciphertext[..taken]),
            Err(_) => self.failed = true,
        }
        received
    }

    /// During the handshake: what this part of the ciphertext means for it.
    fn judge(&mut self, ciphertext: &[u8], received: Result<usize, Failure>) -> Result<usize, Failure> {
        let Some(watch) = &mut self.watch else { return received };
        if !self.engine.is_handshaking() {
            // A failure in the same part came behind the handshake, and what stands between them counts.
            self.watch = None;
            return received;
        }
        watch.see(&ciphertext[..received.as_ref().map_or(ciphertext.len(), |&taken| taken)]);
        match received {
            Err(failure) => {
                Err(watch.other_protocol().map_or(failure, |text| TlsFault::NotTls.failure(text)))
            }
            Ok(_) if watch.goodbye() => Err(TlsFault::EndedInHandshake
                .failure("the peer sent a close_notify before the TLS handshake was over")),
            Ok(taken) => Ok(taken),
        }
    }

    /// The transport has ended: is that the end of the stream?
    ///
    /// # Errors
    /// [`TlsFault::Truncated`] without a close_notify before, unless that is allowed;
    /// [`TlsFault::EndedInHandshake`] during the handshake.
    pub fn end(&self) -> Result<(), Failure> {
        if let Some(watch) = &self.watch {
            return Err(match watch.other_protocol() {
                Some(text) => TlsFault::NotTls.failure(text),
                None => TlsFault::EndedInHandshake
                    .failure("the peer ended the connection before the TLS handshake was over"),
            });
        }
        if self.engine.peer_closed() || self.truncation_is_end {
            return Ok(());
        }
        Err(TlsFault::Truncated.failure(
            "the peer ended the connection without a TLS close_notify: what arrived may have been cut short",
        ))
    }

    /// The transport has failed: by the peer's doing and during the handshake, that is
    /// [`TlsFault::EndedInHandshake`] as well.
    pub fn broken(&self, failure: Failure) -> Failure {
        let is_peers = failure.tls().is_none() && failure.class() == ErrorClass::BrokenByPeer;
        if is_peers && self.is_handshaking() {
            return failure.with_tls(TlsFault::EndedInHandshake);
        }
        failure
    }

    /// Whether the peer has said by close_notify that nothing more comes.
    #[inline]
    pub fn peer_closed(&self) -> bool {
        self.engine.peer_closed()
    }

    /// Whether the ciphertext that was received ends inside of a record: the peer has begun something, though it cannot be
    /// decrypted yet.
    #[inline]
    pub fn is_inside_record(&self) -> bool {
        self.edge.is_inside()
    }

    /// Encrypts what is queued, followed by `data`, at most [`SEAL_LEN`] bytes in all. What was queued stays counted until
    /// [`WriteQueue::sealed_left`]; of `data` it returns how much was taken. Does nothing during the handshake, after
    /// [`close_notify`](Self::close_notify) and after a failure.
    ///
    /// # Errors
    /// A [`Failure`] if the keys must not be used any more. Nothing was taken.
    pub fn seal(&mut self, queue: &mut WriteQueue, data: &[u8]) -> Result<usize, Failure> {
        if self.is_handshaking() || self.close_notify_queued || self.failed {
            return Ok(0);
        }
        let len = match queue.as_slice() {
            // Steady traffic is in one piece.
            Some([]) => self.seal_slice(data)?,
            Some(queued) if data.is_empty() => self.seal_slice(queued)?,
            _ => self.seal_gathered(queue.gather().chain((!data.is_empty()).then_some(data)))?,
        };
        Ok(queue.seal(len))
    }

    fn seal_slice(&mut self, slice: &[u8]) -> Result<usize, Failure> {
        let len = slice.len().min(SEAL_LEN);
        if len > 0 {
            self.engine.seal(&[IoSlice::new(&slice[..len])])?;
        }
        Ok(len)
    }

    fn seal_gathered<'a>(&mut self, all: impl Iterator<Item = &'a [u8]>) -> Result<usize, Failure> {
        let mut slices = [IoSlice::new(&[]); MOST_SLICES];
        let (mut used, mut len) = (0, 0);
        for (slot, slice) in slices.iter_mut().zip(all) {
            let n = slice.len().min(SEAL_LEN - len);
            *slot = IoSlice::new(&slice[..n]);
            used += 1;
            len += n;
            if len == SEAL_LEN {
                break;
            }
        }
        self.engine.seal(&slices[..used])?;
        Ok(len)
    }

    /// Queues a close_notify behind everything sealed before. Idempotent.
    pub fn close_notify(&mut self) {
        if !self.close_notify_queued {
            self.close_notify_queued = true;
            self.engine.close_notify();
        }
    }

    /// Whether [`close_notify`](Self::close_notify) was called.
    #[inline]
    pub fn is_close_notify_queued(&self) -> bool {
        self.close_notify_queued
    }

    /// Whether ciphertext waits to be sent.
    #[inline]
    pub fn wants_send(&self) -> bool {
        self.engine.wants_send()
    }

    /// Hands waiting ciphertext to one call of `sink`, which says how much of it left.
    ///
    /// # Errors
    /// Those of `sink`.
    pub fn send(&mut self, mut sink: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>) -> io::Result<usize> {
        self.engine.send(&mut sink)
    }

    /// Whether this side can end its direction and read on. TLS 1.2 cannot: its close_notify ends both (RFC 5246,
    /// section 7.2.1).
    pub fn can_half_close(&self) -> bool {
        self.engine.version().is_none_or(|version| version >= TlsVersion::V1_3)
    }

    /// What was agreed. `None` before the handshake is over.
    pub fn info(&self) -> Option<TlsInfo> {
        self.engine.info()
    }
}

/// The most plaintext that is sealed at once, in bytes: four full records, sent by one system call.
pub const SEAL_LEN: usize = 64 * 1024;
/// Large messages are 4 KiB at least, so these nearly always hold [`SEAL_LEN`].
const MOST_SLICES: usize = 64;
