"""Connections that are refused: a farewell, an end, and a moment in which the peer may read both.

A socket that is closed while its peer's bytes are unread resets the connection, and the farewell may be lost with it.
"""

from __future__ import annotations

import collections
import socket

#: How long a refused peer may take to read why.
LONGEST_FAREWELL = 1.0
#: Refused connections that are not closed yet. With more, the oldest is closed as it is: a crowd that comes again and again
#: must not take the descriptors that the cap was to save.
MOST_AT_ONCE = 256


class Refused:
    """Refused connections that are not closed yet, the oldest first."""

    def __init__(self, loop, farewell):
        self._loop = loop
        self._farewell = farewell
        self._leaving = collections.OrderedDict()

    def refuse(self, sock):
        """Says farewell to the peer of this socket, which is open and does not block, and closes it soon."""
        try:
            if self._farewell:
                sock.send(self._farewell)
            sock.shutdown(socket.SHUT_WR)
        except OSError:  # it went, or takes nothing
            sock.close()
            return
        if len(self._leaving) >= MOST_AT_ONCE:
            self._close(next(iter(self._leaving)))
        self._leaving[sock] = self._loop.call_later(LONGEST_FAREWELL, self._close, sock)
        self._loop.add_reader(sock.fileno(), self._drop, sock)

    def close(self):
        """Closes all of them."""
        for sock in list(self._leaving):
            self._close(sock)

    def _drop(self, sock):
        """What the peer still sends is read and dropped, up to its end."""
        try:
            if sock.recv(1 << 16):
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            pass
        self._close(sock)

    def _close(self, sock):
        timer = self._leaving.pop(sock, None)
        if timer is None:
            return
        timer.cancel()
        self._loop.remove_reader(sock.fileno())
        sock.close()
