"""Sockets that have said their last word: their peers get a moment in which to read it.

A socket that is closed while its peer's bytes are unread resets the connection, and what the peer has not got yet may be lost
with it. So what it still sends is read and dropped, for a moment.
"""

from __future__ import annotations

import socket

#: How long a peer may take to read the last of what it was sent, and to close.
LONGEST = 1.0


class Lingering:
    """Sockets that have ended and are not closed yet, the oldest first."""

    def __init__(self, loop, most=None):
        self._loop = loop
        self._most = most
        #: By socket: the timer that closes it, and who is told when it is closed.
        self._sockets = {}

    def __len__(self):
        return len(self._sockets)

    def add(self, sock, closed=None):
        """Ends our side of this socket, which does not block, and closes it soon. With more than the most, the oldest is
        closed as it is. Returns whether it lingers; if not, it is closed already."""
        try:
            sock.shutdown(socket.SHUT_WR)
        except OSError:  # the peer went
            sock.close()
            return False
        if self._most is not None and len(self._sockets) >= self._most:
            self.close(next(iter(self._sockets)))
        self._sockets[sock] = (self._loop.call_later(LONGEST, self.close, sock), closed)
        self._loop.add_reader(sock.fileno(), self._drop, sock)
        return True

    def close(self, sock):
        timer, closed = self._sockets.pop(sock, (None, None))
        if timer is None:
            return
        timer.cancel()
        self._loop.remove_reader(sock.fileno())
        sock.close()
        if closed is not None:
            closed()

    def close_all(self):
        for sock in list(self._sockets):
            self.close(sock)

    def _drop(self, sock):
        """What the peer still sends is read and dropped, up to its end."""
        try:
            if sock.recv(1 << 16):
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            pass
        self.close(sock)
