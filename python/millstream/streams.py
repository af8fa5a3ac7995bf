"""The classes and functions of asyncio's streams, on the native core.

What is done often is native (``_core``); here is what is rare: constructors, closing, upgrades, messages, warnings. The
semantics are those of the newest CPython on every version.
"""

from __future__ import annotations

import asyncio
import collections
import functools
import socket
import sys
import warnings
import weakref
from asyncio import coroutines, events, format_helpers
from asyncio.log import logger

from . import _core
from ._accepting import start_accepting
from ._clients import Clients
from ._deadlines import watch
from ._options import ServerOptions, take_deadlines
from ._stopping import Stopping

__all__ = [
    "FlowControlMixin",
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "open_connection",
    "start_server",
]

_DEFAULT_LIMIT = 2**16

#: Where a loop keeps what its connections share. With the loop itself, so that it goes when the loop goes: a table here
#: would keep a loop for ever that was closed in mid-turn.
_LINK = "_millstream_link"


def _link_of(loop):
    """What a loop's connections share: the buffer they receive into, and who flushes at the end of a turn."""
    try:
        attributes = vars(loop)
    except TypeError:  # a loop without attributes: its connections share nothing
        return _core.Link()
    link = attributes.get(_LINK)
    if link is None:
        link = attributes[_LINK] = _core.Link()
    return link


def _future_args(loop):
    """The arguments for making a future directly, where ``loop.create_future()`` does nothing else."""
    if getattr(type(loop), "create_future", None) is asyncio.BaseEventLoop.create_future:
        return {"loop": loop}
    return None


class FlowControlMixin(asyncio.Protocol):
    """Reusable flow control logic for ``StreamWriter.drain()``, as asyncio's."""

    def __init__(self, loop=None):
        self._loop = events.get_event_loop() if loop is None else loop
        self._paused = False
        self._drain_waiters = collections.deque()
        self._connection_lost = False

    def pause_writing(self):
        assert not self._paused
        self._paused = True
        if self._loop.get_debug():
            logger.debug("%r pauses writing", self)

    def resume_writing(self):
        assert self._paused
        self._paused = False
        if self._loop.get_debug():
            logger.debug("%r resumes writing", self)
        for waiter in self._drain_waiters:
            if not waiter.done():
                waiter.set_result(None)

    def connection_lost(self, exc):
        self._connection_lost = True
        if not self._paused:
            return
        for waiter in self._drain_waiters:
            if not waiter.done():
                if exc is None:
                    waiter.set_result(None)
                else:
                    waiter.set_exception(_own(exc))

    async def _drain_helper(self):
        if self._connection_lost:
            raise ConnectionResetError("Connection lost")
        if not self._paused:
            return
        waiter = self._loop.create_future()
        self._drain_waiters.append(waiter)
        try:
            await waiter
        finally:
            self._drain_waiters.remove(waiter)

    def _get_close_waiter(self, stream):
        raise NotImplementedError


def _own(exc):
    """An exception object for one waiter alone: those who raise one object from several places spoil its traceback."""
    cls = type(exc)
    try:
        # Its constructor has run once already, and might not take its own results.
        mine = cls.__new__(cls, *exc.args)
        if type(mine) is not cls or mine is exc:
            return exc
        mine.args = exc.args
        mine.__dict__.update(exc.__dict__)
        if str(mine) != str(exc):  # what it says is kept where nobody else can see it
            return exc
    except Exception:  # noqa: BLE001 - whatever a foreign class does when it is made
        return exc
    mine.__cause__ = exc.__cause__
    mine.__context__ = exc.__context__
    mine.__suppress_context__ = exc.__suppress_context__
    return mine.with_traceback(exc.__traceback__)


class StreamReaderProtocol(_core.ProtocolBase, FlowControlMixin, asyncio.Protocol, asyncio.BufferedProtocol):
    """Between a transport and a ``StreamReader``. Transports that can receive into its buffer do."""

    _source_traceback = None
    #: What the server knows that accepted the connection, and who watches the deadlines.
    _served = None
    _watching = None

    def __init__(self, stream_reader, client_connected_cb=None, loop=None):
        FlowControlMixin.__init__(self, loop=loop)
        self._set_link(_link_of(self._loop))
        if stream_reader is not None:
            self._set_reader(weakref.ref(stream_reader), _is_direct(self, stream_reader))
            self._source_traceback = stream_reader._source_traceback
        else:
            self._set_reader(None, False)
        if client_connected_cb is not None:
            # Made by a server: the reader is kept until the connection is established.
            self._strong_reader = stream_reader
        self._reject_connection = False
        self._stream_writer = None
        self._task = None
        self._transport = None
        self._client_connected_cb = client_connected_cb
        self._over_ssl = False
        self._closed = self._loop.create_future()

    def _replace_transport(self, transport):
        self._transport = transport
        self._over_ssl = transport.get_extra_info("sslcontext") is not None
        reader = self._stream_reader
        if reader is not None:
            # Pausing and resuming are the new one's from here on.
            reader._transport = transport

    def _replace_writer(self, writer):
        self._replace_transport(writer.transport)
        self._stream_writer = writer

    def connection_made(self, transport):
        if self._reject_connection:
            context = {
                "message": (
                    "An open stream was garbage collected prior to "
                    "establishing network connection; "
                    'call "stream.close()" explicitly.'
                )
            }
            if self._source_traceback:
                context["source_traceback"] = self._source_traceback
            self._loop.call_exception_handler(context)
            transport.abort()
            return
        self._transport = transport
        reader = self._stream_reader
        if reader is not None:
            reader.set_transport(transport)
        self._over_ssl = transport.get_extra_info("sslcontext") is not None
        served = self._served
        if served is not None and not served.connected(self, transport):
            transport.abort()
            return
        if self._client_connected_cb is not None:
            writer = StreamWriter(transport, self, reader, self._loop)
            try:
                result = self._client_connected_cb(reader, writer)
            except Exception as exc:  # noqa: BLE001 - whatever a handler raises is reported, and its connection closed
                self._report(exc, transport)
                self._strong_reader = None
                return
            if coroutines.iscoroutine(result):
                self._task = self._loop.create_task(result)
                if served is not None:
                    served.handled(self._task)
                self._task.add_done_callback(lambda task: self._task_done(task, transport))
            self._strong_reader = None

    def _task_done(self, task, transport):
        if task.cancelled():
            transport.close()
        else:
            exc = task.exception()
            if exc is not None:
                self._report(exc, transport)
        if self._served is not None:
            self._served.handler_ended()

    def _report(self, exc, transport):
        if self._watching is not None and self._watching.explains(exc):
            # It is the peer's doing, and counted: a report for each idle one would be a flood.
            transport.close()
            return
        if self._served is not None:
            self._served.handler_failed()
        self._loop.call_exception_handler(
            {
                "message": "Unhandled exception in client_connected_cb",
                "exception": exc,
                "transport": transport,
            }
        )
        transport.close()

    def connection_lost(self, exc):
        watching = self._watching
        if watching is not None:
            watching.end()
            exc = watching.failure or exc
        reader = self._stream_reader
        if reader is not None:
            if exc is None:
                reader.feed_eof()
            else:
                _fail(reader, _own(exc))
            if isinstance(reader, _core.ReaderBase):
                reader._end_writer()
        if not self._closed.done():
            if exc is None:
                self._closed.set_result(None)
            else:
                self._closed.set_exception(_own(exc))
        FlowControlMixin.connection_lost(self, exc)
        self._set_reader(None, False)
        self._stream_writer = None
        self._task = None
        transport, self._transport = self._transport, None
        if self._served is not None:
            self._served.lost(transport, exc)

    def eof_received(self):
        reader = self._stream_reader
        if reader is not None:
            reader.feed_eof()
        # Returning true has no effect over TLS but a warning.
        return not self._over_ssl

    def _get_close_waiter(self, stream):
        return self._closed

    def __del__(self):
        # Prevent reports about unhandled exceptions.
        closed = getattr(self, "_closed", None)
        if closed is not None and closed.done() and not closed.cancelled():
            closed.exception()


def _is_direct(protocol, reader):
    """Whether bytes may go from the transport to the reader's buffer without passing through methods that someone has
    overridden."""
    return (
        type(protocol).data_received is _core.ProtocolBase.data_received
        and isinstance(reader, _core.ReaderBase)
        and type(reader).feed_data is _core.ReaderBase.feed_data
    )


def _fail(reader, exc):
    """The transport was lost: what had arrived can still be read, then this is raised."""
    failed = getattr(reader, "_connection_failed", None)
    if failed is None or type(reader).set_exception is not _core.ReaderBase.set_exception:
        reader.set_exception(exc)
    else:
        failed(exc)


class StreamWriter(_core.WriterBase):
    """The writing half of a connection. Writes are gathered and leave together: at the latest when the connection's reader
    waits, or at the end of the loop's turn."""

    def __init__(self, transport, protocol, reader, loop):
        # The name is looked up when it is needed, so that a patched class is asked for.
        assert reader is None or isinstance(reader, (StreamReader, _core.ReaderBase))
        self._protocol = protocol
        self._reader = reader
        self._loop = loop
        is_ours = (
            isinstance(protocol, StreamReaderProtocol)
            and type(protocol)._drain_helper is FlowControlMixin._drain_helper
            and (reader is None or type(reader).exception is _core.ReaderBase.exception)
        )
        native_reader = reader if isinstance(reader, _core.ReaderBase) else None
        self._setup(transport, loop, _link_of(loop), protocol if is_ours else None, native_reader)

    def __repr__(self):
        info = [self.__class__.__name__, f"transport={self._transport!r}"]
        if self._reader is not None:
            info.append(f"reader={self._reader!r}")
        return "<{}>".format(" ".join(info))

    def write_eof(self):
        self._end()
        return self._transport.write_eof()

    def can_write_eof(self):
        return self._transport.can_write_eof()

    def close(self):
        self._end()
        return self._transport.close()

    def abort(self):
        """Closes at once; what was not sent is lost."""
        self._end()
        self._transport.abort()

    def is_closing(self):
        return self._transport.is_closing()

    async def wait_closed(self):
        # Shielded: whoever gives up waiting leaves the others waiting.
        await asyncio.shield(self._protocol._get_close_waiter(self))

    async def aclose(self, timeout=None):
        """Closes and waits until it is closed, at most ``timeout`` seconds, after which it is aborted. That the peer broke
        the connection first is no error."""
        self.close()
        try:
            await asyncio.wait_for(self.wait_closed(), timeout)
        except asyncio.TimeoutError:
            self.abort()
        except OSError:
            pass

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc_info):
        await self.aclose()

    def get_extra_info(self, name, default=None):
        return self._transport.get_extra_info(name, default)

    def stopping(self):
        """A token that tells when the server which accepted this connection is being stopped."""
        return _stopping_of(getattr(self._protocol, "_served", None))

    async def _drain(self):
        """``drain()`` when there is something to wait for, or to report."""
        self.flush()
        if self._reader is not None:
            exc = self._reader.exception()
            if exc is not None:
                raise exc
        if self._transport.is_closing():
            # Yield, so that connection_lost() may be called: code that writes and drains in a loop would never see the
            # error otherwise.
            await asyncio.sleep(0)
        await self._protocol._drain_helper()

    async def start_tls(
        self, sslcontext, *, server_hostname=None, ssl_handshake_timeout=None, ssl_shutdown_timeout=None
    ):
        """Upgrade an existing stream-based connection to TLS. Bytes that have arrived and were not read are part of the
        handshake. If that fails or is cancelled, the connection is closed."""
        protocol = self._protocol
        server_side = protocol._client_connected_cb is not None
        await self.drain()
        self.flush()
        keywords = {} if ssl_shutdown_timeout is None else {"ssl_shutdown_timeout": ssl_shutdown_timeout}
        transport = self._transport
        if self._reader is not None and self._reader._buffer:
            early = bytes(self._reader._buffer)
            self._reader._buffer.clear()
            # Called before the handshake begins: what loop.start_tls() calls soon comes behind this.
            self._loop.call_soon(_feed_tls, self._loop, transport, early)
        try:
            new_transport = await self._loop.start_tls(
                transport,
                protocol,
                sslcontext,
                server_side=server_side,
                server_hostname=server_hostname,
                ssl_handshake_timeout=ssl_handshake_timeout,
                **keywords,
            )
        except BaseException:
            # Refused, failed or cancelled: nothing may be written in plain text any more. Not every loop sees to that.
            if transport.get_protocol() is not protocol:
                self.close()
                # Nor does every loop's TLS tell of a connection that ends within the handshake: wait_closed() would wait
                # for ever.
                self._loop.call_soon(protocol.connection_lost, None)
            raise
        self._transport = new_transport
        protocol._replace_transport(new_transport)

    def __del__(self, warnings=warnings):
        try:
            transport = self._transport
            closing = transport is None or transport.is_closing()
        except Exception:  # noqa: BLE001 - a finalizer has nobody to tell
            return
        if not closing:
            if self._loop.is_closed():
                # Its last turn may have ended before what was written in it could leave.
                try:
                    self.flush()
                except Exception:  # noqa: BLE001 - a finalizer has nobody to tell
                    pass
                warnings.warn("loop is closed", ResourceWarning)
            else:
                self.close()
                warnings.warn(f"unclosed {self!r}", ResourceWarning)


def _feed_tls(loop, transport, early):
    """Gives the TLS protocol that a transport has just got the bytes that had arrived before."""
    protocol = transport.get_protocol()
    if hasattr(protocol, "get_buffer"):
        while early:
            buffer = memoryview(protocol.get_buffer(len(early)))
            count = min(len(buffer), len(early))
            buffer[:count] = early[:count]
            protocol.buffer_updated(count)
            early = early[count:]
    else:
        # That of 3.10 takes data only once its handshake has begun, which it has at the end of this turn.
        loop.call_soon(protocol.data_received, early)


class StreamReader(_core.ReaderBase):
    """The reading half of a connection. Reads are bounded by the limit and may be cancelled at any time: nothing is
    consumed before a read returns."""

    _source_traceback = None

    def __init__(self, limit=_DEFAULT_LIMIT, loop=None):
        if limit <= 0:
            raise ValueError("Limit cannot be <= 0")
        if loop is None:
            loop = events.get_event_loop()
        # Whatever compares with numbers has been a limit in asyncio: infinity, for one.
        self._setup(int(min(limit, sys.maxsize)), loop, _future_args(loop))
        if loop.get_debug():
            self._source_traceback = format_helpers.extract_stack(sys._getframe(1))

    def __repr__(self):
        info = ["StreamReader"]
        if self.buffered:
            info.append(f"{self.buffered} bytes")
        if self._eof:
            info.append("eof")
        if self._limit != _DEFAULT_LIMIT:
            info.append(f"limit={self._limit}")
        if self._waiter:
            info.append(f"waiter={self._waiter!r}")
        if self._exception:
            info.append(f"exception={self._exception!r}")
        if self._transport:
            info.append(f"transport={self._transport!r}")
        if self._paused:
            info.append("paused")
        return "<{}>".format(" ".join(info))

    def stopping(self):
        """A token that tells when the server which accepted this connection is being stopped."""
        return _stopping_of(self._served)

    async def _wait_for_data(self, func_name):
        """Wait until feed_data() or feed_eof() is called, for subclasses that read the buffer themselves."""
        if self._waiter is not None:
            raise RuntimeError(
                f"{func_name}() called while another coroutine is already waiting for incoming data"
            )
        assert not self._eof, "_wait_for_data after EOF"
        self._raise_exception()
        buffered = self.buffered
        waiter = self._waiter = self._loop.create_future()
        self._maybe_resume_transport(True)
        try:
            await waiter
        finally:
            self._waiter = None
        if self.buffered <= buffered:
            # What has arrived may be enough: then the loss is told to who waits next.
            self._raise_exception()

    def _raise_exception(self):
        exc = _core.ReaderBase.exception(self)
        if exc is not None:
            raise exc


def _stopping_of(served):
    return Stopping(None if served is None else served.stop)


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
