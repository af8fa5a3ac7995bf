"""The connections of one server, so that it can close them on every Python and loop, as it can since CPython 3.13."""

from __future__ import annotations

import asyncio
import weakref

from . import _core


class Clients:
    """Makes the protocols of one server, and remembers those that are connected."""

    def __init__(self, limit, loop, client_connected_cb):
        self._limit = limit
        self._loop = loop
        self._client_connected_cb = client_connected_cb
        self._protocols = weakref.WeakSet()

    def protocol(self):
        """A protocol for the next connection. The classes are looked up now: someone may have patched them."""
        from . import streams

        reader = streams.StreamReader(limit=self._limit, loop=self._loop)
        protocol = streams.StreamReaderProtocol(reader, self._client_connected_cb, loop=self._loop)
        self._protocols.add(protocol)
        return protocol

    def of(self, server):
        """The server, with these ``close_clients`` and ``abort_clients``: those of CPython 3.13 know nothing of what was
        written and not sent."""
        try:
            server.close_clients = self.close
            server.abort_clients = self.abort
        except AttributeError:
            return _Server(server, self)
        return server

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


def _close_at_once(reader, writer):
    writer.close()


def _abort_at_once(reader, writer):
    writer.abort()


class _Server(asyncio.AbstractServer):
    """A server whose class takes no further methods, with those of CPython 3.13."""

    def __init__(self, server, clients):
        self._server = server
        self._clients = clients

    def close_clients(self):
        """Close all existing incoming client connections."""
        self._clients.close()

    def abort_clients(self):
        """Close all existing incoming client connections immediately."""
        self._clients.abort()

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
        return getattr(self._server, name)
