"""What programs that know asyncio's classes from the inside do to them works on these: subclasses, patches, private attributes."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import re
import weakref

import millstream
import pytest
from by_hand import Transport, made, receive


@pytest.fixture
def loop(run):
    return run.loop


@pytest.fixture
def reader(loop):
    return millstream.StreamReader(loop=loop)


# Subclasses.


def test_a_subclass_has_a_constructor_of_its_own_and_sets_attributes_before_that_of_the_base(loop):
    class Reader(millstream.StreamReader):
        def __init__(self, name, *, size):
            self.name = name
            self.fed = []
            super().__init__(limit=size, loop=loop)

        def feed_data(self, data):
            self.fed.append(data)
            super().feed_data(data)

    class Writer(millstream.StreamWriter):
        def __init__(self, name, pair):
            self.name = name
            super().__init__(*pair, loop)

    class Protocol(millstream.StreamReaderProtocol):
        def __init__(self, name, reader):
            self.name = name
            super().__init__(reader, loop=loop)

    reader = Reader("reader", size=10)
    protocol = Protocol("protocol", reader)
    transport = Transport()
    protocol.connection_made(transport)
    writer = Writer("writer", (transport, protocol, reader))
    receive(protocol, b"line\n")
    assert (reader.name, protocol.name, writer.name) == ("reader", "protocol", "writer")
    assert reader.fed == [b"line\n"]
    assert reader._limit == 10
    assert loop.run_until_complete(reader.readline()) == b"line\n"
    transport.closing = True


def test_an_object_whose_constructor_was_not_called_says_so_and_crashes_nothing(loop):
    class Reader(millstream.StreamReader):
        def __init__(self):
            pass

    class Writer(millstream.StreamWriter):
        def __init__(self):
            pass

    class Protocol(millstream.StreamReaderProtocol):
        def __init__(self):
            pass

    async def reads():
        return await Reader().readline()

    with pytest.raises(RuntimeError):
        loop.run_until_complete(reads())
    with pytest.raises(RuntimeError):
        Writer().write(b"x")
    with pytest.raises(RuntimeError):
        Writer().drain()
    with pytest.raises(RuntimeError):
        Protocol().get_buffer(-1)
    gc.collect()


@pytest.mark.parametrize("way", ["buffer", "data"])
def test_an_overridden_feed_data_sees_every_byte(loop, way):
    class Reader(millstream.StreamReader):
        def feed_data(self, data):
            super().feed_data(data.upper())

    reader, writer, protocol, transport = made(loop, Reader)
    receive(protocol, b"abc\n") if way == "buffer" else protocol.data_received(b"abc\n")
    assert loop.run_until_complete(reader.readline()) == b"ABC\n"
    transport.closing = True


def test_an_overridden_data_received_sees_every_byte(loop):
    class Protocol(millstream.StreamReaderProtocol):
        def data_received(self, data):
            super().data_received(data[::-1])

    reader, writer, protocol, transport = made(loop, protocol_class=Protocol)
    receive(protocol, b"\ncba")
    assert loop.run_until_complete(reader.readline()) == b"abc\n"
    transport.closing = True


@pytest.mark.parametrize("exc", [None, ConnectionResetError("gone")])
def test_an_overridden_feed_eof_and_set_exception_are_called_when_the_connection_ends(loop, exc):
    calls = []

    class Reader(millstream.StreamReader):
        def feed_eof(self):
            calls.append("feed_eof")
            super().feed_eof()

        def set_exception(self, exc):
            calls.append("set_exception")
            super().set_exception(exc)

    reader, writer, protocol, transport = made(loop, Reader)
    protocol.connection_lost(exc)
    assert calls == ["feed_eof" if exc is None else "set_exception"]
    reader2, writer2, protocol2, transport2 = made(loop, Reader)
    protocol2.eof_received()
    assert calls[1:] == ["feed_eof"]
    transport.closing = transport2.closing = True


def test_an_overridden_connection_made_and_connection_lost_are_called(loop):
    calls = []

    class Protocol(millstream.StreamReaderProtocol):
        def connection_made(self, transport):
            calls.append("made")
            super().connection_made(transport)

        def connection_lost(self, exc):
            calls.append("lost")
            super().connection_lost(exc)

    reader, writer, protocol, transport = made(loop, protocol_class=Protocol)
    protocol.connection_lost(None)
    assert calls == ["made", "lost"]
    transport.closing = True


def test_an_overridden_drain_helper_is_awaited_by_each_drain(loop):
    calls = []

    class Protocol(millstream.StreamReaderProtocol):
        async def _drain_helper(self):
            calls.append("drain")
            await super()._drain_helper()

    reader, writer, protocol, transport = made(loop, protocol_class=Protocol)
    loop.run_until_complete(writer.drain())
    loop.run_until_complete(writer.drain())
    assert calls == ["drain", "drain"]
    transport.closing = True


def test_an_overridden_exception_is_asked_by_each_drain(loop):
    class Reader(millstream.StreamReader):
        def exception(self):
            return OSError("this one says no")

    reader, writer, protocol, transport = made(loop, Reader)
    with pytest.raises(OSError, match="says no"):
        loop.run_until_complete(writer.drain())
    transport.closing = True


def test_an_exception_set_on_the_reader_is_raised_by_drain(loop):
    reader, writer, protocol, transport = made(loop)
    loop.run_until_complete(writer.drain())
    reader.set_exception(OSError("by hand"))
    with pytest.raises(OSError, match="by hand"):
        loop.run_until_complete(writer.drain())
    transport.closing = True


def test_a_transport_that_a_program_closes_by_itself_is_noticed_by_drain(loop):
    reader, writer, protocol, transport = made(loop)
    writer.write(b"x")
    writer.transport.close()
    loop.call_soon(protocol.connection_lost, None)
    with pytest.raises(ConnectionResetError, match="Connection lost"):
        loop.run_until_complete(writer.drain())


def test_a_method_replaced_on_one_writer_is_called(loop):
    reader, writer, protocol, transport = made(loop)
    written = []
    writer.write = written.append
    writer.write(b"seen")
    assert (written, transport.sent) == ([b"seen"], [])
    transport.closing = True


def test_any_loop_and_any_object_that_can_be_referred_to_weakly_makes_a_protocol(loop):
    class Thing:
        _source_traceback = None
        fed = b""

        def feed_data(self, data):
            self.fed += data

        def feed_eof(self):
            self.fed += b"<end>"

        def set_transport(self, transport):
            pass

    thing = Thing()
    protocol = millstream.StreamReaderProtocol(thing, loop=loop)
    protocol.connection_made(Transport())
    receive(protocol, b"abc")
    protocol.data_received(b"def")
    protocol.eof_received()
    assert thing.fed == b"abcdef<end>"


# What they are.


def test_a_protocol_is_one_of_both_kinds_and_of_the_mixin(loop, reader):
    protocol = millstream.StreamReaderProtocol(reader, loop=loop)
    assert isinstance(protocol, asyncio.Protocol)
    assert isinstance(protocol, asyncio.BufferedProtocol)
    assert isinstance(protocol, millstream.FlowControlMixin)


def test_everything_can_be_referred_to_weakly(loop):
    things = made(loop)
    references = [weakref.ref(thing) for thing in things]
    assert [reference() for reference in references] == list(things)
    things[3].closing = True


def test_pickling_and_copying_are_refused_as_they_have_no_meaning(loop):
    reader, writer, protocol, transport = made(loop)
    for thing in (reader, writer, protocol):
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(thing)
        with pytest.raises(TypeError, match="pickle"):
            copy.copy(thing)
    transport.closing = True


# The buffer.


def test_the_buffer_is_a_live_view(reader):
    view = reader._buffer
    assert not view
    assert len(view) == 0
    reader.feed_data(b"hello, world")
    assert view
    assert len(view) == 12
    view.clear()
    assert (len(view), reader.buffered) == (0, 0)


def test_the_buffer_equals_bytes_from_both_sides(reader):
    reader.feed_data(b"abc")
    for same in (b"abc", bytearray(b"abc"), memoryview(b"abc"), reader._buffer):
        assert reader._buffer == same
        assert same == reader._buffer
    for other in (b"abd", bytearray(b""), "abc", None, 3):
        assert reader._buffer != other
        assert other != reader._buffer


def test_the_buffer_can_be_searched_and_read_like_a_bytearray(reader):
    reader.feed_data(b"key: value\r\n")
    view = reader._buffer
    assert view.find(b":") == 3
    assert view.startswith(b"value", 5)
    assert view.endswith(b"\r\n")
    assert view.index(b"\r\n") == 10
    assert b"value" in view
    assert ord("k") in view
    assert (view[0], view[-1], view[:3], view[5:]) == (ord("k"), ord("\n"), b"key", b"value\r\n")
    assert isinstance(view[:3], bytearray)
    assert bytes(view) == b"key: value\r\n"
    assert bytearray(view) == b"key: value\r\n"
    assert list(view)[:3] == [107, 101, 121]
    assert view.decode() == "key: value\r\n"
    assert view.split(b": ") == [b"key", b"value\r\n"]
    with pytest.raises(IndexError):
        view[99]


def test_the_buffer_is_taken_where_bytes_are(reader):
    reader.feed_data(b"key: value\r\n")
    view = reader._buffer
    assert b"".join([b"<", view]) == b"<key: value\r\n"
    assert re.match(rb"\w+", view)[0] == b"key"
    assert memoryview(view).readonly
    assert int.from_bytes(view[:2], "big") == int.from_bytes(b"ke", "big")
    assert view + b"!" == b"key: value\r\n!"
    assert b"!" + view == b"!key: value\r\n"
    snapshot = memoryview(view)
    view.clear()
    assert snapshot == b"key: value\r\n"


def test_the_buffer_can_be_changed_like_a_bytearray(loop, reader):
    reader.feed_data(b"0123456789")
    view = reader._buffer
    del view[:2]
    assert view == b"23456789"
    del view[2:4]
    assert view == b"236789"
    del view[-1]
    assert view == b"23678"
    view.extend(b"ab")
    view += b"cd"
    reader._buffer += b"ef"
    assert view == b"23678abcdef"
    view[:0] = b"pushed back,"
    assert reader._buffer.startswith(b"pushed back,23678")
    view[0] = ord("P")
    view.append(10)
    assert view.pop() == 10
    view.insert(0, ord(">"))
    assert bytes(view) == b">Pushed back,23678abcdef"
    reader._buffer = bytearray(b"another\n") + reader._buffer
    assert loop.run_until_complete(reader.readline()) == b"another\n"
    del view[:]
    assert not reader._buffer


def test_a_search_goes_by_what_was_put_into_the_buffer_by_hand(loop, reader):
    reader.feed_data(b"no line end yet")
    task = loop.create_task(reader.readline())
    loop.run_until_complete(asyncio.sleep(0))
    reader._buffer[:0] = b"a line\n"
    reader.feed_data(b".")
    assert loop.run_until_complete(task) == b"a line\n"
    task = loop.create_task(reader.readline())
    loop.run_until_complete(asyncio.sleep(0))
    reader._buffer.clear()
    reader.feed_data(b"\n")
    assert loop.run_until_complete(task) == b"\n"


# Private attributes that programs set.


def test_a_transport_that_is_set_by_hand_is_paused_and_resumed(loop):
    reader = millstream.StreamReader(limit=4, loop=loop)
    assert reader._transport is None
    reader._transport = transport = Transport()
    assert reader._transport is transport
    reader.feed_data(b"123456789")
    assert transport.calls == ["pause"]
    assert reader._paused
    assert loop.run_until_complete(reader.read(9)) == b"123456789"
    assert transport.calls == ["pause", "resume"]
    assert not reader._paused


def test_a_transport_is_set_once(reader):
    reader.set_transport(Transport())
    with pytest.raises(AssertionError, match="Transport already set"):
        reader.set_transport(Transport())


def test_a_limit_that_is_set_by_hand_counts(loop, reader):
    reader._limit = 3
    assert reader._limit == 3
    assert "limit=3" in repr(reader)
    reader.feed_data(b"12345\n")
    with pytest.raises(ValueError, match="longer than limit"):
        loop.run_until_complete(reader.readline())


def test_a_limit_may_be_as_large_as_any_number(loop):
    for limit in (float("inf"), 1e6, 2**100, True):
        reader = millstream.StreamReader(limit=limit, loop=loop)
        reader.feed_data(b"\n")
        assert loop.run_until_complete(reader.readline()) == b"\n"
    for limit in (0, -1, -float("inf")):
        with pytest.raises(ValueError, match="Limit cannot be <= 0"):
            millstream.StreamReader(limit=limit, loop=loop)
    with pytest.raises(TypeError):
        millstream.StreamReader(limit=None, loop=loop)


def test_an_end_that_is_set_by_hand_counts(loop, reader):
    reader.feed_data(b"rest")
    reader._eof = True
    assert reader._eof
    assert loop.run_until_complete(reader.readline()) == b"rest"
    assert reader.at_eof()


def test_an_exception_that_is_set_by_hand_is_raised_until_it_is_taken_away(loop, reader):
    reader.feed_data(b"line\n")
    reader._exception = OSError("by hand")
    with pytest.raises(OSError, match="by hand"):
        loop.run_until_complete(reader.readline())
    assert isinstance(reader._exception, OSError)
    reader._exception = None
    assert loop.run_until_complete(reader.readline()) == b"line\n"


def test_a_waiter_that_is_set_by_hand_is_woken_and_shown(loop, reader):
    waiter = reader._waiter = loop.create_future()
    assert repr(waiter) in repr(reader)
    reader.feed_data(b"x")
    assert waiter.done()
    assert reader._waiter is None
    waiter = reader._waiter = loop.create_future()
    reader.set_exception(OSError("set"))
    assert isinstance(waiter.exception(), OSError)


def test_a_waiting_read_is_seen_and_woken_through_its_waiter(loop, reader):
    task = loop.create_task(reader.read(1))
    loop.run_until_complete(asyncio.sleep(0))
    assert isinstance(reader._waiter, asyncio.Future)
    reader._buffer.extend(b"y")
    reader._wakeup_waiter()
    assert loop.run_until_complete(task) == b"y"
    assert reader._waiter is None


def test_a_subclass_waits_for_data_by_itself(loop):
    class Reader(millstream.StreamReader):
        async def read_two(self):
            while len(self._buffer) < 2:
                await self._wait_for_data("read_two")
            data = bytes(self._buffer[:2])
            del self._buffer[:2]
            self._maybe_resume_transport()
            return data

    reader = Reader(limit=4, loop=loop)
    reader._transport = transport = Transport()
    task = loop.create_task(reader.read_two())
    loop.run_until_complete(asyncio.sleep(0))
    reader.feed_data(b"a")
    reader.feed_data(b"bcdefghijk")
    assert loop.run_until_complete(task) == b"ab"
    assert transport.calls == ["pause"]
    task = loop.create_task(reader._wait_for_data("one"))
    loop.run_until_complete(asyncio.sleep(0))
    assert transport.calls == ["pause", "resume"]
    with pytest.raises(RuntimeError, match=r"two\(\) called while another coroutine is already waiting"):
        loop.run_until_complete(reader._wait_for_data("two"))
    reader.feed_eof()
    loop.run_until_complete(task)


def test_a_loop_that_is_set_by_hand_makes_the_futures(run, reader):
    class Loop:
        made = 0

        def create_future(self):
            self.made += 1
            return run.loop.create_future()

        def get_debug(self):
            return False

    reader._loop = loop = Loop()
    assert reader._loop is loop
    task = run.loop.create_task(reader.read(1))
    run.loop.run_until_complete(asyncio.sleep(0))
    reader.feed_data(b"z")
    assert run.loop.run_until_complete(task) == b"z"
    assert loop.made == 1


def test_a_read_waits_on_the_future_that_its_loop_makes(run, reader):
    task = run.loop.create_task(reader.read(1))
    run.loop.run_until_complete(asyncio.sleep(0))
    made = run.loop.create_future()
    assert (type(reader._waiter), reader._waiter.get_loop()) == (type(made), made.get_loop())
    reader.feed_data(b"z")
    assert run.loop.run_until_complete(task) == b"z"


def test_a_writer_takes_another_transport_by_hand(loop):
    reader, writer, protocol, transport = made(loop)
    writer._transport = other = Transport()
    writer.write(b"to the other")
    assert (writer.transport, other.sent, transport.sent) == (other, [b"to the other"], [])
    with pytest.raises(AttributeError):
        writer.transport = transport
    transport.closing = other.closing = True


def test_a_protocol_has_the_attributes_of_asyncios(loop, reader):
    protocol = millstream.StreamReaderProtocol(reader, loop=loop)
    assert protocol._stream_reader is reader
    assert protocol._stream_reader_wr() is reader
    assert (protocol._paused, protocol._connection_lost, protocol._over_ssl) == (False, False, False)
    assert (protocol._transport, protocol._task, protocol._client_connected_cb) == (None, None, None)
    protocol._stream_reader_wr = None
    assert protocol._stream_reader is None
    other = millstream.StreamReader(loop=loop)
    protocol._stream_reader_wr = weakref.ref(other)
    receive(protocol, b"x")
    assert other._buffer == b"x"


# Bytes in any shape.


@pytest.mark.parametrize(
    "data",
    [b"ab", bytearray(b"ab"), memoryview(b"ab"), [97, 98], (97, 98)],
    ids=["bytes", "bytearray", "memoryview", "list", "tuple"],
)
def test_whatever_a_bytearray_can_be_extended_with_can_be_fed(reader, data):
    reader.feed_data(data)
    assert reader._buffer == b"ab"


@pytest.mark.parametrize("nothing", [b"", None, (), bytearray()])
def test_feeding_nothing_is_nothing(reader, nothing):
    reader.feed_data(nothing)
    assert not reader._buffer


@pytest.mark.parametrize("data", ["text", 5, object()])
def test_feeding_what_is_not_bytes_is_a_type_error(reader, data):
    with pytest.raises(TypeError):
        reader.feed_data(data)


@pytest.mark.parametrize("data", ["text", 5, None, [1]])
def test_writing_what_is_not_bytes_is_the_type_error_of_asyncios_transports(loop, data):
    reader, writer, protocol, transport = made(loop)
    with pytest.raises(TypeError) as caught:
        writer.write(data)
    kind = type(data).__name__
    assert str(caught.value) == f"data argument must be a bytes-like object, not {kind!r}"
    assert writer.corked == 0
    transport.closing = True
