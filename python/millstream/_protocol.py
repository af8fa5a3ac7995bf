"""Between a loop's transport and the streams: flow control, the start and the end of a connection, its failures.

What is done for each chunk is native (``_core.ProtocolBase``).
"""

from __future__ import annotations

import asyncio
import collections
import weakref
from asyncio import coroutines, events
from asyncio.log import logger

from . import _core, streams

#: Where a loop keeps what its connections share. With the loop itself, so that it goes when the loop goes: a table here
#: would keep a loop for ever that was closed in mid-turn.
_LINK = "_millstream_link"


def link_of(loop):
    """What a loop's connections share: the buffer they receive into, and who flushes at the end of a turn."""
    try:
        attributes = vars(loop)
    except TypeError:  # a loop without attributes: its connections share nothing
        return _core.Link()
    link = attributes.get(_LINK)
    if link is None:
        link = attributes[_LINK] = _core.Link()
    return link


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


class StreamReaderProtocol(_core.ProtocolBase, FlowControlMixin, asyncio.Protocol, asyncio.BufferedProtocol):
    """Between a transport and a ``StreamReader``. Transports that can receive into its buffer do."""

    _source_traceback = None
    #: What the server knows that accepted the connection, and who watches the deadlines.
    _served = None
    _watching = None

    def __init__(self, stream_reader, client_connected_cb=None, loop=None):
        FlowControlMixin.__init__(self, loop=loop)
        self._set_link(link_of(self._loop))
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
            # Looked up now: someone may have patched it. That module imports this one.
            writer = streams.StreamWriter(transport, self, reader, self._loop)
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
