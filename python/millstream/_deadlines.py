"""The deadlines of a connection: one timer of the loop's, at which the core's watchdog compares counters. Between two looks
nothing runs, and no read or write looks at a clock."""

from __future__ import annotations

import gc
import socket
import struct
import sys
import weakref
from asyncio import sslproto

from . import _core

#: How much unsent data the kernel takes from a connection whose writes are watched. Without it, a slow peer looks for long
#: as if it took nothing.
_UNSENT = 64 * 1024

#: Is looked at in the place of a reader that the program has forgotten. Nobody reads from that any more; its peer may still have
#: to take what was written.
_FORGOTTEN = _core.ReaderBase()

#: How far back the causes of an exception are followed. They may go in a circle.
_CAUSES = 16

#: Those that a reader has to tell of that counts what arrives.
_OF_READS = ("item_deadline", "idle_timeout", "min_receive_rate")


def watch(protocol, reader, deadlines, passed=None):
    """Watches a connection that has been established, as far as can be."""
    if not isinstance(reader, _core.ReaderBase):
        return
    if type(reader).feed_data is not _core.ReaderBase.feed_data:
        # What arrives may never come to us, and a peer that sends would look as if it did not.
        deadlines = {name: value for name, value in deadlines.items() if name not in _OF_READS}
    if deadlines:
        protocol._watching = Watching(protocol, reader, deadlines, passed)


class Watching:
    """Watches one connection from when it is established until it is lost."""

    __slots__ = ("_passed", "_protocol", "_reader", "_timer", "_watch", "failure")

    def __init__(self, protocol, reader, deadlines, passed=None):
        loop = protocol._loop
        self._protocol = weakref.ref(protocol)
        #: Weak: the loop's timer must not keep a connection that the program has forgotten.
        self._reader = weakref.ref(reader)
        self._passed = passed
        #: What the connection was cut for.
        self.failure = None
        self._watch = _core.Watch(loop.time(), **deadlines)
        self._timer = loop.call_at(self._watch.first_look(), self._look)
        if "write_progress_timeout" in deadlines and hasattr(socket, "TCP_NOTSENT_LOWAT"):
            sock = protocol._transport.get_extra_info("socket")
            if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)

    def end(self):
        """There is no connection any more."""
        self._timer.cancel()

    def explains(self, exc):
        """Whether an exception is that of the deadline that has passed, was raised from it, or is a group of such."""
        if self.failure is None:
            return False
        members = getattr(exc, "exceptions", None)  # before 3.11 there are no groups
        if members and isinstance(members, tuple):
            return all(map(self.explains, members))
        for _ in range(_CAUSES):
            # Everyone who was told has an object of their own.
            if type(exc) is TimeoutError and exc.args == self.failure.args:
                return True
            exc = getattr(exc, "__cause__", None)
        return False

    def _look(self):
        protocol = self._protocol()
        transport = protocol and protocol._transport
        if transport is None:
            return
        loop = protocol._loop
        buffered = unsent(transport)
        reader = self._reader()
        following, passed = self._watch.look(loop.time(), _FORGOTTEN if reader is None else reader, buffered)
        if passed is None:
            self._timer = loop.call_at(following, self._look)
            return
        kind, text = passed
        self.failure = TimeoutError(text)
        if self._passed is not None:
            self._passed(kind)
        if reader is not None:
            reader._connection_failed(TimeoutError(text))
        if kind == "idle" and not buffered:
            transport.close()
        else:
            reset(transport)


def unsent(transport):
    """How many bytes wait in a transport and in the one under its TLS. TLS itself counts only what it has not passed on."""
    size = 0
    while transport is not None:
        under = _under(transport)
        if under is None or not _tells_of_the_one_under_it(transport):
            size += transport.get_write_buffer_size()
        transport = under
    return size


def _tells_of_the_one_under_it(transport):
    return sys.version_info < (3, 11) and isinstance(transport, sslproto._SSLProtocolTransport)


def _under(transport):
    """The transport that carries one of TLS. ``None`` if there is none, or if none can be found."""
    if transport.get_extra_info("ssl_object") is None:
        return None
    protocol = getattr(transport, "_ssl_protocol", None)
    if protocol is not None:
        under = getattr(protocol, "_transport", None)
        return under if hasattr(under, "get_write_buffer_size") else None
    # uvloop's have no attributes. The collector knows what its TLS holds: the one that it is the protocol of carries it.
    protocol = transport.get_extra_info("uvloop.sslproto")
    for under in gc.get_referents(protocol):
        if hasattr(under, "get_write_buffer_size") and under.get_protocol() is protocol:
            return under
    return None


def reset(transport):
    """Ends a connection so that its peer does not take what it has for all there is."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except (OSError, ValueError):  # it is closed already
            pass
    transport.abort()
