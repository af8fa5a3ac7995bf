"""A read that has finished, and the exception that carried its result, are used again: nobody can tell."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref

import millstream
import pytest


@pytest.fixture
def reader(run):
    return millstream.StreamReader(loop=run.loop)


def by_hand(read):
    """Takes the one step of a read that can be answered, and returns the exception that carries the result."""
    try:
        read.__await__().__next__()
    except StopIteration as stop:
        return stop
    raise AssertionError("it waits")


def test_a_result_that_someone_still_holds_is_not_changed_by_the_next(reader):
    reader.feed_data(b"one\ntwo\nthree\n")
    first = by_hand(reader.readline())
    second = by_hand(reader.readline())
    third = by_hand(reader.readline())
    assert [stop.value for stop in (first, second, third)] == [b"one\n", b"two\n", b"three\n"]


def test_the_exception_of_a_read_by_hand_keeps_no_frames_once_the_next_read_has_ended(reader):
    class Local:
        pass

    def step():
        local = Local()
        reader.feed_data(b"x\ny\n")
        assert by_hand(reader.readline()).value == b"x\n"
        return weakref.ref(local)

    local = step()
    assert by_hand(reader.readline()).value == b"y\n"
    gc.collect()
    assert local() is None


def test_the_exception_of_a_read_by_hand_has_its_result_in_its_value(run):
    async def show(module):
        reader = module.StreamReader(loop=run.loop)
        reader.feed_data(b"1\n2\n3\n")
        # So that what comes next is used again, whatever became of the last one.
        await reader.readline()
        await reader.readline()
        stop = by_hand(reader.readline())
        return stop.value, stop.args

    assert [run(show(module)) for module in (asyncio, millstream)] == [(b"3\n", (b"3\n",)), (b"3\n", ())]


def test_results_of_every_length_arrive_in_any_order(run, reader):
    lengths = [1, 4095, 4096, 4097, 60_000, 2, 5000, 1]

    async def main():
        for length in lengths:
            reader.feed_data(bytes([length % 251]) * length)
            assert await reader.readexactly(length) == bytes([length % 251]) * length

    run(main())


def test_a_read_that_someone_still_holds_stays_finished(run, reader):
    async def main():
        reader.feed_data(b"one\ntwo\nthree\n")
        held = reader.readline()
        assert await held == b"one\n"
        assert await reader.readline() == b"two\n"
        with pytest.raises(RuntimeError, match="already awaited"):
            await held
        assert await reader.readline() == b"three\n"

    run(main())


def test_reads_that_were_made_before_any_was_awaited_are_different_ones(run, reader):
    async def main():
        reader.feed_data(b"0\n")
        assert await reader.readline() == b"0\n"
        reader.feed_data(b"one\nabcdef")
        line, exactly, some = reader.readline(), reader.readexactly(3), reader.read(2)
        assert [await line, await exactly, await some] == [b"one\n", b"abc", b"de"]

    run(main())


def test_a_read_that_is_used_again_forgets_its_deadline(run, reader):
    async def main():
        reader.feed_data(b"a\n")
        assert await reader.readline(deadline=run.loop.time() + 0.01) == b"a\n"
        run.loop.call_later(0.05, reader.feed_data, b"b\n")
        assert await reader.readline() == b"b\n"

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="before, the interpreter counts differently")
def test_a_loop_of_reads_makes_no_objects_but_the_results(run, reader):
    async def main():
        reader.feed_data(b"x" * 15 + b"\n" * 1)
        await reader.readline()
        reader.feed_data((b"x" * 15 + b"\n") * 3000)
        before = sys.getallocatedblocks()
        for _ in range(3000):
            await reader.readline()
        assert sys.getallocatedblocks() - before < 50

    run(main())


def test_a_reader_with_a_read_to_use_again_goes_at_once(run):
    async def main():
        reader = millstream.StreamReader(loop=run.loop)
        reader.feed_data(b"x\n")
        assert await reader.readline() == b"x\n"
        alive = weakref.ref(reader)
        del reader
        return alive

    gc.collect()
    gc.disable()
    try:
        assert run(main())() is None
    finally:
        gc.enable()
