//! One connection of a relay: its halves, and whether bytes wait in its queue that the relay has to flush.

use millstream_core::WriteError;

use super::RelayPair;
use super::outcome::RelaySide;
use crate::reader::StreamReader;
use crate::sync::Arc;
use crate::turn::Turn;
use crate::writer::StreamWriter;

pub(super) struct Side<'a> {
    pub(super) name: RelaySide,
    pub(super) reader: &'a mut StreamReader,
    pub(super) writer: &'a StreamWriter,
    /// Whether the reader, before it waits, flushes this very writer.
    is_one: bool,
    /// Bytes were queued that nobody was told to flush.
    owes_flush: bool,
}

impl<'a> Side<'a> {
    pub(super) fn new(name: RelaySide, (reader, writer): RelayPair<'a>) -> Self {
        let is_one = Arc::ptr_eq(&reader.connection, &writer.connection);
        Self { name, reader, writer, is_one, owes_flush: false }
    }

    /// How much of `len` bytes may be queued now. To be asked when the queue is not above its high mark.
    pub(super) fn room_for(&self, len: usize) -> usize {
        let connection = &self.writer.connection;
        let room = connection.room_to_write();
        let least = len.min(LEAST_ROOM);
        if room < least && connection.watermarks().high() < LEAST_ROOM { least } else { room.min(len) }
    }

    /// Queues the bytes; large ones are sent at once, from where they are.
    pub(super) fn write(&mut self, data: &[u8]) -> Result<(), WriteError> {
        self.owes_flush = true;
        // The relay flushes before it gives control back, so nobody need be woken for that: as if this were the turn of
        // the connection's own task.
        let _turn = Turn::begin(&self.writer.connection);
        self.writer.connection.write(data)
    }

    /// The reader is about to wait, and has flushed what was queued on its connection.
    pub(super) fn reader_waits(&mut self) {
        self.owes_flush &= !self.is_one;
    }

    /// Sends what the relay has queued. False if the connection was lost over it.
    pub(super) fn flush(&mut self) -> bool {
        !std::mem::take(&mut self.owes_flush) || self.writer.connection.flush_now().is_ok()
    }

    /// A number that changes whenever bytes came or left.
    pub(super) fn moved(&self) -> u64 {
        let written = self.writer.connection.stats();
        let read = if self.is_one { written } else { self.reader.connection.stats() };
        read.bytes_read.wrapping_add(written.bytes_written)
    }
}

/// With watermarks below this, this much is queued nevertheless: byte by byte would be no relay.
const LEAST_ROOM: usize = 8 * 1024;
