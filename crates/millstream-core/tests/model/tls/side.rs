//! One side of a connection, driven as the contract of the pipe says, with plain vectors for its transport.

use std::collections::VecDeque;
use std::io;

use millstream_core::tls::{SEAL_LEN, TlsEngine, TlsPipe};
use millstream_core::{Failure, ReadBuffer, WriteQueue};

/// A pipe with its queue and its buffer, and the ciphertext that its transport took.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) pipe: TlsPipe,
    pub(crate) queue: WriteQueue,
    pub(crate) buffer: ReadBuffer,
    /// On its way to the other side.
    pub(crate) wire: VecDeque<u8>,
    /// What was given to `write` and what was read, in all.
    pub(crate) written: Vec<u8>,
    pub(crate) read: Vec<u8>,
    /// How many of the written bytes have left as ciphertext, and are not counted any more.
    pub(crate) left: usize,
    /// How many are ciphertext that has not left.
    sealed: usize,
}

impl Side {
    pub(crate) fn new(engine: Box<dyn TlsEngine>) -> Self {
        Self {
            pipe: TlsPipe::new(engine, false),
            queue: WriteQueue::default(),
            buffer: ReadBuffer::new(1).expect("not zero"),
            wire: VecDeque::new(),
            written: Vec::new(),
            read: Vec::new(),
            left: 0,
            sealed: 0,
        }
    }

    /// Queues the next `len` bytes of the stream. Each byte tells its place.
    pub(crate) fn write(&mut self, len: usize, shared: bool) {
        let data = self.message(len);
        if shared { self.queue.push_shared(data.into()) } else { self.queue.push(&data) }
    }

    /// Sends with the next `len` bytes of the stream behind what is queued; queues what the transport leaves over.
    pub(crate) fn write_through(&mut self, len: usize, room: usize) {
        let data = self.message(len);
        let taken = self.flush_through(room, &data);
        self.queue.push(&data[taken..]);
        self.check_count();
    }

    fn message(&mut self, len: usize) -> Vec<u8> {
        let data: Vec<u8> = (0..=250).cycle().skip(self.written.len() % 251).take(len).collect();
        self.written.extend_from_slice(&data);
        data
    }

    /// Seals and sends, as a driver does, until the transport took `room` bytes or all is sent.
    pub(crate) fn flush(&mut self, room: usize) {
        let taken = self.flush_through(room, &[]);
        assert_eq!(taken, 0);
        self.check_count();
    }

    fn flush_through(&mut self, mut room: usize, data: &[u8]) -> usize {
        let mut taken = 0;
        loop {
            if self.pipe.wants_send() {
                let sent = self.pipe.send(|slices| {
                    if room == 0 {
                        return Err(io::ErrorKind::WouldBlock.into());
                    }
                    let before = room;
                    for slice in slices {
                        let n = slice.len().min(room);
                        self.wire.extend(&slice[..n]);
                        room -= n;
                    }
                    Ok(before - room)
                });
                match sent {
                    Ok(n) => assert!(n > 0, "the engine wants to send nothing"),
                    Err(_) => return taken,
                }
                continue;
            }
            let before = self.queue.len();
            let _ = self.queue.sealed_left();
            assert_eq!(self.queue.len(), before - self.sealed);
            self.left += std::mem::take(&mut self.sealed);
            let (queued, unsealed) = (self.queue.len(), self.queue.unsealed_len());
            assert_eq!(queued, unsealed, "something is sealed that has left");
            let n = self.pipe.seal(&mut self.queue, &data[taken..]).expect("the keys are fresh");
            self.sealed = self.queue.len() - self.queue.unsealed_len();
            assert!(self.sealed <= SEAL_LEN, "{} bytes sealed at once", self.sealed);
            // The message goes behind the queue, never before it.
            assert!(n == 0 || self.queue.unsealed_len() == 0);
            assert_eq!(self.queue.len(), queued + n, "a seal changes the count");
            taken += n;
            if self.sealed > 0 {
                assert!(!self.pipe.is_handshaking() && !self.pipe.is_close_notify_queued());
            }
            if !self.pipe.wants_send() {
                assert_eq!(self.sealed, 0, "sealed, and nothing to send");
                return taken;
            }
        }
    }

    /// What is written and has not left is counted, sealed or not.
    fn check_count(&self) {
        assert_eq!(self.queue.len(), self.written.len() - self.left);
    }

    /// Feeds ciphertext until all is taken or the rest is void; then reads all that it decrypts to.
    pub(crate) fn receive(&mut self, ciphertext: &[u8]) -> Result<(), Failure> {
        let mut rest = ciphertext;
        let mut result = Ok(());
        while !rest.is_empty() {
            let before = self.buffer.len();
            match self.pipe.receive(rest, &mut self.buffer) {
                Ok(taken) => {
                    assert!(taken > 0 || self.pipe.peer_closed(), "the pipe takes nothing");
                    let held_len = rest.len() + MOST_HELD;
                    assert!(self.buffer.len() - before <= held_len, "plaintext from nowhere");
                    rest = &rest[taken..];
                    if taken == 0 {
                        break;
                    }
                }
                Err(failure) => {
                    result = Err(failure);
                    break;
                }
            }
        }
        assert!(
            self.buffer.is_empty() || !self.pipe.is_handshaking(),
            "plaintext before the handshake is over"
        );
        let len = self.buffer.len();
        self.read.extend_from_slice(&self.buffer.take(len));
        result
    }

    /// Takes at most `n` bytes off the wire of the other side.
    pub(crate) fn receive_from(&mut self, other: &mut Self, n: usize) -> Result<(), Failure> {
        let ciphertext: Vec<u8> = other.wire.drain(..n.min(other.wire.len())).collect();
        self.receive(&ciphertext)
    }
}

/// One record, which the engine may have held back from the receive before.
const MOST_HELD: usize = 16 * 1024 + 512;
