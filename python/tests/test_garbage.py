"""Readers, writers, protocols and reads that refer to each other are collected once nobody else refers to them, and not before."""

from __future__ import annotations

import asyncio
import gc
import weakref

import millstream
import pytest
from by_hand import Transport, made, receive


@pytest.fixture
def loop(run):
    return run.loop


def dies(make):
    """Whether everything that ``make`` returns is collected once nobody refers to it."""
    gc.collect()
    references = make()
    gc.collect()
    return [reference() for reference in references]


def test_a_cycle_through_a_reader_is_collected(loop):
    def make():
        reader = millstream.StreamReader(loop=loop)
        reader.me = reader
        reader.view = reader._buffer
        reader.feed_data(b"1\n2\n")
        # Memory of reads that have ended is used again.
        loop.run_until_complete(reader.readuntil())
        loop.run_until_complete(reader.readuntil())
        reader.unawaited = [reader.readuntil() for _ in range(5)]
        for read in reader.unawaited:
            read.close()
        return [weakref.ref(reader)]

    assert dies(make) == [None]


def test_a_cycle_through_a_connection_is_collected(loop):
    def make():
        reader, writer, protocol, transport = things = made(loop)
        transport.protocol = protocol
        protocol.writer = writer
        reader.writer = writer
        writer.write(b"sent at once")
        writer.write(b"queued")
        loop.run_until_complete(asyncio.sleep(0))
        transport.closing = True
        return [weakref.ref(thing) for thing in things]

    assert dies(make) == [None] * 4


@pytest.mark.parametrize("kind", [lambda reader: reader.readexactly(3), lambda reader: reader.readuntil(b".")])
def test_a_cycle_through_a_read_that_waits_is_collected(loop, kind):
    def make():
        reader = millstream.StreamReader(loop=loop)
        # Memory of reads that have ended is used again.
        reader.feed_data(b"....")
        for _ in range(2):
            loop.run_until_complete(reader.readexactly(2))
            loop.run_until_complete(reader.readuntil(b".") if reader.buffered else asyncio.sleep(0))
            reader._buffer[:] = b"..."
        reader._buffer.clear()
        reader.read_of_mine = kind(reader)
        future = reader.read_of_mine.send(None)
        future.reader = reader if hasattr(future, "__dict__") else None
        reader.future = future
        return [weakref.ref(reader), weakref.ref(future)]

    assert dies(make) == [None, None]


def test_a_cycle_through_an_exception_is_collected(loop):
    def make():
        reader = millstream.StreamReader(loop=loop)
        exc = OSError("holds the reader")
        exc.reader = reader
        reader.set_exception(exc)
        lost = millstream.StreamReader(loop=loop)
        exc2 = OSError("holds the reader")
        exc2.reader = lost
        lost._connection_failed(exc2)
        return [weakref.ref(reader), weakref.ref(lost)]

    assert dies(make) == [None, None]


def test_a_cycle_through_subclasses_is_collected(loop):
    class Reader(millstream.StreamReader):
        pass

    class Protocol(millstream.StreamReaderProtocol):
        pass

    def make():
        reader = Reader(loop=loop)
        protocol = Protocol(reader, loop=loop)
        reader.protocol = protocol
        protocol.reader = reader
        return [weakref.ref(reader), weakref.ref(protocol)]

    assert dies(make) == [None, None]


def test_a_waiting_task_lives_as_long_as_its_transport(run):
    async def main():
        loop = asyncio.get_running_loop()
        lines = []

        async def handler(reader, writer):
            lines.append(await reader.readline())
            writer.close()

        transport = Transport()
        reader = millstream.StreamReader(loop=loop)
        protocol = millstream.StreamReaderProtocol(reader, handler, loop=loop)
        transport.protocol = protocol
        protocol.connection_made(transport)
        del reader, protocol
        await asyncio.sleep(0)
        gc.collect()
        receive(transport.protocol, b"still here\n")
        await asyncio.sleep(0.01)
        assert lines == [b"still here\n"]
        transport.protocol.connection_lost(None)

    run(main())
