"""Whatever is done to a reader, in whatever order: asyncio's and this one say the same.

Random scripts of bytes, ends, exceptions, reads, cancellations and limits run step by step against both readers of the same
Python. What is known to differ is left out where the scripts are made, by name, and shown in ``test_differences.py``. A
failure names the seed: ``MILLSTREAM_SEED=123 pytest python/tests/test_differential.py`` runs that script alone.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys

import millstream
import pytest

Stock = asyncio.StreamReader

SCRIPTS = 4000
#: With several at once CPython's reader searches since 3.13 only.
SEPARATORS = [b"\n", b"\r\n", b";", b"\n\n", b";\r\n", bytearray(b"\n"), b"", b"ab"]
TUPLES = [(b"\n", b";"), (b"\r\n", b"\n"), (b";", b"ab\n", b"b\n"), (b"aba", b"ab"), (b"",), ()]


class Boom(Exception):
    """Set by hand."""


class Transport:
    """Remembers whether it is paused, and holds its reader to asking for changes only."""

    def __init__(self, can_pause):
        self.can_pause = can_pause
        self.paused = False

    def pause_reading(self):
        if not self.can_pause:
            raise NotImplementedError
        assert not self.paused
        self.paused = True

    def resume_reading(self):
        assert self.paused
        self.paused = False


class Side:
    """One of the two readers, with its transport and what was asked of it."""

    def __init__(self, reader, transport):
        self.reader = reader
        self.transport = transport
        if transport is not None:
            reader.set_transport(transport)
        self.tasks = []

    def do(self, name, *args):
        """A call that does not wait, with its outcome."""
        try:
            return getattr(self.reader, name)(*args)
        except Exception as exc:
            return told(exc)

    def start(self, read, direct):
        kind, *args = read
        if kind == "for":
            awaitable = self.next_line()
        elif direct:
            awaitable = getattr(self.reader, kind)(*args)
        else:
            awaitable = self.awaits(kind, *args)
        self.tasks.append(asyncio.get_running_loop().create_task(awaitable))

    async def awaits(self, kind, *args):
        return await getattr(self.reader, kind)(*args)

    async def next_line(self):
        async for line in self.reader:
            return line
        return "no more lines"

    def seen(self, with_buffer):
        """Everything that can be seen from outside."""
        reader = self.reader
        return {
            "reads": [outcome(task) for task in self.tasks],
            "at_eof": reader.at_eof(),
            "exception": told(reader.exception()),
            "waits": reader._waiter is not None,
            "limit": reader._limit,
            "paused": self.transport is not None and self.transport.paused,
            "has a transport": reader._transport is not None,
            "buffer": bytes(reader._buffer) if with_buffer else None,
            "repr": repr(reader) if with_buffer and reader._waiter is None and reader._transport is None else None,
        }


def told(exc):
    """An exception as what a program can tell apart."""
    if exc is None:
        return None
    return (
        type(exc),
        str(exc),
        getattr(exc, "partial", None),
        getattr(exc, "expected", None),
        getattr(exc, "consumed", None),
        told(exc.__context__),
    )


def outcome(task):
    if not task.done():
        return "waits"
    if task.cancelled():
        return "cancelled"
    exc = task.exception()
    return told(exc) if exc is not None else task.result()


def a_read(rng):
    kind = rng.choice(["read", "read", "all", "readexactly", "readexactly", "readline", "readuntil", "readuntil", "for"])
    if kind == "read":
        return ("read", rng.choice([0, 1, 2, 5, 40]))
    if kind == "all":
        return ("read", -1)
    if kind == "readexactly":
        return ("readexactly", rng.choice([-1, 0, 1, 2, 3, 7, 20, 60]))
    if kind == "readuntil":
        several = TUPLES if sys.version_info >= (3, 13) else []
        return ("readuntil", rng.choice(SEPARATORS + several))
    return (kind,)


def some_bytes(rng):
    if rng.random() < 0.1:
        return rng.choice([b"", bytearray(b"ab\n"), memoryview(b";a\n")])
    alphabet = rng.choice([b"ab\n", b"ab;\r\n", b"aaaaaab\r\n", b"\n;", b"ab"])
    return bytes(rng.choice(alphabet) for _ in range(rng.choice([1, 1, 2, 3, 5, 9, 30])))


class Script:
    """The steps of one script, chosen as it runs."""

    def __init__(self, seed, loop):
        self.rng = rng = random.Random(seed)
        self.steps = []
        limit = rng.choice([1, 2, 4, 8, 20, 2**16])
        transport = rng.choice(["can pause", "can pause", "cannot pause", None])
        self.steps.append(("limit", limit, "transport", transport))
        self.stock, self.ours = self.sides = [
            Side(cls(limit=limit, loop=loop), transport and Transport(transport == "can pause"))
            for cls in (Stock, millstream.StreamReader)
        ]
        #: What was asked for, in the order of the sides' tasks.
        self.reads = []
        self.compares_pauses = True

    @property
    def waits(self):
        """Which read has not ended yet: there is one at most that can wait."""
        unfinished = [n for n, task in enumerate(self.stock.tasks) if not task.done()]
        return unfinished[0] if unfinished else None

    @property
    def pending(self):
        return None if self.waits is None else self.reads[self.waits]

    async def run(self):
        for _ in range(self.rng.randrange(4, 18)):
            self.turn = turn = len(self.steps)
            for _ in range(self.rng.choice([1, 1, 1, 2, 3])):
                self.step()
                if self.steps[-1][0] == "second read":
                    break
            kinds = [step[0] for step in self.steps[turn:]]
            if "cancel" in kinds[:-1]:
                # What is fed in the turn of a cancellation still counts as waited for: ours pauses with the next bytes.
                self.compares_pauses = False
            await self.settle()
        self.compares_pauses = False
        self.both("feed_eof")
        await self.settle()
        self.reads.append(("read", -1))
        for side in self.sides:
            side.start(("read", -1), direct=True)
        await self.settle()

    def step(self):
        rng = self.rng
        kind = rng.choice(["feed"] * 6 + ["read"] * 5 + ["cancel"] * 2 + ["eof", "exception", "limit"])
        reads_all = self.pending == ("read", -1)
        if kind == "feed":
            self.both("feed_data", some_bytes(rng))
        elif kind == "eof" and rng.random() < 0.4:
            self.both("feed_eof")
            # After the end, asyncio's does not resume behind an incomplete read. Nothing can come any more.
            self.compares_pauses = False
        # asyncio's read(-1) has already taken what it then loses.
        elif kind == "exception" and rng.random() < 0.3 and not reads_all and not self.was_woken():
            self.both("set_exception", Boom("by hand"))
            self.stops_waiting()
        elif kind == "cancel" and self.pending is not None and not reads_all:
            self.steps.append(("cancel",))
            for side in self.sides:
                side.tasks[self.waits].cancel()
            self.stops_waiting()
        elif kind == "limit" and rng.random() < 0.5 and self.pending is None:
            limit = rng.choice([1, 2, 4, 8, 20])
            self.steps.append(("_limit", limit))
            # Ours pauses or resumes with the next read already.
            self.compares_pauses = False
            for side in self.sides:
                side.reader._limit = limit
        elif kind == "read":
            self.read()

    def stops_waiting(self):
        """A read that was paid for with more than the buffer's bound waits no more."""
        if self.stock.reader._limit * 2 < self.ours.reader.buffered:
            # asyncio's pauses again with the next bytes, ours with the next read already.
            self.compares_pauses = False

    def was_woken(self):
        """Bytes that came in this turn have woken asyncio's read, which then does not hear of an exception any more."""
        return self.pending is not None and any(step[0] != "read" for step in self.steps[self.turn :])

    def read(self):
        read = a_read(self.rng)
        pending = self.pending
        if pending is None:
            self.steps.append(read)
            if read == ("read", -1):
                # asyncio's takes the bytes as they come, ours when they are complete.
                self.compares_pauses = False
        # asyncio's other reads miss what a second reader takes from under them, and its read(-1) takes what it then loses.
        elif pending[0] == "readexactly" and read != ("read", -1):
            self.steps.append(("second read", read))
        else:
            return
        self.reads.append(read)
        direct = self.rng.random() < 0.5
        for side in self.sides:
            side.start(read, direct)

    def both(self, name, *args):
        self.steps.append((name, *args))
        ours = self.ours.do(name, *args)
        stock = self.stock.do(name, *args)
        assert ours == stock, f"{name}: {ours!r} is not {stock!r}"

    async def settle(self):
        for _ in range(4):
            await asyncio.sleep(0)
        with_buffer = self.pending != ("read", -1)
        ours, stock = self.ours.seen(with_buffer), self.stock.seen(with_buffer)
        limit, buffered = self.ours.reader._limit, self.ours.reader.buffered
        # Between the two marks a read that was larger than the upper one leaves asyncio's paused, and ours not.
        if not self.compares_pauses or (limit < buffered <= 2 * limit):
            for side in ours, stock:
                del side["paused"], side["has a transport"], side["repr"]
        assert ours == stock, {key: (ours[key], stock[key]) for key in ours if ours[key] != stock[key]}

    async def close(self):
        for side in self.sides:
            for task in side.tasks:
                task.cancel()
            await asyncio.gather(*side.tasks, return_exceptions=True)


async def play(seed, loop):
    script = Script(seed, loop)
    try:
        await script.run()
    except AssertionError as exc:
        steps = "\n".join(f"  {step}" for step in script.steps)
        pytest.fail(f"seed {seed}: {exc}\n{steps}", pytrace=False)
    finally:
        await script.close()


def test_random_scripts_end_the_same_on_both_readers(run):
    first = os.environ.get("MILLSTREAM_SEED")
    seeds = [int(first)] if first else range(SCRIPTS)

    async def main():
        for seed in seeds:
            await play(seed, run.loop)

    run(main())


def test_fresh_scripts_end_the_same_on_both_readers(run):
    async def main():
        for _ in range(SCRIPTS // 5):
            await play(random.SystemRandom().randrange(1 << 48), run.loop)

    run(main())
