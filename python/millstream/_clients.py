"""The connections of one server, so that it can count, close and stop them on every Python and loop."""

from __future__ import annotations

import asyncio
import weakref

from . import _core
from ._lingering import Lingering
from ._options import ServerOptions
from ._served import Served
from ._signals import serve_until_terminated
from ._stats import Counters
from ._stopping import Stop


class Clients:
    """Makes the protocols of one server, and remembers those that are connected."""

    def __init__(self, limit, loop, client_connected_cb, options=None):
        options = options or ServerOptions()
        self._limit = limit
        self.loop = loop
        self._client_connected_cb = client_connected_cb
        self._protocols = weakref.WeakSet()
        self._server = None
        self._on_close = []
        self.is_closed = False
        self.deadlines = options.deadlines
        self.ends_idle = options.end_idle_on_stop
        self.counters = Counters()
        #: What is open, or has a handler that runs.
        self.living = set()
        self._over_waiters = []
        self.stop = Stop(self)
        #: Connections that a stop has ended.
        self.lingering = Lingering(loop)

    def protocol(self, served=None):
        """A protocol for the next connection. The classes are looked up now: someone may have patched them."""
        from . import streams

        reader = streams.StreamReader(limit=self._limit, loop=self.loop)
        protocol = streams.StreamReaderProtocol(reader, self._client_connected_cb, loop=self.loop)
        if served is None:
            served = Served(self)
            # On the stock loop, that in which it makes the transport, and a handshake before.
            task = asyncio.current_task(self.loop)
            if task is not None:
                served.connects(task)
        protocol._served = reader._served = served
        self._protocols.add(protocol)
        return protocol

    def of(self, server):
        """The loop's server, with what asyncio's lack: of a subclass where that can be, else in a server of ours."""
        try:
            server.__class__ = _class_with_methods(type(server))
        except TypeError:
            return Server(server, self)
        server._streams = self
        self.belongs_to(server)
        return server

    def belongs_to(self, server):
        self._server = weakref.ref(server)

    def close(self):
        for protocol in list(self._protocols):
            if protocol._transport is None:
                # Still in its TLS handshake.
                protocol._client_connected_cb = _close_at_once
                continue
            reader = protocol._stream_reader
            if isinstance(reader, _core.ReaderBase):
                reader._flush_writer()
            protocol._transport.close()

    def abort(self):
        for protocol in list(self._protocols):
            if protocol._transport is None:
                protocol._client_connected_cb = _abort_at_once
            else:
                protocol._transport.abort()
        for served in list(self.living):
            served.end_handshake()
        self.abort_handshakes()

    def abort_handshakes(self):
        """Those of connections that the loop accepts, where it can."""
        self.end_handshakes()
        server = self._server and self._server()
        if server is not None and not isinstance(server, _Held):
            abort = getattr(super(Methods, server), "abort_clients", None)
            if abort is not None:
                abort()

    def end_handshakes(self):
        """Those that are made in a task of the loop's: they do not count as connections."""
        for protocol in list(self._protocols):
            if protocol._served not in self.living:
                protocol._served.end_handshake()

    def stats(self):
        """The counters as they are now."""
        return self.counters.snapshot(len(self.living))

    def close_server(self):
        server = self._server and self._server()
        if server is not None:
            server.close()

    def closed(self):
        """The server is closed."""
        self.is_closed = True
        callbacks, self._on_close = self._on_close, []
        for callback in callbacks:
            callback()
        self._look_whether_over()

    def on_close(self, callback):
        if self.is_closed:
            callback()
        else:
            self._on_close.append(callback)

    def off_close(self, callback):
        """Nobody waits to be told any more."""
        if callback in self._on_close:
            self._on_close.remove(callback)

    async def wait_over(self):
        """Waits until the server is closed and no connection is left."""
        while not (self.is_closed and not self.living):
            waiter = self.loop.create_future()
            self._over_waiters.append(waiter)
            try:
                await waiter
            finally:
                self._over_waiters.remove(waiter)

    def _look_whether_over(self):
        if self.is_closed and not self.living:
            for waiter in self._over_waiters:
                if not waiter.done():
                    waiter.set_result(None)

    # What its connections tell.

    def joins(self, served):
        """One more. Returns whether it is wanted."""
        self.living.add(served)
        if not self.stop.joins(served):
            return False
        self.counters.accepted += 1
        self.counters.peak_connections = max(self.counters.peak_connections, len(self.living))
        return True

    def leaves(self, served):
        """One less."""
        if served in self.living:
            self.living.remove(served)
            self.stop.ended(served)
            self._look_whether_over()

    def passed_deadline(self, kind):
        self.counters.passed_deadlines[kind] += 1


def _close_at_once(reader, writer):
    writer.close()


def _abort_at_once(reader, writer):
    writer.abort()


class Methods:
    """What asyncio's servers lack. (``close_clients`` and ``abort_clients`` of CPython 3.13 know nothing of what was written and
    not sent.)

    Without ``__slots__``: a class of none has another layout, and no server could be made one of its subclass.
    """

    def close(self):
        super().close()
        self._streams.closed()

    def close_clients(self):
        """Close all existing incoming client connections."""
        self._streams.close()

    def abort_clients(self):
        """Close all existing incoming client connections immediately."""
        self._streams.abort()

    def stats(self):
        """The counters as they are now."""
        return self._streams.stats()

    async def stop(self, within):
        """Stops gracefully within so many seconds."""
        return await self._streams.stop.run(within)

    async def serve_until_terminated(self, within):
        """Serves until SIGTERM or SIGINT, then stops within so many seconds."""
        return await serve_until_terminated(self, self._streams, within)


def _class_with_methods(base):
    """A server's class with these methods, under its name."""
    made = _classes.get(base)
    if made is None:
        names = {"__module__": base.__module__, "__qualname__": base.__qualname__}
        made = _classes[base] = type(base.__name__, (Methods, base), names)
    return made


_classes: dict[type, type] = {}


class _Held(asyncio.AbstractServer):
    """Does what the server does that it holds."""

    def __init__(self, server):
        self._server = server

    def close(self):
        self._server.close()

    async def wait_closed(self):
        await self._server.wait_closed()

    def get_loop(self):
        return self._server.get_loop()

    def is_serving(self):
        return self._server.is_serving()

    async def start_serving(self):
        await self._server.start_serving()

    async def serve_forever(self):
        await self._server.serve_forever()

    def __getattr__(self, name):
        if name == "_server":  # of a copy that is being made
            raise AttributeError(name)
        return getattr(self._server, name)


class Server(Methods, _Held):
    """A server whose class takes no further methods, with those that asyncio's lack."""

    def __init__(self, server, clients):
        super().__init__(server)
        self._streams = clients
        clients.belongs_to(self)
