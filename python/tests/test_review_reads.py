"""What reads, limits, exceptions and the buffer do where programs reach far inside: as asyncio's own, side by side where that
can be shown."""

from __future__ import annotations

import asyncio
import gc
import sys
import types
import weakref

import millstream
import pytest
from by_hand import Transport, made
from support import turns

#: asyncio's own, even where a test has installed the others.
stock = types.SimpleNamespace(
    StreamReader=asyncio.StreamReader,
    StreamReaderProtocol=asyncio.StreamReaderProtocol,
    StreamWriter=asyncio.StreamWriter,
)


@pytest.fixture
def loop(run):
    return run.loop


def both(show, *arguments):
    """What asyncio's does, and what this one does."""
    return [show(module, *arguments) for module in (stock, millstream)]


def connected(module, loop):
    return made(loop, module.StreamReader, module.StreamReaderProtocol, module)


# One read, awaited twice.


@pytest.mark.parametrize("deadline", [None, 60])
def test_who_awaits_a_read_second_is_refused_and_the_first_gets_its_line(run, deadline):
    async def main(reader, read):
        async def awaits():
            return await read

        first = asyncio.create_task(awaits())
        await turns(2)
        waiter = reader._waiter
        with pytest.raises(RuntimeError, match="being awaited already"):
            await awaits()
        assert reader._waiter is waiter
        reader.feed_data(b"x\n")
        # Woken, and not yet gone on.
        with pytest.raises(RuntimeError, match="being awaited already"):
            await awaits()
        assert await first == b"x\n"

    reader = stock.StreamReader(loop=run.loop)
    run(main(reader, reader.readline()))
    reader = millstream.StreamReader(loop=run.loop)
    run(main(reader, reader.readline(deadline=deadline and run.loop.time() + deadline)))


@pytest.mark.parametrize("deadline", [None, 60])
def test_a_second_step_of_a_read_that_waits_is_refused_and_touches_nothing(loop, deadline):
    reader = millstream.StreamReader(loop=loop)
    read = reader.readexactly(2, deadline=deadline and loop.time() + deadline)
    future = read.send(None)
    reader.feed_data(b"a")
    for step in (lambda: read.send(None), lambda: next(read)):
        with pytest.raises(RuntimeError, match="being awaited already"):
            step()
    assert reader._waiter is future
    assert not future.done()
    reader.feed_data(b"b")
    with pytest.raises(StopIteration) as caught:
        read.send(None)
    assert caught.value.value == b"ab"


def test_a_second_who_comes_when_the_first_was_cancelled_is_refused_and_the_reader_is_free(run):
    async def main():
        reader = millstream.StreamReader(loop=asyncio.get_running_loop())
        read = reader.readline()

        async def awaits():
            return await read

        first = asyncio.create_task(awaits())
        await turns(2)
        first.cancel()
        with pytest.raises(RuntimeError):
            await awaits()
        with pytest.raises(asyncio.CancelledError):
            await first
        reader.feed_data(b"x\n")
        assert await reader.readline() == b"x\n"

    run(main())


@pytest.mark.parametrize("deadline", [None, 60])
def test_a_read_whose_future_a_stranger_completes_looks_again_and_waits_on(run, deadline):
    async def main():
        loop = asyncio.get_running_loop()
        reader = millstream.StreamReader(loop=loop)
        task = asyncio.create_task(reader.readline(deadline=deadline and loop.time() + deadline))
        await turns(2)
        reader._waiter.set_result(None)
        await turns(3)
        assert not task.done()
        reader.feed_data(b"x\n")
        assert await task == b"x\n"

    run(main())


# Reads by hand.


def test_what_is_thrown_into_a_read_that_has_finished_is_a_runtime_error(loop):
    def show(module):
        reader = module.StreamReader(loop=loop)
        reader.feed_data(b"x\n")
        read = reader.readline()
        with pytest.raises(StopIteration):
            read.send(None)
        with pytest.raises(RuntimeError, match="already awaited"):
            read.throw(KeyError)
        return reader._buffer

    assert both(show) == [b"", b""]


def test_a_read_that_has_not_begun_takes_no_value(loop):
    def show(module):
        reader = module.StreamReader(loop=loop)
        reader.feed_data(b"x\n")
        read = reader.readline()
        with pytest.raises(TypeError, match="can't send non-None value to a just-started"):
            read.send(5)
        with pytest.raises(StopIteration) as caught:
            read.send(None)
        return caught.value.value

    assert both(show) == [b"x\n", b"x\n"]


def test_a_read_cannot_be_referred_to_weakly(loop):
    def show(module):
        read = module.StreamReader(loop=loop).readline()
        try:
            return weakref.ref(read)() is read
        except TypeError:
            return "TypeError"
        finally:
            read.close()

    assert both(show) == [True, "TypeError"]


# Deadlines.


def test_a_read_with_a_deadline_that_is_forgotten_frees_the_reader_at_once_and_nobody_is_told_later(run):
    async def main():
        loop = asyncio.get_running_loop()
        reader = millstream.StreamReader(loop=loop)
        reader.readline(deadline=loop.time() + 0.02).send(None)
        gc.collect()
        assert reader._waiter is None
        reader.feed_data(b"x\n")
        assert await reader.readline() == b"x\n"
        await asyncio.sleep(0.04)
        gc.collect()

    run(main())


def test_a_deadline_does_not_keep_a_reader(run):
    async def main():
        loop = asyncio.get_running_loop()
        reader = millstream.StreamReader(loop=loop)
        reader.readline(deadline=loop.time() + 60).send(None)
        kept = weakref.ref(reader)
        del reader
        gc.collect()
        assert kept() is None

    run(main())


@pytest.mark.parametrize("debug", [False, True])
def test_a_deadline_still_ends_a_read_with_the_name_of_its_method(run, debug):
    async def main():
        loop = asyncio.get_running_loop()
        reader = millstream.StreamReader(loop=loop)
        with pytest.raises(asyncio.TimeoutError, match=r"^readexactly\(\): the deadline came before the data$"):
            await reader.readexactly(2, deadline=loop.time() + 0.01)
        assert reader._waiter is None

    run.loop.set_debug(debug)
    run(main())


class FeedingLoop:
    """A loop whose methods feed a reader."""

    def __init__(self, loop, method):
        self.loop = loop
        self.method = method
        self.feed = None

    def __getattr__(self, name):
        found = getattr(self.loop, name)
        if name == self.method and self.feed is not None:
            feed, self.feed = self.feed, None
            feed()
        return found


@pytest.mark.parametrize("method", ["call_at", "create_future"])
@pytest.mark.parametrize("end", ["line", "eof", "exception"])
def test_what_comes_while_a_read_prepares_to_wait_is_not_missed(run, method, end):
    async def main():
        loop = FeedingLoop(asyncio.get_running_loop(), method)
        reader = millstream.StreamReader(loop=loop)
        loop.feed = {
            "line": lambda: reader.feed_data(b"x\n"),
            "eof": reader.feed_eof,
            "exception": lambda: reader.set_exception(KeyError()),
        }[end]
        read = asyncio.wait_for(reader.readline(deadline=loop.time() + 60), 5)
        if end == "exception":
            with pytest.raises(KeyError):
                await read
        else:
            assert await read == {"line": b"x\n", "eof": b""}[end]
        assert reader._waiter is None

    run(main())


# Exceptions.


class Refused(Exception):
    """Its constructor does not take what it makes."""

    made = 0

    def __init__(self, code):
        type(self).made += 1
        super().__init__(f"code {code}")
        self.code = code


class Opaque(Exception):
    """What it says is not among its arguments."""

    __slots__ = ("code",)

    def __init__(self, code):
        super().__init__()
        self.code = code

    def __str__(self):
        return f"code {self.code}"


def told(loop, exc):
    """What a reader, a drain and ``wait_closed()`` get to know of the loss of their connection."""
    reader, writer, protocol, transport = made(loop)
    protocol.pause_writing()
    drain = loop.create_task(writer.drain())
    loop.run_until_complete(turns(2))
    protocol.connection_lost(exc)
    transport.closing = True

    async def all_of_it():
        return await asyncio.gather(reader.read(), drain, writer.wait_closed(), return_exceptions=True)

    return loop.run_until_complete(all_of_it())


def test_an_exception_that_is_told_to_several_is_constructed_once_and_says_the_same(loop):
    Refused.made = 0
    exc = Refused(5)
    found = told(loop, exc)
    assert [str(one) for one in found] == ["code 5"] * 3
    assert [(type(one), one.code) for one in found] == [(Refused, 5)] * 3
    assert len({id(one) for one in found}) == 3
    assert Refused.made == 1


def test_an_exception_that_cannot_be_made_again_is_told_itself(loop):
    exc = Opaque(5)
    assert all(one is exc for one in told(loop, exc))


def test_an_error_of_the_system_keeps_its_number_in_each_of_its_copies(loop):
    found = told(loop, ConnectionResetError(104, "Connection reset by peer"))
    assert [(type(one), one.errno, str(one)) for one in found] == [
        (ConnectionResetError, 104, "[Errno 104] Connection reset by peer")
    ] * 3
    assert len({id(one) for one in found}) == 3


@pytest.mark.parametrize("when", ["attribute", "before the writer", "attribute before the writer", "lost before"])
def test_a_drain_raises_an_exception_that_the_reader_has_wherever_it_comes_from(loop, when):
    def show(module):
        reader = module.StreamReader(loop=loop)
        protocol = module.StreamReaderProtocol(reader, loop=loop)
        transport = Transport()
        protocol.connection_made(transport)
        if when == "before the writer":
            reader.set_exception(KeyError("k"))
        elif when == "attribute before the writer":
            reader._exception = KeyError("k")
        elif when == "lost before":
            protocol.connection_lost(KeyError("k"))
        writer = module.StreamWriter(transport, protocol, reader, loop)
        if when == "attribute":
            loop.run_until_complete(asyncio.wait_for(writer.drain(), 5))
            reader._exception = KeyError("k")
        with pytest.raises(KeyError):
            loop.run_until_complete(asyncio.wait_for(writer.drain(), 5))
        if protocol._closed.done():
            protocol._closed.exception()
        transport.closing = True

    both(show)


def chain(exc):
    """The classes of an exception and of its contexts."""
    found = []
    while exc is not None:
        found.append(type(exc).__name__)
        exc = exc.__context__
    return found


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda reader: reader.readexactly(9), ["IncompleteReadError", "KeyError"]),
        (lambda reader: reader.readuntil(b"."), ["LimitOverrunError", "KeyError"]),
        (lambda reader: reader.readuntil(b"\n"), ["LimitOverrunError", "KeyError"]),
        (lambda reader: reader.readline(), ["ValueError", "LimitOverrunError", "KeyError"]),
        (lambda reader: reader.readexactly(-1), ["ValueError", "KeyError"]),
        (lambda reader: reader.readuntil(b""), ["ValueError", "KeyError"]),
    ],
)
def test_an_exception_of_a_read_has_the_one_that_is_being_handled_as_its_context(run, read, expected):
    async def fails(reader):
        try:
            raise KeyError
        except KeyError:
            await read(reader)

    def show(module):
        reader = module.StreamReader(limit=4, loop=run.loop)
        reader.feed_data(b"123456\n")
        reader.feed_eof()
        with pytest.raises((ValueError, EOFError, asyncio.LimitOverrunError)) as caught:
            run(fails(reader))
        return chain(caught.value)

    assert both(show) == [expected, expected]


def test_an_exception_that_was_set_has_the_one_that_is_being_handled_as_its_context(run):
    async def fails(reader):
        try:
            raise KeyError
        except KeyError:
            await reader.read()

    def show(module):
        reader = module.StreamReader(loop=run.loop)
        reader.set_exception(OSError())
        with pytest.raises(OSError) as caught:
            run(fails(reader))
        return chain(caught.value)

    assert both(show) == [["OSError", "KeyError"]] * 2


def test_the_refusal_of_a_second_reader_has_the_exception_that_is_being_handled_as_its_context(run):
    async def fails(reader):
        first = asyncio.ensure_future(reader.read())
        await turns(2)
        try:
            raise KeyError
        except KeyError:
            await reader.read()
        finally:
            reader.feed_eof()
            await first

    def show(module):
        with pytest.raises(RuntimeError) as caught:
            run(fails(module.StreamReader(loop=run.loop)))
        return chain(caught.value)

    assert both(show) == [["RuntimeError", "KeyError"]] * 2


# The bound.


class Stubborn(Transport):
    """Refuses to be paused, and to be resumed when it was not paused."""

    refusals = 2

    def pause_reading(self):
        super().pause_reading()
        if self.calls.count("pause") <= self.refusals:
            raise OSError("not now")

    def resume_reading(self):
        super().resume_reading()
        if self.calls.count("pause") <= self.refusals:
            raise RuntimeError("not paused")


def test_a_transport_that_could_not_be_paused_is_asked_again(loop):
    reader = millstream.StreamReader(limit=4, loop=loop)
    transport = Stubborn()
    reader.set_transport(transport)
    for _ in range(2):
        with pytest.raises(OSError, match="not now"):
            reader.feed_data(b"123456789")
        assert not reader._paused
    reader.feed_data(b"0")
    assert reader._paused
    reader.feed_data(b"0")
    assert transport.calls == ["pause"] * 3
    assert loop.run_until_complete(reader.readexactly(20)) == b"123456789" * 2 + b"00"
    assert transport.calls == ["pause"] * 3 + ["resume"]
    assert not reader._paused


def test_no_read_loses_its_bytes_to_a_transport_that_could_not_be_paused(loop):
    reader = millstream.StreamReader(limit=4, loop=loop)
    transport = Stubborn()
    transport.refusals = sys.maxsize
    reader.set_transport(transport)
    with pytest.raises(OSError, match="not now"):
        reader.feed_data(b"123456789" * 3)
    # More than the bound is left behind the first of them.
    for _ in range(3):
        assert loop.run_until_complete(reader.readexactly(9)) == b"123456789"
    assert "resume" not in transport.calls
    task = loop.create_task(reader.readexactly(1))
    loop.run_until_complete(turns(2))
    reader.feed_data(b"1")
    assert loop.run_until_complete(task) == b"1"
    assert "resume" not in transport.calls


@pytest.mark.parametrize("limit", [3, 4.5, float("inf"), 2**70, sys.maxsize])
def test_a_limit_set_by_hand_is_any_number(loop, limit):
    def show(module):
        reader = module.StreamReader(limit=1, loop=loop)
        reader._limit = limit
        reader.feed_data(b"123\n")
        return loop.run_until_complete(reader.readline()), reader._limit == limit or reader._limit

    theirs, ours = both(show)
    assert theirs == (b"123\n", True)
    assert ours == (b"123\n", {3: True, 4.5: 4, sys.maxsize: True}.get(limit, sys.maxsize))


@pytest.mark.parametrize("limit", [-1, -(2**70), float("-inf"), 0])
def test_a_limit_set_by_hand_that_is_less_than_one_counts_as_one(loop, limit):
    def show(module, line):
        reader = module.StreamReader(loop=loop)
        reader._limit = limit
        reader.feed_data(line)
        try:
            return loop.run_until_complete(reader.readline())
        except ValueError:
            return "ValueError"

    assert both(show, b"12\n") == ["ValueError"] * 2
    assert both(show, b"1\n") == ["ValueError", b"1\n"]
    assert both(show, b"\n") == [b"\n" if limit == 0 else "ValueError", b"\n"]


def test_a_limit_set_by_hand_that_is_no_number_is_refused(loop):
    reader = millstream.StreamReader(limit=7, loop=loop)
    for limit in ("1", None, b"1"):
        with pytest.raises(TypeError):
            reader._limit = limit
    assert reader._limit == 7


# The buffer, and what subclasses override.


@pytest.mark.parametrize("place", [slice(0, 0), slice(1, 2), slice(3, None), slice(None), slice(3, 3), slice(None, None, -1)])
def test_what_a_generator_feeds_while_it_is_put_into_the_buffer_is_kept(loop, place):
    def show(module):
        reader = module.StreamReader(loop=loop)
        reader.feed_data(b"abc")

        def feeds():
            yield from b"12"
            reader.feed_data(b"fed")
            yield from b"3456"

        try:
            reader._buffer[place] = feeds()
        except ValueError as error:
            assert place.step == -1, error
            reader._buffer[place] = b"turned"
        return bytes(reader._buffer)

    theirs, ours = both(show)
    assert ours == theirs


def test_what_a_number_feeds_while_it_is_put_into_the_buffer_is_kept(loop):
    # Not side by side: a `bytearray` that grows meanwhile is written to where it was.
    reader = millstream.StreamReader(loop=loop)
    reader.feed_data(b"abc")

    class Feeds:
        def __index__(self):
            reader.feed_data(b"fed")
            return 49

    reader._buffer[0] = Feeds()
    assert reader._buffer == b"1bcfed"


@pytest.mark.parametrize("value", [5, 5.0, "text", None, object(), [256], [b"x"]])
def test_what_is_no_bytes_is_not_put_into_the_buffer(loop, value):
    def show(module):
        reader = module.StreamReader(loop=loop)
        reader.feed_data(b"abc")
        with pytest.raises((TypeError, ValueError)) as caught:
            reader._buffer[1:2] = value
        assert reader._buffer == b"abc"
        return type(caught.value), str(caught.value)

    theirs, ours = both(show)
    assert ours == theirs


def test_an_overridden_wakeup_waiter_is_not_called_by_what_arrives(loop):
    def show(module):
        called = []

        class Reader(module.StreamReader):
            def _wakeup_waiter(self):
                called.append(True)
                super()._wakeup_waiter()

        reader = Reader(loop=loop)
        task = loop.create_task(reader.readline())
        loop.run_until_complete(turns(2))
        reader.feed_data(b"x\n")
        assert loop.run_until_complete(task) == b"x\n"
        return called

    assert both(show) == [[True], []]


# Reads of a subclass's own, on what is inside.


async def all_of(self, count):
    while len(self._buffer) < count:
        await self._wait_for_data("all_of")
    data = bytes(self._buffer[:count])
    del self._buffer[:count]
    return data


def with_own_read(module, loop):
    cls = type("WithOwnRead", (module.StreamReader,), {"all_of": all_of})
    return made(loop, cls, module.StreamReaderProtocol, module)


def test_a_read_of_a_subclass_that_waits_is_told_of_the_loss_of_the_connection(loop, run):
    async def main(module):
        reader, writer, protocol, _ = with_own_read(module, loop)
        reading = asyncio.create_task(reader.all_of(30))
        await turns(2)
        protocol.data_received(b"abc")
        await turns(3)
        protocol.connection_lost(ConnectionResetError("gone"))
        with pytest.raises(ConnectionResetError, match="gone"):
            await asyncio.wait_for(reading, 1)

    for module in (stock, millstream):
        run(main(module))


def test_a_read_of_a_subclass_that_comes_after_the_loss_gets_what_had_arrived_and_then_the_loss(loop, run):
    async def main():
        reader, writer, protocol, _ = with_own_read(millstream, loop)
        reading = asyncio.create_task(reader.all_of(3))
        await turns(2)
        # In one turn.
        protocol.data_received(b"abcdef")
        protocol.connection_lost(ConnectionResetError("gone"))
        assert await asyncio.wait_for(reading, 1) == b"abc"
        assert await reader.all_of(3) == b"def"
        for _ in range(2):
            with pytest.raises(ConnectionResetError, match="gone"):
                await asyncio.wait_for(reader.all_of(1), 1)

    run(main())
