"""A read is taken by everything that takes a coroutine, does nothing before it is awaited, and frees the reader however it ends."""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys

import millstream
import pytest


@pytest.fixture
def loop(run):
    return run.loop


@pytest.fixture
def reader(loop):
    return millstream.StreamReader(loop=loop)


def test_a_read_is_taken_by_everything_that_takes_a_coroutine(run):
    async def main():
        loop = asyncio.get_running_loop()
        reader = millstream.StreamReader(loop=loop)
        reader.feed_data(b"1\n2\n3\n4\n5\n6\n7\n8\n")
        assert await reader.readline() == b"1\n"
        assert await asyncio.create_task(reader.readline()) == b"2\n"
        assert await asyncio.gather(reader.readline(), reader.readexactly(2)) == [b"3\n", b"4\n"]
        assert await asyncio.wait_for(reader.readuntil(), 5) == b"5\n"
        assert await asyncio.shield(reader.readline()) == b"6\n"
        assert await asyncio.ensure_future(reader.readline()) == b"7\n"
        done, _ = await asyncio.wait([asyncio.create_task(reader.read(2))])
        assert done.pop().result() == b"8\n"
        if sys.version_info >= (3, 11):
            reader.feed_data(b"9\n")
            async with asyncio.timeout(5), asyncio.TaskGroup() as group:
                task = group.create_task(reader.readline())
            assert task.result() == b"9\n"

    run(main())


def test_a_read_is_run_until_complete(loop, reader):
    loop.call_soon(reader.feed_data, b"x\n")
    assert loop.run_until_complete(reader.readline()) == b"x\n"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_a_read_in_an_eager_task_ends_at_once_if_it_can(run):
    async def main():
        loop = asyncio.get_running_loop()
        reader = millstream.StreamReader(loop=loop)
        # uvloop passes on a keyword that the factory of some versions does not know.
        loop.set_task_factory(lambda loop, coro, **_: asyncio.Task(coro, loop=loop, eager_start=True))
        reader.feed_data(b"x\n")
        task = asyncio.create_task(reader.readline())
        assert task.done()
        assert task.result() == b"x\n"
        task = asyncio.create_task(reader.readline())
        assert not task.done()
        reader.feed_data(b"y\n")
        assert await task == b"y\n"

    run(main())


def test_a_read_is_awaitable_and_a_coroutine_to_asyncio(reader):
    read = reader.readline()
    assert inspect.isawaitable(read)
    assert asyncio.iscoroutine(read)
    read.close()


def test_a_read_does_nothing_before_it_is_awaited(loop, reader):
    reads = [reader.readline(), reader.read(), reader.readexactly(3)]
    assert reader._waiter is None
    reader.feed_data(b"abc\n")
    assert reader._buffer == b"abc\n"
    assert loop.run_until_complete(reads[0]) == b"abc\n"


def test_a_read_is_driven_by_hand(reader):
    read = reader.readexactly(2)
    future = read.send(None)
    assert reader._waiter is future
    reader.feed_data(b"ab")
    with pytest.raises(StopIteration) as caught:
        read.send(None)
    assert caught.value.value == b"ab"
    with pytest.raises(RuntimeError, match="already awaited"):
        read.send(None)


def test_what_is_thrown_into_a_read_comes_out_and_the_reader_is_free(reader):
    for thrown in [(KeyError("k"),), (KeyError,), (KeyError, "k"), (KeyError, KeyError("k"), None)]:
        read = reader.readexactly(2)
        read.send(None)
        reader.feed_data(b"a")
        with pytest.raises(KeyError):
            read.throw(*thrown)
        assert reader._waiter is None
        assert reader._buffer == b"a"
        reader._buffer.clear()
    with pytest.raises(TypeError):
        reader.read().throw(int)


def test_a_read_that_is_closed_frees_the_reader(loop, reader):
    read = reader.readline()
    read.send(None)
    read.close()
    read.close()
    assert reader._waiter is None
    reader.feed_data(b"x\n")
    assert loop.run_until_complete(reader.readline()) == b"x\n"


def test_a_read_that_is_forgotten_frees_the_reader(loop, reader):
    reader.readline().send(None)
    gc.collect()
    assert reader._waiter is None
    reader.feed_data(b"x\n")
    assert loop.run_until_complete(reader.readline()) == b"x\n"


def test_a_read_that_waits_in_a_coroutine_that_is_closed_frees_the_reader(reader):
    async def reads():
        await reader.readline()

    coroutine = reads()
    coroutine.send(None)
    coroutine.close()
    assert reader._waiter is None


def test_awaiting_a_read_again_is_a_runtime_error(run):
    async def main():
        reader = millstream.StreamReader(loop=asyncio.get_running_loop())
        reader.feed_data(b"a\nb\n")
        read = reader.readline()
        assert await read == b"a\n"
        with pytest.raises(RuntimeError, match="already awaited"):
            await read
        assert await reader.readline() == b"b\n"

    run(main())


def test_awaiting_a_read_in_two_tasks_hangs_neither(run):
    async def main():
        reader = millstream.StreamReader(loop=asyncio.get_running_loop())
        read = reader.readline()

        async def awaits():
            return await read

        tasks = [asyncio.create_task(awaits()) for _ in range(2)]
        await asyncio.sleep(0.01)
        reader.feed_data(b"x\n")
        outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        assert outcomes[0] == b"x\n"
        assert isinstance(outcomes[1], RuntimeError)

    run(main())


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [("readline", "readline", "readuntil"), ("read", "readexactly", "readexactly"), ("readuntil", "read", "read")],
)
def test_two_tasks_do_not_read_at_once_and_the_first_is_left_alone(run, first, second, name):
    def start(reader, kind):
        return asyncio.create_task(reader.readexactly(1) if kind == "readexactly" else getattr(reader, kind)())

    async def main():
        reader = millstream.StreamReader(loop=asyncio.get_running_loop())
        one, two = start(reader, first), start(reader, second)
        with pytest.raises(RuntimeError) as caught:
            await two
        assert str(caught.value) == f"{name}() called while another coroutine is already waiting for incoming data"
        reader.feed_data(b"x\n")
        reader.feed_eof()
        assert await one == b"x\n"

    run(main())


def test_a_task_of_a_read_can_be_shown(run, capsys):
    async def main():
        reader = millstream.StreamReader(loop=asyncio.get_running_loop())
        task = asyncio.create_task(reader.readline())
        await asyncio.sleep(0)
        assert "Task pending" in repr(task)
        task.get_stack()
        task.print_stack()
        reader.feed_eof()
        await task

    run.loop.set_debug(True)
    run(main())
