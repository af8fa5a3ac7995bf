"""The graceful stop: stop accepting, tell the handlers, end idle connections, cut off the rest at the deadline."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stopped:
    """What became of the connections that a server had when it was stopped; made by ``server.stop()``."""

    #: Ended by themselves: their handler was done, or their peer went.
    finished: int
    #: Were ended because they were idle, or had not got through their TLS handshake.
    idle: int
    #: Were cut off at the deadline: reset, and their handler cancelled.
    aborted: int


def stopping_of(served: Any) -> Stopping:
    """The token of a connection, from what the server knows of it that accepted it, if one did."""
    return Stopping(None if served is None else served.stop)


class Stopping:
    """Whether the server of a connection is being stopped; made by ``reader.stopping()`` and ``writer.stopping()``. It
    outlives its connection.

    >>> import asyncio, millstream
    >>> async def tick(reader, writer):
    ...     stopping = writer.stopping()
    ...     while not stopping.is_requested():
    ...         writer.write(b"tick\\n")
    ...         try:
    ...             await asyncio.wait_for(stopping.requested(), timeout=60)
    ...         except asyncio.TimeoutError:
    ...             pass
    ...     writer.write(b"goodbye\\n")
    ...     await writer.aclose()
    >>> async def main():
    ...     server = await millstream.start_server(tick, "127.0.0.1", 0)
    ...     reader, writer = await millstream.open_connection(*server.sockets[0].getsockname())
    ...     print(await reader.readline())
    ...     print(await server.stop(5))
    ...     print(await reader.readline())
    ...     await writer.aclose()
    >>> asyncio.run(main())
    b'tick\\n'
    Stopped(finished=1, idle=0, aborted=0)
    b'goodbye\\n'
    """

    __slots__ = ("_stop",)

    def __init__(self, stop: Stop | None) -> None:
        self._stop = stop

    async def requested(self) -> None:
        """Waits until ``server.stop()`` is called. Never ends for a connection that no server accepted. Nothing is lost if
        it is cancelled."""
        if self._stop is None:
            await asyncio.get_running_loop().create_future()
        else:
            await self._stop.requested.wait()

    def is_requested(self) -> bool:
        """Whether ``server.stop()`` was called."""
        return self._stop is not None and self._stop.deadline is not None

    def time_left(self) -> float | None:
        """How many seconds this connection has until it is cut off, or ``None`` if its server is not being stopped."""
        return None if self._stop is None else self._stop.time_left()


class Stop:
    """The stop of one server: not asked for, or how far it is."""

    def __init__(self, clients: Any) -> None:
        self._clients = clients
        self.requested = asyncio.Event()
        #: When the rest is cut off, by the loop's clock; ``None`` until a stop is asked for.
        self.deadline: float | None = None
        self._ends_silent = False
        self._cuts_off = False
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._has_settled = False
        self._over: asyncio.Future[None] | None = None
        self._counts = {"finished": 0, "idle": 0, "aborted": 0}

    async def run(self, within: float) -> Stopped:
        within = check_seconds("stop()", within)
        # Who gives up waiting leaves the stop going on.
        await asyncio.shield(self.begin(within))
        return Stopped(**self._counts)

    def begin(self, within: float) -> asyncio.Future[None]:
        """Everything that happens at once; the rest is left to timers. Returns what is done when the stop is over."""
        loop = self._clients.loop
        within = min(max(within, 0), _FAR_FUTURE)
        is_first = self._over is None
        over = self._over = self._over or loop.create_future()
        self._clients.close_server()
        deadline = loop.time() + within
        is_nearer = self.deadline is None or deadline < self.deadline
        if is_nearer:
            self.deadline = deadline
        self.requested.set()
        if over.done() or self._cuts_off:
            return over
        if is_nearer:
            self._at("deadline", deadline, self._cut_off)
        if within == 0:
            self._cut_off()
        elif is_first:
            self._at("moment", loop.time() + _MOMENT_FOR_THE_SILENT, self._end_silent)
            if self._clients.ends_idle:
                for served in self._clients.living:
                    served.tell_when_it_waits()
                self._sweep()
        if is_first:
            # What the loop has accepted and not handed over comes within these turns.
            self._settle(3)
        return over

    def joins(self, served: Any) -> bool:
        """A connection that was being accepted when the stop began. Returns whether it is served."""
        if self.deadline is None:
            return True
        if self._cuts_off or self._is_over():
            return False
        if self._clients.ends_idle:
            served.tell_when_it_waits()
        return True

    def ended(self, served: Any) -> None:
        """A connection is over."""
        if self.deadline is not None and not self._is_over():
            self._counts[served.stop_end or "finished"] += 1
            self._look_whether_over()

    def ends(self, talk: str | None) -> bool:
        """Whether a connection ends of which this passed last."""
        return talk == "answered" or (talk == "silent" and self._ends_silent)

    def time_left(self) -> float | None:
        return None if self.deadline is None else max(self.deadline - self._clients.loop.time(), 0.0)

    def _is_over(self) -> bool:
        return self._over is not None and self._over.done()

    def _at(self, name: str, time: float, callback: Callable[[], None]) -> None:
        if name in self._timers:
            self._timers[name].cancel()
        self._timers[name] = self._clients.loop.call_at(time, callback)

    def _settle(self, turns: int) -> None:
        if turns:
            self._clients.loop.call_soon(self._settle, turns - 1)
        else:
            self._has_settled = True
            self._look_whether_over()

    def _look_whether_over(self) -> None:
        if self._has_settled and not self._clients.living and not self._is_over():
            self._finish()

    def _sweep(self) -> None:
        """Looks for connections that have become idle without a read that began to wait: another task has answered, or the
        peer has taken the last of it."""
        loop = self._clients.loop
        began = loop.time()
        for served in list(self._clients.living):
            served.end_if_idle()
        now = loop.time()
        self._at("sweep", now + max(_SWEEP, 10 * (now - began)), self._sweep)

    def _end_silent(self) -> None:
        self._ends_silent = True
        if self._clients.ends_idle:
            for served in list(self._clients.living):
                served.end_handshake()
                served.end_if_idle()

    def _cut_off(self) -> None:
        if self._cuts_off:
            return
        self._cuts_off = True
        loop = self._clients.loop
        self._at("deadline", loop.time() + _LAST_WORDS, self._give_up)
        for served in list(self._clients.living):
            served.cut_off()
        self._clients.abort_handshakes()

    def _give_up(self) -> None:
        """A handler has refused to be cancelled, and nobody waits for it any more."""
        for served in list(self._clients.living):
            served.forget()
        self._finish()

    def _finish(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._clients.end_handshakes()
        if self._over is not None and not self._over.done():
            self._over.set_result(None)


def check_seconds(operation: str, within: Any) -> float:
    """The number of seconds; refuses, before anything is closed, what is none. Less than none is none."""
    if not hasattr(type(within), "__float__") and not hasattr(type(within), "__index__"):
        raise TypeError(f"{operation}: within is a number of seconds, not {type(within).__name__!r}")
    try:
        seconds = float(within)
    except OverflowError:
        return math.inf if within > 0 else 0.0
    if math.isnan(seconds):
        raise ValueError(f"{operation}: within is {within}, and has to be a number of seconds, of which 0 is the least")
    return max(seconds, 0.0)


#: How long a peer that has not said anything yet may take to: the time of a round trip around the world. It may have been
#: accepted just before the stop.
_MOMENT_FOR_THE_SILENT = 0.25
#: How often a stop looks for connections that have become idle unnoticed; less often if a look takes more than a tenth of it.
_SWEEP = 0.05
#: How long a handler that was cancelled at the deadline may take to end.
_LAST_WORDS = 1.0
#: Stands for a deadline that a loop's timers cannot hold.
_FAR_FUTURE = 365 * 24 * 3600.0
