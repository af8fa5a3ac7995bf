"""What these streams can do that asyncio's cannot: reads with limits and deadlines of their own, into buffers, without taking;
writers that close by themselves; servers that close their clients."""

from __future__ import annotations

import array
import asyncio
import gc
import socket
import weakref

import millstream
import pytest
from by_hand import Transport, made


@pytest.fixture
def loop(run):
    return run.loop


@pytest.fixture
def reader(loop):
    return millstream.StreamReader(loop=loop)


def start(loop, read):
    """A read that waits."""
    task = loop.create_task(read)
    loop.run_until_complete(asyncio.sleep(0))
    assert not task.done()
    return task


async def connection(handler=lambda reader, writer: None, **keywords):
    """A server, with a connection to it."""
    server = await millstream.start_server(handler, "127.0.0.1", 0, **keywords)
    return (server, *await millstream.open_connection(*server.sockets[0].getsockname()))


# readinto


@pytest.mark.parametrize(
    "make", [lambda: bytearray(5), lambda: memoryview(bytearray(5)), lambda: array.array("B", bytes(5))]
)
def test_bytes_are_read_into_a_buffer_of_the_callers(loop, reader, make):
    buffer = make()
    reader.feed_data(b"abcdefg")
    assert loop.run_until_complete(reader.readinto(buffer)) == 5
    assert bytes(buffer) == b"abcde"
    assert loop.run_until_complete(reader.readinto(memoryview(buffer)[1:3])) == 2
    assert bytes(buffer) == b"afgde"


def test_reading_into_a_buffer_waits_for_one_byte_and_ends_with_none(loop, reader):
    buffer = bytearray(4)
    task = start(loop, reader.readinto(buffer))
    reader.feed_data(b"x")
    assert loop.run_until_complete(task) == 1
    reader.feed_eof()
    assert loop.run_until_complete(reader.readinto(buffer)) == 0
    assert buffer == b"x\0\0\0"


def test_reading_into_an_empty_buffer_is_done_at_once(loop, reader):
    assert loop.run_until_complete(reader.readinto(bytearray())) == 0


def test_the_buffer_that_was_read_into_can_be_resized_afterwards(loop, reader):
    buffer = bytearray(2)
    reader.feed_data(b"ab")
    loop.run_until_complete(reader.readinto(buffer))
    buffer.extend(b"c")
    task = start(loop, reader.readinto(buffer))
    with pytest.raises(BufferError):
        buffer.extend(b"d")
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
    del task
    gc.collect()
    buffer.extend(b"d")
    assert buffer == b"abcd"


@pytest.mark.parametrize("buffer", [b"constant", memoryview(b"constant"), "text", 5, None])
def test_what_cannot_be_written_to_is_not_read_into(reader, buffer):
    reader.feed_data(b"abc")
    with pytest.raises(TypeError):
        reader.readinto(buffer)
    assert reader.buffered == 3


# peek and buffered


def test_a_peek_shows_what_is_there_and_takes_nothing(loop, reader):
    reader.feed_data(b"GET / HTTP/1.1\r\n")
    assert loop.run_until_complete(reader.peek(3)) == b"GET"
    assert loop.run_until_complete(reader.peek()) == b"GET / HTTP/1.1\r\n"
    assert loop.run_until_complete(reader.peek(0)) == b""
    assert reader.buffered == 16
    assert loop.run_until_complete(reader.readline()) == b"GET / HTTP/1.1\r\n"
    assert reader.buffered == 0


def test_a_peek_waits_for_the_first_byte_or_the_end(loop, reader):
    task = start(loop, reader.peek(10))
    reader.feed_data(b"\x16")
    assert loop.run_until_complete(task) == b"\x16"
    assert loop.run_until_complete(reader.read(1)) == b"\x16"
    task = start(loop, reader.peek())
    reader.feed_eof()
    assert loop.run_until_complete(task) == b""


# limits of one call


def test_one_call_may_have_a_limit_of_its_own(loop):
    reader = millstream.StreamReader(limit=10, loop=loop)
    reader.feed_data(b"a header line\n" + b"x" * 100 + b"\n12345;")
    with pytest.raises(asyncio.LimitOverrunError):
        loop.run_until_complete(reader.readuntil())
    assert loop.run_until_complete(reader.readline(limit=13)) == b"a header line\n"
    assert loop.run_until_complete(reader.readuntil(b"\n", limit=100)) == b"x" * 100 + b"\n"
    with pytest.raises(asyncio.LimitOverrunError) as caught:
        loop.run_until_complete(reader.readuntil(b";", limit=4))
    assert caught.value.consumed == 5
    assert loop.run_until_complete(reader.readuntil(b";")) == b"12345;"
    assert reader._limit == 10


def test_a_larger_limit_of_one_call_does_not_hang_on_the_pause_of_the_smaller(loop):
    reader = millstream.StreamReader(limit=4, loop=loop)
    reader._transport = transport = Transport()
    task = start(loop, reader.readline(limit=1000))
    for _ in range(20):
        reader.feed_data(b"0123456789")
        loop.run_until_complete(asyncio.sleep(0))
        assert not reader._paused or transport.calls[-1] == "resume"
    reader.feed_data(b"\n")
    assert loop.run_until_complete(task) == b"0123456789" * 20 + b"\n"


# readlines


def test_all_complete_lines_that_are_there_come_at_once(loop, reader):
    reader.feed_data(b"1\n2\n3\n4\n5")
    assert loop.run_until_complete(reader.readlines(2)) == [b"1\n", b"2\n"]
    assert loop.run_until_complete(reader.readlines()) == [b"3\n", b"4\n"]
    task = start(loop, reader.readlines())
    reader.feed_data(b"5\n6\n7")
    assert loop.run_until_complete(task) == [b"55\n", b"6\n"]
    reader.feed_eof()
    assert loop.run_until_complete(reader.readlines()) == [b"7"]
    assert loop.run_until_complete(reader.readlines()) == []


def test_a_line_that_is_too_long_stays_for_the_call_that_finds_it_first(loop, reader):
    reader.feed_data(b"1\n" + b"x" * 50 + b"\n2\n")
    assert loop.run_until_complete(reader.readlines(limit=10)) == [b"1\n"]
    with pytest.raises(ValueError, match="longer than limit"):
        loop.run_until_complete(reader.readlines(limit=10))
    assert loop.run_until_complete(reader.readlines(limit=10)) == [b"2\n"]


# deadlines

READS = {
    "readline": lambda reader, **deadline: reader.readline(**deadline),
    "readexactly": lambda reader, **deadline: reader.readexactly(6, **deadline),
    "readuntil": lambda reader, **deadline: reader.readuntil(b"\n", **deadline),
    "read": lambda reader, **deadline: reader.read(**deadline),
    "readlines": lambda reader, **deadline: reader.readlines(**deadline),
}
every_read = pytest.mark.parametrize("kind", READS)


@every_read
def test_a_read_ends_at_its_deadline_and_takes_nothing(loop, reader, kind):
    read = READS[kind]
    reader.feed_data(b"12345")
    before = loop.time()
    with pytest.raises(asyncio.TimeoutError, match=r"the deadline came before the data"):
        loop.run_until_complete(read(reader, deadline=before + 0.02))
    assert loop.time() >= before + 0.015
    assert reader._waiter is None
    reader.feed_data(b"\n")
    reader.feed_eof()
    assert loop.run_until_complete(read(reader)) in (b"12345\n", [b"12345\n"])


@every_read
def test_a_deadline_that_has_passed_ends_a_read_that_has_to_wait_and_no_other(loop, reader, kind):
    read = READS[kind]
    with pytest.raises(asyncio.TimeoutError):
        loop.run_until_complete(read(reader, deadline=loop.time() - 1))
    reader.feed_data(b"12345\n")
    reader.feed_eof()
    assert loop.run_until_complete(read(reader, deadline=loop.time() - 1)) in (b"12345\n", [b"12345\n"])


@every_read
def test_a_read_that_is_cancelled_before_its_deadline_leaves_no_timer(loop, reader, kind):
    task = start(loop, READS[kind](reader, deadline=loop.time() + 0.02))
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
    assert task.cancelled()
    following = start(loop, reader.readline())
    loop.run_until_complete(asyncio.sleep(0.04))
    assert not following.done()
    reader.feed_data(b"later\n")
    assert loop.run_until_complete(following) == b"later\n"


def test_a_read_that_is_cancelled_in_the_turn_of_its_deadline_is_cancelled(loop, reader):
    async def main():
        task = asyncio.create_task(reader.readuntil(deadline=loop.time() + 0.01))
        await asyncio.sleep(0)
        loop.call_at(loop.time() + 0.01, task.cancel)
        with pytest.raises((asyncio.CancelledError, asyncio.TimeoutError)):
            await task
        assert reader._waiter is None

    loop.run_until_complete(main())


def test_data_that_comes_in_the_turn_of_the_deadline_is_not_lost(loop, reader):
    async def main():
        for _ in range(50):
            deadline = loop.time() + 0.002
            loop.call_at(deadline, reader.feed_data, b"x\n")
            try:
                line = await reader.readline(deadline=deadline)
            except asyncio.TimeoutError:
                line = await reader.readline()
            assert line == b"x\n"
        assert not reader._buffer

    loop.run_until_complete(main())


def test_a_read_that_was_answered_leaves_nothing_to_its_timer(loop):
    reader = millstream.StreamReader(loop=loop)
    gone = weakref.ref(reader)
    task = start(loop, reader.readuntil(deadline=loop.time() + 10_000))
    reader.feed_data(b"x\n")
    assert loop.run_until_complete(task) == b"x\n"
    del task, reader
    gc.collect()
    assert gone() is None


# writers


def test_a_writer_is_closed_when_its_block_ends(run):
    async def main():
        received = []

        async def handler(reader, writer):
            async with writer:
                received.append(await reader.read())

        server, reader, writer = await connection(handler)
        async with writer as same:
            assert same is writer
            writer.write(b"1")
            writer.write(b"2")
        assert writer.is_closing()
        await asyncio.wait_for(writer.wait_closed(), 1)
        while not received:
            await asyncio.sleep(0)
        assert received == [b"12"]
        with pytest.raises(KeyError):
            async with (await millstream.open_connection(*server.sockets[0].getsockname()))[1] as writer:
                raise KeyError
        assert writer.is_closing()
        server.close()
        await server.wait_closed()

    run(main())


def test_closing_a_connection_that_the_peer_broke_is_no_error(run):
    async def main():
        def reset(_, writer):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            writer.transport.abort()

        server, reader, writer = await connection(reset)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        await writer.aclose()
        await writer.aclose()
        server.close()
        await server.wait_closed()

    run(main())


def test_closing_ends_by_its_timeout_even_if_the_peer_is_deaf(run):
    async def main():
        accepted = []
        server, reader, writer = await connection(lambda *pair: accepted.append(pair), limit=1)
        while not accepted:
            await asyncio.sleep(0)
        accepted[0][1].transport.pause_reading()
        writer.write(bytes(50_000_000))
        before = run.loop.time()
        await writer.aclose(0.05)
        assert 0.04 < run.loop.time() - before < 5
        await asyncio.wait_for(writer.wait_closed(), 1)
        await accepted[0][1].aclose(1)
        server.close()
        await server.wait_closed()

    run(main())


def test_a_cancelled_close_still_closes(run):
    async def main():
        accepted = []
        server, reader, writer = await connection(lambda *pair: accepted.append(pair))
        task = asyncio.create_task(writer.aclose())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.wait_for(writer.wait_closed(), 1)
        await accepted[0][1].aclose(1)
        server.close()
        await server.wait_closed()

    run(main())


def test_flush_and_corked_and_cork_say_and_do_what_they_mean(loop):
    reader, writer, protocol, transport = made(loop)
    writer.write(b"at once")
    writer.write(b"23")
    writer.writelines([b"4", b"5"])
    assert (writer.corked, transport.sent) == (4, [b"at once"])
    writer.flush()
    assert (writer.corked, transport.sent) == (0, [b"at once", b"2345"])
    writer.write(b"6")
    writer.cork(False)
    assert transport.sent[2:] == [b"6"]
    writer.write(b"7")
    writer.write(b"8")
    assert (writer.corked, transport.sent[3:]) == (0, [b"7", b"8"])
    writer.cork()
    writer.write(b"9")
    assert writer.corked == 1
    transport.closing = True


def test_asking_for_the_transport_sends_what_was_written_before(loop):
    reader, writer, protocol, transport = made(loop)
    writer.write(b"1")
    writer.write(b"2")
    writer.transport.write(b"3")
    assert transport.sent == [b"1", b"2", b"3"]
    transport.closing = True


def test_abort_loses_what_was_not_sent_and_closes(run):
    async def main():
        accepted = []
        server, reader, writer = await connection(lambda *pair: accepted.append(pair))
        while not accepted:
            await asyncio.sleep(0)
        accepted[0][1].transport.pause_reading()
        writer.write(bytes(50_000_000))
        writer.abort()
        await asyncio.wait_for(writer.wait_closed(), 1)
        await accepted[0][1].aclose(1)
        server.close()
        await server.wait_closed()

    run(main())


# servers


@pytest.mark.parametrize("how", ["close_clients", "abort_clients"])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_server_closes_or_aborts_its_clients(run, how, kind, tmp_path):
    async def main():
        handled = []

        async def handler(reader, writer):
            async with writer:
                writer.write(b"hello\n")
                handled.append(await reader.read())

        if kind == "tcp":
            server = await millstream.start_server(handler, "127.0.0.1", 0)
            connect = millstream.open_connection(*server.sockets[0].getsockname())
        else:
            server = await millstream.start_unix_server(handler, tmp_path / "socket")
            connect = millstream.open_unix_connection(tmp_path / "socket")
        reader, writer = await connect
        assert await reader.readline() == b"hello\n"
        server.close()
        getattr(server, how)()
        assert await reader.read() == b""
        await writer.aclose()
        await asyncio.wait_for(server.wait_closed(), 5)
        while not handled:
            await asyncio.sleep(0)
        assert handled == [b""]

    run(main())


def test_a_server_is_what_asyncios_is(run):
    async def main():
        server = await millstream.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, start_serving=False)
        assert isinstance(server, asyncio.AbstractServer)
        assert not server.is_serving()
        async with server:
            await server.start_serving()
            assert server.is_serving()
            assert server.get_loop() is run.loop
            serving = asyncio.create_task(server.serve_forever())
            await asyncio.sleep(0.01)
            reader, writer = await millstream.open_connection(*server.sockets[0].getsockname())
            assert await reader.read() == b""
            await writer.aclose()
            serving.cancel()
            await asyncio.wait([serving])
        assert not server.is_serving()
        assert not server.sockets

    run(main())


def test_over_unix_sockets_lines_come_back_as_well(run, tmp_path):
    async def main():
        async def echo(reader, writer):
            async with writer:
                async for line in reader:
                    writer.write(line)
                    await writer.drain()

        path = tmp_path / "socket"
        async with await millstream.start_unix_server(echo, path):
            reader, writer = await millstream.open_unix_connection(str(path))
            async with writer:
                for number in range(100):
                    writer.write(b"line %d\n" % number)
                writer.write_eof()
                assert await reader.readlines(1) == [b"line 0\n"]
                assert [line async for line in reader][-1] == b"line 99\n"

    run(main())
