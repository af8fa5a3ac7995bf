"""Connections without a socket: a transport that keeps what is written to it, and bytes that are fed by hand."""

from __future__ import annotations

import asyncio

import millstream


class Transport(asyncio.Transport):
    """Keeps what is written, and remembers what was asked of it."""

    def __init__(self):
        super().__init__()
        self.sent = []
        self.calls = []
        self.closing = False

    def write(self, data):
        self.sent.append(bytes(data))

    def writelines(self, data):
        self.write(b"".join(data))

    def is_closing(self):
        return self.closing

    def close(self):
        self.closing = True

    def abort(self):
        self.closing = True

    def pause_reading(self):
        self.calls.append("pause")

    def resume_reading(self):
        self.calls.append("resume")

    def get_write_buffer_limits(self):
        return 16384, 65536


def made(loop, reader_class=millstream.StreamReader, protocol_class=millstream.StreamReaderProtocol, module=millstream):
    """A connected reader, writer, protocol and transport."""
    reader = reader_class(loop=loop)
    protocol = protocol_class(reader, loop=loop)
    transport = Transport()
    protocol.connection_made(transport)
    return reader, module.StreamWriter(transport, protocol, reader, loop), protocol, transport


def receive(protocol, data):
    """What a transport does with bytes for a protocol that lends a buffer."""
    buffer = protocol.get_buffer(-1)
    buffer[: len(data)] = data
    del buffer
    protocol.buffer_updated(len(data))
