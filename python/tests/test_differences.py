"""Every known difference to asyncio's own streams, shown side by side. ``docs/python-differences.md`` says why."""

from __future__ import annotations

import asyncio
import copy
import inspect
import sys
import types
import warnings

import millstream
import pytest
from by_hand import Transport, made, receive

#: asyncio's own, even where a test has installed the others.
stock = types.SimpleNamespace(
    StreamReader=asyncio.StreamReader,
    StreamReaderProtocol=asyncio.StreamReaderProtocol,
    StreamWriter=asyncio.StreamWriter,
    start_server=asyncio.start_server,
    open_connection=asyncio.open_connection,
)


@pytest.fixture
def loop(run):
    return run.loop


def connected(module, loop):
    return made(loop, module.StreamReader, module.StreamReaderProtocol, module)


def both(show, loop):
    """What asyncio's does, and what this one does."""
    return [show(module, loop) for module in (stock, millstream)]


def outcome(loop, awaitable, turns=10):
    """What comes of it within some turns."""
    task = loop.create_task(awaitable)
    for _ in range(turns):
        loop.run_until_complete(asyncio.sleep(0))
    if not task.done():
        task.cancel()
        loop.run_until_complete(asyncio.wait([task]))
        return "waits"
    if task.cancelled():
        return "cancelled"
    return type(task.exception()).__name__ if task.exception() else task.result()


def turn(loop):
    loop.run_until_complete(asyncio.sleep(0))


# Reads.


def test_what_arrived_before_the_connection_was_lost_is_read_before_its_exception(loop):
    def show(module, loop):
        reader, writer, protocol, transport = connected(module, loop)
        protocol.data_received(b"arrived\n")
        protocol.connection_lost(ConnectionResetError())
        transport.closing = True
        return outcome(loop, reader.readline()), outcome(loop, reader.readline())

    assert both(show, loop) == [
        ("ConnectionResetError", "ConnectionResetError"),
        (b"arrived\n", "ConnectionResetError"),
    ]


def test_a_read_is_woken_only_when_it_can_be_answered(loop):
    def show(module, loop):
        reader = module.StreamReader(loop=loop)
        task = loop.create_task(reader.readexactly(3))
        turn(loop)
        waiter = reader._waiter
        reader.feed_data(b"1")
        reader.feed_data(b"2")
        woken = waiter.done()
        reader.feed_data(b"3")
        assert loop.run_until_complete(task) == b"123"
        return woken

    assert both(show, loop) == [True, False]


def test_an_exception_set_in_the_turn_in_which_too_few_bytes_came_is_not_missed(loop):
    def show(module, loop):
        reader = module.StreamReader(loop=loop)

        async def read():
            loop.call_soon(reader.feed_data, b"1")
            loop.call_soon(reader.set_exception, OSError("by hand"))
            return await reader.readexactly(3)

        return outcome(loop, read())

    assert both(show, loop) == ["waits", "OSError"]


def test_an_exception_set_in_the_turn_in_which_enough_bytes_came_is_raised_at_once(loop):
    def show(module, loop):
        reader = module.StreamReader(loop=loop)

        async def read():
            loop.call_soon(reader.feed_data, b"123")
            loop.call_soon(reader.set_exception, OSError("by hand"))
            return await reader.readexactly(3)

        return outcome(loop, read())

    assert both(show, loop) == [b"123", "OSError"]


def test_a_cancelled_read_to_the_end_loses_nothing(loop):
    def show(module, loop):
        reader = module.StreamReader(loop=loop)
        reader.feed_data(b"taken ")
        assert outcome(loop, reader.read()) == "waits"
        reader.feed_data(b"or not")
        reader.feed_eof()
        return outcome(loop, reader.read())

    assert both(show, loop) == [b"or not", b"taken or not"]


def test_a_second_read_to_the_end_takes_nothing_from_the_first_reader(loop):
    def show(module, loop):
        reader = module.StreamReader(loop=loop)
        first = loop.create_task(reader.readexactly(4))
        turn(loop)
        reader.feed_data(b"12")
        assert outcome(loop, reader.read()) == "RuntimeError"
        reader.feed_data(b"34")
        reader.feed_eof()
        return outcome(loop, first_result(first))

    async def first_result(task):
        return await task

    assert both(show, loop) == ["IncompleteReadError", b"1234"]


def test_a_read_that_waits_for_a_separator_does_not_miss_it_when_another_takes_bytes(loop):
    def show(module, loop):
        reader = module.StreamReader(loop=loop)
        line = loop.create_task(reader.readline())
        turn(loop)
        reader.feed_data(b"123456")
        turn(loop)
        turn(loop)
        assert outcome(loop, reader.read(6)) == b"123456"
        reader.feed_data(b"ab\ncd")
        turn(loop)
        turn(loop)
        done = line.done()
        reader.feed_eof()
        loop.run_until_complete(line)
        return done

    assert both(show, loop) == [False, True]


def test_a_second_reader_is_refused_also_in_the_turn_in_which_the_first_got_bytes(loop):
    def show(module, loop):
        reader = module.StreamReader(loop=loop)

        async def both_read():
            first = loop.create_task(reader.readexactly(10))
            await asyncio.sleep(0)
            second = loop.create_task(reader.readexactly(20))
            reader.feed_data(b"12345")
            await asyncio.sleep(0.01)
            reader.feed_data(b"67890")
            reader.feed_data(b"x" * 20)
            reader.feed_eof()
            await asyncio.wait([first, second], timeout=0.05)
            return "hangs" if not second.done() else type(second.exception()).__name__, first.done()

        result = loop.run_until_complete(both_read())
        for task in asyncio.all_tasks(loop):
            task.cancel()
        turn(loop)
        return result

    ours = show(millstream, loop)
    assert ours == ("RuntimeError", True)
    assert show(stock, loop) == ("hangs", True)


def test_an_item_larger_than_the_bound_pauses_the_transport_once(loop):
    def show(module, loop):
        reader = module.StreamReader(limit=4, loop=loop)
        reader.set_transport(transport := Transport())
        task = loop.create_task(reader.readexactly(100))
        turn(loop)
        for _ in range(10):
            reader.feed_data(b"0123456789")
            turn(loop)
            turn(loop)
        assert len(loop.run_until_complete(task)) == 100
        return transport.calls.count("pause")

    assert both(show, loop) == [10, 1]


def test_a_read_pauses_a_transport_whose_bytes_nobody_waits_for_any_more(loop):
    def show(module, loop):
        reader = module.StreamReader(limit=4, loop=loop)
        reader.set_transport(transport := Transport())
        assert outcome(loop, reader.readexactly(100)) == "waits"
        task = loop.create_task(reader.readexactly(100))
        turn(loop)
        reader.feed_data(b"0123456789")
        for _ in range(3):
            turn(loop)
        task.cancel()
        turn(loop)
        assert outcome(loop, reader.read(1)) == b"0"
        return reader._paused, transport.calls[-1]

    assert both(show, loop) == [(False, "resume"), (True, "pause")]


def test_a_limit_set_by_hand_is_looked_at_by_the_next_read(loop):
    def show(module, loop):
        reader = module.StreamReader(limit=4, loop=loop)
        reader.set_transport(transport := Transport())
        reader.feed_data(b"0123456789")
        reader._limit = 100
        assert loop.run_until_complete(reader.read(0)) == b""
        return transport.calls

    assert both(show, loop) == [["pause"], ["pause", "resume"]]


def test_a_stream_that_has_ended_is_not_opened_again_by_hand(loop):
    def show(module, loop):
        reader = module.StreamReader(loop=loop)
        reader.feed_eof()
        reader._eof = False
        return outcome(loop, reader.read(1))

    assert both(show, loop) == ["waits", b""]


def test_a_loss_is_not_taken_back_by_hand(loop):
    def show(module, loop):
        reader, writer, protocol, transport = connected(module, loop)
        protocol.connection_lost(ConnectionResetError())
        transport.closing = True
        reader._exception = None
        return outcome(loop, reader.read(1))

    assert both(show, loop) == ["waits", "ConnectionResetError"]


def test_several_separators_are_searched_on_every_version(loop):
    def show(module, loop):
        reader = module.StreamReader(loop=loop)
        reader.feed_data(b"one\r\ntwo\n")
        return outcome(loop, reader.readuntil((b"\r\n", b"\n")))

    ours = show(millstream, loop)
    assert ours == b"one\r\n"
    if sys.version_info < (3, 13):
        assert show(stock, loop) == "TypeError"
    else:
        assert show(stock, loop) == ours


def test_no_separator_is_a_newline(loop):
    def show(module, loop):
        reader = module.StreamReader(loop=loop)
        reader.feed_data(b"line\n")

        async def read():
            return await reader.readuntil(None)

        return outcome(loop, read())

    assert both(show, loop) == ["TypeError", b"line\n"]


def test_a_separator_that_is_not_bytes_is_refused_when_the_method_is_called(loop):
    def show(module, loop):
        reader = module.StreamReader(loop=loop)
        reader.feed_data(b"line\n")
        try:
            read = reader.readuntil(3)
        except TypeError:
            return "when called"
        return outcome(loop, read)

    assert both(show, loop) == ["TypeError", "when called"]


def test_a_size_beyond_all_memory_is_refused(loop):
    def show(module, loop):
        reader = module.StreamReader(loop=loop)
        reader.feed_data(b"abc")

        async def read():
            return await reader.readexactly(2**70)

        return outcome(loop, read())

    assert both(show, loop) == ["waits", "OverflowError"]


def test_a_limit_that_is_not_whole_is_rounded(loop):
    def show(module, loop):
        return [module.StreamReader(limit=limit, loop=loop)._limit for limit in (2.5, float("inf"))]

    assert both(show, loop) == [[2.5, float("inf")], [2, sys.maxsize]]


def test_some_reads_are_awaitables_that_are_no_coroutine_functions(loop):
    assert inspect.iscoroutinefunction(stock.StreamReader.readuntil)
    assert not inspect.iscoroutinefunction(millstream.StreamReader.readuntil)
    reader = millstream.StreamReader(loop=loop)
    reader.feed_data(b"line\n")
    read = reader.readuntil()
    assert asyncio.iscoroutine(read)
    assert outcome(loop, read) == b"line\n"


def test_awaiting_such_a_read_twice_is_a_runtime_error_with_a_text_of_its_own(loop):
    def show(module, loop):
        reader = module.StreamReader(loop=loop)
        reader.feed_data(b"line\n")
        read = reader.readuntil()

        async def twice():
            assert await read == b"line\n"
            with pytest.raises(RuntimeError) as caught:
                await read
            return str(caught.value)

        return outcome(loop, twice())

    assert both(show, loop) == ["cannot reuse already awaited coroutine", "cannot reuse already awaited read"]


def test_such_a_read_that_is_never_awaited_is_not_warned_of(loop):
    def show(module, loop):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            module.StreamReader(loop=loop).readuntil()
        return [warning.category for warning in caught]

    assert both(show, loop) == [[RuntimeWarning], []]


def test_the_buffer_is_a_view_and_no_bytearray(loop):
    def show(module, loop):
        return isinstance(module.StreamReader(loop=loop)._buffer, bytearray)

    assert both(show, loop) == [True, False]


def test_a_reader_is_not_copied(loop):
    def show(module, loop):
        try:
            return type(copy.copy(module.StreamReader(loop=loop))).__name__
        except TypeError:
            return "TypeError"

    assert both(show, loop) == ["StreamReader", "TypeError"]


def test_a_feed_data_patched_into_one_reader_does_not_see_what_a_transport_brings(loop):
    def show(module, loop):
        reader, writer, protocol, transport = connected(module, loop)
        seen = []
        reader.feed_data = seen.append
        protocol.data_received(b"line\n")
        transport.closing = True
        return seen

    assert both(show, loop) == [[b"line\n"], []]


def test_a_protocol_lends_a_buffer_to_the_transport(loop):
    def show(module, loop):
        return isinstance(connected(module, loop)[2], asyncio.BufferedProtocol)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        assert both(show, loop) == [False, True]


# Writes.


def test_writes_of_one_turn_are_gathered(loop):
    def show(module, loop):
        reader, writer, protocol, transport = connected(module, loop)
        for part in (b"1", b"2", b"3", b"4"):
            writer.write(part)
        turn(loop)
        transport.closing = True
        return transport.sent

    assert both(show, loop) == [[b"1", b"2", b"3", b"4"], [b"1", b"234"]]


def test_what_is_gathered_is_not_in_the_transport_before_somebody_asks_for_the_transport(loop):
    def show(module, loop):
        reader, writer, protocol, transport = connected(module, loop)
        writer.write(b"1")
        writer.write(b"2")
        direct = list(writer._transport.sent)
        asked = list(writer.transport.sent)
        transport.closing = True
        return direct, asked

    assert both(show, loop) == [([b"1", b"2"], [b"1", b"2"]), ([b"1"], [b"1", b"2"])]


def test_several_parts_are_one_write_to_the_transport(loop):
    class Writes(Transport):
        def writelines(self, data):
            self.calls.append("writelines")

    def show(module, loop):
        reader = module.StreamReader(loop=loop)
        protocol = module.StreamReaderProtocol(reader, loop=loop)
        protocol.connection_made(transport := Writes())
        writer = module.StreamWriter(transport, protocol, reader, loop)
        writer.writelines([b"1", bytearray(b"2"), memoryview(b"3")])
        transport.closing = True
        return transport.calls, transport.sent

    assert both(show, loop) == [(["writelines"], []), ([], [b"123"])]


def test_what_is_written_is_what_it_was_at_that_moment(loop):
    class Keeps(Transport):
        """As the transports of 3.12 and later do with what they cannot send at once."""

        def write(self, data):
            self.sent.append(data)

    def show(module, loop):
        reader = module.StreamReader(loop=loop)
        protocol = module.StreamReaderProtocol(reader, loop=loop)
        protocol.connection_made(transport := Keeps())
        writer = module.StreamWriter(transport, protocol, reader, loop)
        data = bytearray(b"before")
        writer.write(data)
        data[:] = b"after!"
        transport.closing = True
        return bytes(transport.sent[0])

    assert both(show, loop) == [b"after!", b"before"]


def test_text_is_refused_with_the_same_words_on_every_loop(run):
    async def main():
        server = await millstream.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        _, writer = await millstream.open_connection(*server.sockets[0].getsockname())
        with pytest.raises(TypeError) as caught:
            writer.write("text")
        assert str(caught.value) == "data argument must be a bytes-like object, not 'str'"
        await writer.aclose()
        server.close()
        await server.wait_closed()

    run(main())


def test_the_write_that_breaks_the_connection_is_told_by_the_drain_of_a_later_turn(loop):
    class Breaks(Transport):
        def write(self, data):
            self.closing = True
            self.loop.call_soon(self.protocol.connection_lost, BrokenPipeError())

    def show(module, loop):
        reader = module.StreamReader(loop=loop)
        protocol = module.StreamReaderProtocol(reader, loop=loop)
        transport = Breaks()
        transport.loop, transport.protocol = loop, protocol
        protocol.connection_made(transport)
        writer = module.StreamWriter(transport, protocol, reader, loop)

        async def drains():
            writer.write(b"x")
            told = []
            for _ in range(3):
                try:
                    await writer.drain()
                    told.append("fine")
                    await asyncio.sleep(0)
                except OSError:
                    told.append("lost")
            return told

        return loop.run_until_complete(drains())

    assert both(show, loop) == [["lost", "lost", "lost"], ["fine", "lost", "lost"]]


def test_a_drain_with_nothing_to_wait_for_is_no_coroutine(loop):
    def show(module, loop):
        reader, writer, protocol, transport = connected(module, loop)
        drain = writer.drain()
        taken = asyncio.iscoroutine(drain), outcome(loop, drain)
        transport.closing = True
        return inspect.iscoroutine(drain), *taken

    assert both(show, loop) == [(True, True, None), (False, True, None)]


# Ends.


def test_a_wait_closed_that_was_given_up_does_not_spoil_the_next(loop):
    def show(module, loop):
        reader, writer, protocol, transport = connected(module, loop)
        assert outcome(loop, writer.wait_closed()) == "waits"
        protocol.connection_lost(None)
        transport.closing = True
        return outcome(loop, writer.wait_closed())

    assert both(show, loop) == ["cancelled", None]


def test_everyone_who_is_told_of_a_loss_gets_an_exception_object_of_their_own(loop):
    def show(module, loop):
        reader, writer, protocol, transport = connected(module, loop)
        protocol.pause_writing()
        waits = [writer.drain(), writer.drain(), writer.wait_closed(), reader.read()]
        tasks = [loop.create_task(wait) for wait in waits]
        turn(loop)
        lost = ConnectionResetError("gone")
        protocol.connection_lost(lost)
        transport.closing = True
        told = loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        assert [(type(exc), str(exc)) for exc in told] == [(ConnectionResetError, "gone")] * 4
        return len({id(exc) for exc in [lost, *told]})

    assert both(show, loop) == [1, 5]


# Servers.


def served(module, loop, handler):
    """What the loop is told of a handler, and whether its connection was closed."""
    complaints = []
    transport = Transport()

    async def main():
        reader = module.StreamReader(loop=loop)
        protocol = module.StreamReaderProtocol(reader, handler, loop=loop)
        try:
            protocol.connection_made(transport)
        except ZeroDivisionError:
            complaints.append("raised into the loop")
        for _ in range(3):
            await asyncio.sleep(0)
        if protocol._task is not None and not protocol._task.done():
            protocol._task.cancel()
        for _ in range(3):
            await asyncio.sleep(0)

    loop.set_exception_handler(lambda _, context: complaints.append(context["message"]))
    loop.run_until_complete(main())
    closed, transport.closing = transport.closing, True
    return complaints, closed


def test_a_plain_callback_that_raises_is_reported_and_its_connection_closed(loop):
    def callback(reader, writer):
        raise ZeroDivisionError

    assert served(millstream, loop, callback) == (["Unhandled exception in client_connected_cb"], True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        assert served(stock, loop, callback)[0] == ["raised into the loop"]


def test_a_handler_that_raises_is_reported_and_its_connection_closed_on_every_version(loop):
    async def handler(reader, writer):
        raise ZeroDivisionError

    assert served(millstream, loop, handler) == (["Unhandled exception in client_connected_cb"], True)


def test_a_handler_that_is_cancelled_closes_its_connection_without_a_word_on_every_version(loop):
    async def handler(reader, writer):
        await asyncio.sleep(100)

    assert served(millstream, loop, handler) == ([], True)


def test_every_server_closes_and_aborts_its_clients(run):
    async def show(module):
        server = await module.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        has = hasattr(server, "close_clients") and hasattr(server, "abort_clients")
        server.close()
        await server.wait_closed()
        return has

    assert run(show(millstream))
    is_stock_loop = type(run.loop).__module__.startswith("asyncio")
    assert run(show(stock)) == (sys.version_info >= (3, 13) and is_stock_loop)


def test_what_was_written_in_the_turn_in_which_a_server_closes_its_clients_still_leaves(run):
    async def main():
        writers = []
        server = await millstream.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
        reader, writer = await millstream.open_connection(*server.sockets[0].getsockname())
        while not writers:
            await asyncio.sleep(0.001)
        for part in (b"good", b"bye", b"\n"):
            writers[0].write(part)
        server.close()
        server.close_clients()
        assert await reader.read() == b"goodbye\n"
        await writer.aclose()
        await server.wait_closed()

    run(main())


def test_a_writer_that_was_forgotten_warns_and_closes_on_every_version(loop):
    reader, writer, protocol, transport = connected(millstream, loop)
    with pytest.warns(ResourceWarning, match="unclosed <StreamWriter"):
        del writer
    assert transport.closing


def test_start_tls_is_there_on_every_version():
    assert hasattr(millstream.StreamWriter, "start_tls")
    assert hasattr(stock.StreamWriter, "start_tls") == (sys.version_info >= (3, 11))
