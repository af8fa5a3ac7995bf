"""One connection of a server: its permit, its handler, its deadlines, and how a stop of the server ends it."""

from __future__ import annotations

import contextlib
import weakref

from . import _core
from ._deadlines import reset, unsent, watch


class Served:
    """What a server knows of one connection. It counts from when the server hears of it until it is closed and its handler
    has ended."""

    __slots__ = (
        "__weakref__",
        "_clients",
        "_handshake",
        "_is_open",
        "_lingers",
        "_permit",
        "_protocol",
        "_task",
        "_watched",
        "stop_end",
    )

    def __init__(self, clients, permit=None):
        self._clients = clients
        self._permit = permit
        self._protocol = None
        #: Its transport, which may be given to another protocol, and then only goes.
        self._watched = None
        #: The task in which its transport is made.
        self._handshake = None
        self._task = None
        self._is_open = False
        #: Its socket, while it only waits for its peer to read the last of what it was sent.
        self._lingers = None
        #: How the stop of its server ended it: "idle", "aborted", or not.
        self.stop_end = None

    @property
    def stop(self):
        return self._clients.stop

    # What happens to it.

    def opens(self):
        """It is accepted. Returns whether it is wanted."""
        if self._is_open:
            return self.stop_end is None
        self._is_open = True
        return self._clients.joins(self)

    def connects(self, task):
        """Its transport is being made, in this task."""
        if not task.done():
            self._handshake = task

    def connected(self, protocol, transport):
        """It is established. Returns whether it is wanted: its handler is called next."""
        self._handshake = None
        self._protocol = weakref.ref(protocol)
        with contextlib.suppress(TypeError):  # uvloop's over TLS cannot be watched
            self._watched = weakref.ref(transport, self._gone)
        if not self.opens():
            return False
        watch(protocol, protocol._stream_reader, self._clients.deadlines, self._clients.passed_deadline)
        if self.stop.deadline is not None and self._clients.ends_idle:
            self.tell_when_it_waits()
        return True

    def handled(self, task):
        """Its handler runs."""
        self._task = task

    def handler_ended(self):
        self._task = None
        transport = self._watched and self._watched()
        if transport is not None and transport.is_closing() and self._lingers is None:
            with contextlib.suppress(AttributeError):  # one over TLS that has ended
                if transport.get_protocol() not in (None, self._protocol()):
                    # It was given to another, and ours is not told when it is closed.
                    self._is_open = False
        self._look_whether_over()

    def handler_failed(self):
        self._clients.counters.handler_errors += 1

    def lost(self, transport=None, exc=None):
        """It is closed, or is about to be."""
        if self.stop_end == "idle" and exc is None and transport is not None:
            # What its peer sends at this moment must not make a reset of the end.
            sock = _copy_of_its_socket(transport)
            if sock is not None and self._clients.lingering.add(sock, self._lingered):
                self._lingers = sock
                return
        self._is_open = False
        self._look_whether_over()

    def _gone(self, _):
        """Its transport went, perhaps without telling us; in whichever thread."""
        if self._is_open and self._lingers is None and self._handshake is None:
            with contextlib.suppress(RuntimeError):  # with its loop
                self._clients.loop.call_soon_threadsafe(self.lost)

    def _lingered(self):
        self._lingers = None
        self.lost()

    def _look_whether_over(self):
        if not self._is_open and self._task is None:
            self._leave()

    def forget(self):
        """Nobody waits for it any more."""
        self.stop_end = "aborted"
        self._leave()

    def _leave(self):
        permit, self._permit = self._permit, None
        if permit is not None:
            permit.release()
        self._clients.leaves(self)

    # What a stop asks of it.

    def tell_when_it_waits(self):
        """From here on looks whether it is idle whenever its reader begins to wait."""
        reader = self._reader()
        if reader is not None:
            reader._call_on_wait(self.end_if_idle)

    def end_if_idle(self):
        """If it is idle, its reader is told an end."""
        reader = self._reader()
        if reader is None or self.stop_end is not None or not self.stop.ends(reader._idle()):
            return
        transport = self._transport()
        if transport is None or unsent(transport):
            return
        self.stop_end = "idle"
        reader._call_on_wait(None)
        reader._deafen()
        reader.feed_eof()

    def end_handshake(self):
        if self._handshake is not None:
            self.stop_end = "idle"
            handshake, self._handshake = self._handshake, None
            handshake.cancel()

    def cut_off(self):
        """The time is up."""
        if self._lingers is not None:
            self._clients.lingering.close(self._lingers)
            if self._task is None:
                return
        transport = self._transport()
        if self._task is None and transport is not None and transport.is_closing():
            if not unsent(transport):
                # Everything was sent, and only the peer's end is missing.
                transport.abort()
                return
        self.stop_end = "aborted"
        if self._handshake is not None:
            self._handshake.cancel()
        if transport is not None:
            reset(transport)
        if self._task is not None:
            self._task.cancel()

    def _transport(self):
        protocol = self._protocol and self._protocol()
        return (protocol and protocol._transport) or (self._is_open and self._watched and self._watched()) or None

    def _reader(self):
        protocol = self._protocol and self._protocol()
        reader = protocol and protocol._stream_reader
        return reader if isinstance(reader, _core.ReaderBase) else None


def _copy_of_its_socket(transport):
    """A copy of the socket of a transport that is about to close it; ``None`` where that is too late, as with TLS."""
    sock = transport.get_extra_info("socket")
    try:
        copy = sock and sock.dup()
    except (OSError, ValueError):
        return None
    if copy is not None:
        copy.setblocking(False)
    return copy
