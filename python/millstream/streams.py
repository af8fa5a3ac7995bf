"""The names of asyncio's streams, on the native core: the classes, and the functions that connect and serve.

The semantics are those of the newest CPython on every version.
"""

from __future__ import annotations

import functools
import inspect
import socket
from asyncio import events

from ._accepting import start_accepting
from ._clients import Clients
from ._deadlines import watch
from ._options import ServerOptions, take_deadlines
from ._protocol import FlowControlMixin, StreamReaderProtocol
from ._reader import _DEFAULT_LIMIT, StreamReader
from ._writer import StreamWriter

__all__ = [
    "FlowControlMixin",
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "open_connection",
    "start_server",
]

# This is where programs find them, and what representations, pickles and ``help()`` name.
for _class in (FlowControlMixin, StreamReader, StreamReaderProtocol, StreamWriter):
    _class.__module__ = __name__
    for _method in filter(inspect.isfunction, vars(_class).values()):
        _method.__module__ = __name__
del _class, _method


def _pair(limit, loop):
    reader = StreamReader(limit=limit, loop=loop)
    return reader, StreamReaderProtocol(reader, loop=loop)


async def open_connection(host=None, port=None, *, limit=_DEFAULT_LIMIT, **kwds):
    """A wrapper for create_connection() returning a (reader, writer) pair. It takes the deadlines of ``start_server`` too."""
    deadlines = take_deadlines(kwds)
    loop = events.get_running_loop()
    reader, protocol = _pair(limit, loop)
    transport, _ = await loop.create_connection(lambda: protocol, host, port, **kwds)
    watch(protocol, reader, deadlines)
    return reader, StreamWriter(transport, protocol, reader, loop)


async def start_server(client_connected_cb, host=None, port=None, *, limit=_DEFAULT_LIMIT, **kwds):
    """Start a socket server, call back for each client connected.

    Beyond asyncio's keywords there are these, all off by default. A server that is given any of them accepts its connections
    itself, on every loop alike.

    ``max_connections``: how many connections there may be at once, over all listeners together. One counts from before it is
    accepted until its handler has ended and it is closed.

    ``when_full``: ``"wait"``, the default, leaves those above in the kernel's backlog, which pushes back on them;
    ``"refuse"`` accepts and closes them at once.

    ``max_connections_per_peer``: how many one IPv4 address or one IPv6 network of 64 bits may have. One more is refused.

    ``farewell``: the bytes that a refused peer is sent, except over TLS. It is never reset: what it sends is read and dropped,
    for a second at most, by at most 256 refused ones at once.

    ``end_idle_on_stop``: whether ``server.stop()`` ends idle connections (true by default).

    ``item_deadline``: how many seconds one item, which is what one read asks for, may take once the peer has begun it.

    ``idle_timeout``: how many seconds nothing may be received and nothing sent while a read waits.

    ``min_receive_rate``: ``(bytes_per_second, seconds)``, how fast an item has to come that was begun, on average over each
    such time.

    ``write_progress_timeout``: how many seconds the peer may take none of what is queued for it.

    When a deadline passes, at most a quarter of it late, the connection ends: what had arrived can be read, then reads, drains
    and ``wait_closed()`` raise ``TimeoutError`` with the numbers. An idle peer sees an end, any other a reset. The peer is
    never blamed while the program does not read. (A reader whose class overrides ``feed_data`` is not watched for what it
    receives: only ``write_progress_timeout`` holds.) A handler that lets this ``TimeoutError`` through, or raises its own from
    it, is not reported: ``stats().passed_deadlines`` counts it.

    >>> import asyncio, millstream
    >>> async def echo(reader, writer):
    ...     async with writer:
    ...         async for line in reader:
    ...             writer.write(line)
    ...             await writer.drain()
    >>> async def main():
    ...     server = await millstream.start_server(
    ...         echo, "127.0.0.1", 0, max_connections=1, when_full="refuse", farewell=b"421 try later", idle_timeout=75
    ...     )
    ...     address = server.sockets[0].getsockname()
    ...     reader, writer = await millstream.open_connection(*address)
    ...     writer.write(b"ping\\n")
    ...     print(await reader.readline())
    ...     second, other = await millstream.open_connection(*address)
    ...     print(await second.read(), server.stats().refused_full)
    ...     await other.aclose()
    ...     stop = asyncio.create_task(server.stop(10))
    ...     print(await reader.read())
    ...     await writer.aclose()
    ...     print(await stop)
    >>> asyncio.run(main())
    b'ping\\n'
    b'421 try later' 1
    b''
    Stopped(finished=0, idle=1, aborted=0)
    """
    options = ServerOptions.take(kwds)
    loop = events.get_running_loop()
    clients = Clients(limit, loop, client_connected_cb, options)
    create = functools.partial(loop.create_server, clients.protocol, host, port)
    if options is not None:
        return await start_accepting(clients, options, create, kwds)
    return clients.of(await create(**kwds))


if hasattr(socket, "AF_UNIX"):
    __all__ += ["open_unix_connection", "start_unix_server"]

    async def open_unix_connection(path=None, *, limit=_DEFAULT_LIMIT, **kwds):
        """Similar to `open_connection` but works with UNIX Domain Sockets."""
        deadlines = take_deadlines(kwds)
        loop = events.get_running_loop()
        reader, protocol = _pair(limit, loop)
        transport, _ = await loop.create_unix_connection(lambda: protocol, path, **kwds)
        watch(protocol, reader, deadlines)
        return reader, StreamWriter(transport, protocol, reader, loop)

    async def start_unix_server(client_connected_cb, path=None, *, limit=_DEFAULT_LIMIT, **kwds):
        """Similar to `start_server` but works with UNIX Domain Sockets, whose peers are not counted one by one."""
        options = ServerOptions.take(kwds)
        loop = events.get_running_loop()
        clients = Clients(limit, loop, client_connected_cb, options)
        create = functools.partial(loop.create_unix_server, clients.protocol, path)
        if options is not None:
            return await start_accepting(clients, options, create, kwds)
        return clients.of(await create(**kwds))
