"""``serve_until_terminated()``, and who tells the servers of one loop of a signal: the program's own handlers come back
when the last of them is done."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from typing import Any

from ._stopping import Stopped, check_seconds

_NUMBERS = (signal.SIGTERM, signal.SIGINT)
#: Where a loop keeps its dispatcher, while it has one.
_KEPT = "_millstream_signals"


class Dispatcher:
    """Takes the signals of one loop while a server is served until one of them, and tells every such server."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._told: list[Callable[[signal.Signals], None]] = []
        #: What was in force before: the process's handler, and the loop's if it had one.
        self._before: dict[signal.Signals, tuple[Any, Any]] = {}

    @classmethod
    def of(cls, loop: Any) -> Dispatcher:
        """The loop's, or a new one."""
        kept: Dispatcher | None = getattr(loop, _KEPT, None)
        return cls(loop) if kept is None else kept

    def add(self, tell: Callable[[signal.Signals], None]) -> None:
        if not self._told:
            try:
                for number in _NUMBERS:
                    self._take(number)
            except BaseException:
                self._give_back()
                raise
            setattr(self._loop, _KEPT, self)
        self._told.append(tell)

    def remove(self, tell: Callable[[signal.Signals], None]) -> None:
        self._told.remove(tell)
        if not self._told:
            delattr(self._loop, _KEPT)
            self._give_back()

    def _take(self, number: signal.Signals) -> None:
        handler = signal.getsignal(number)
        of_loop = getattr(self._loop, "_signal_handlers", {}).get(number)
        if of_loop is None and getattr(handler, "__self__", None) is self._loop:
            # It has one, and does not show it.
            raise RuntimeError(
                f"serve_until_terminated(): the loop has a handler for {number.name} that could not be put back: remove it "
                f"first, with loop.remove_signal_handler()"
            )
        self._loop.add_signal_handler(number, self._arrived, number)
        self._before[number] = handler, of_loop

    def _give_back(self) -> None:
        before, self._before = self._before, {}
        for number, (handler, of_loop) in before.items():
            if self._loop.is_closed():
                # It has removed its handlers.
                of_loop = None
            elif of_loop is not None:
                self._loop.add_signal_handler(number, _nothing)
                self._loop._signal_handlers[number] = of_loop
                continue
            else:
                self._loop.remove_signal_handler(number)
            if handler is not None:
                with contextlib.suppress(ValueError):  # not the main thread
                    signal.signal(number, handler)

    def _arrived(self, number: signal.Signals) -> None:
        for tell in list(self._told):
            tell(number)


def _nothing() -> None:
    pass


async def serve_until_terminated(
    server: asyncio.AbstractServer, clients: Any, within: float
) -> tuple[signal.Signals | None, Stopped]:
    """``server.serve_until_terminated()``."""
    within = check_seconds("serve_until_terminated()", within)
    woken = asyncio.Event()
    first: list[signal.Signals] = []

    def tell(number: signal.Signals) -> None:
        if first or clients.stop.deadline is not None:
            clients.stop.begin(0)
        first.append(number)
        woken.set()

    dispatcher = Dispatcher.of(clients.loop)
    dispatcher.add(tell)
    try:
        if not clients.is_closed:
            await server.start_serving()
        clients.on_close(woken.set)
        try:
            await woken.wait()
        finally:
            clients.off_close(woken.set)
        by = first[0] if first else None
        return by, await clients.stop.run(within)
    finally:
        dispatcher.remove(tell)
