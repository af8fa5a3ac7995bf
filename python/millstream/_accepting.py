"""A server that accepts its connections itself, on any loop: so that it can hold back before it accepts, refuse without a
reset, and pause where the machine has run out of something.

Its sockets are bound by the loop, with all of ``create_server``'s keywords; its transports are the loop's as well.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
import ssl

from ._clients import Server
from ._limits import Admission
from ._lingering import Lingering
from ._served import Served

#: Errors that Linux passes on from the connection that would have been accepted (accept(2)): the next one is fine.
_PEERS_DOING = {
    getattr(errno, name)
    for name in (
        "ECONNABORTED ECONNRESET EPROTO ENOPROTOOPT ENETDOWN ENETUNREACH EHOSTDOWN EHOSTUNREACH EOPNOTSUPP EPERM ETIMEDOUT"
    ).split()
    if hasattr(errno, name)
}
#: Pauses double from here after every failure without a success between.
_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 1.0
#: Failures that are no further apart than this belong to one outage.
_BURST_GAP = 10.0
#: Refused connections that are not closed yet. With more, the oldest is closed as it is: a crowd that comes again and again
#: must not take the descriptors that the cap was to save.
_MOST_REFUSED = 256


async def start_accepting(clients, options, create, keywords):
    """A server whose sockets ``create`` binds, with the keywords of asyncio's function."""
    start_serving = keywords.pop("start_serving", True)
    bound = await create(start_serving=False, **keywords)
    tls = {name: keywords[name] for name in keywords if name.startswith("ssl")}
    server = AcceptingServer(bound, clients, options, keywords.get("backlog", 100), tls)
    if start_serving:
        try:
            await server.start_serving()
        except BaseException:
            server.close()
            raise
    return server


class AcceptingServer(Server):
    """The server. Where it holds the loop's own, that never accepts: it has the sockets."""

    def __init__(self, bound, clients, options, backlog, tls):
        super().__init__(bound, clients)
        self._loop = clients.loop
        self._farewell = b"" if tls.get("ssl") else options.farewell
        self._refused = Lingering(self._loop, _MOST_REFUSED)
        self._listeners = []
        self._admission = Admission(options)
        self._backlog = backlog
        self._tls = tls
        self._tasks = set()
        self._serving_forever = None

    def is_serving(self):
        return bool(self._listeners)

    async def start_serving(self):
        self._start()

    def _start(self):
        if self._streams.is_closed:
            raise RuntimeError(f"server {self!r} is closed")
        if self._listeners:
            return
        for bound in self._server.sockets:
            self._listeners.append(_Listener(self, bound.dup()))
        for listener in self._listeners:
            listener.start()

    async def serve_forever(self):
        if self._serving_forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        self._start()
        self._serving_forever = self._loop.create_future()
        try:
            await self._serving_forever
        except asyncio.CancelledError:
            try:
                if not self._streams.is_closed:
                    # Nobody closed it, which leaves its clients alone: who serves it gives up.
                    self.close()
                    self.close_clients()
                await self.wait_closed()
            finally:
                raise
        finally:
            self._serving_forever = None

    def close(self):
        if self._streams.is_closed:
            return
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.close()
        self._server.close()
        self._refused.close_all()
        if self._serving_forever is not None and not self._serving_forever.done():
            self._serving_forever.cancel()
        self._streams.closed()

    async def wait_closed(self):
        """Waits until the server is closed and no connection is left."""
        await self._streams.wait_over()

    def arrives(self, sock, address):
        """Someone was accepted."""
        sock.setblocking(False)
        if sock.proto == 0 and sock.family in (socket.AF_INET, socket.AF_INET6):
            # Of a listening socket that was made without a number: the stock loop does not see that it is TCP.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        counters = self._streams.counters
        permit = self._admission.admit(address)
        if isinstance(permit, str):
            setattr(counters, permit, getattr(counters, permit) + 1)
            self._refuse(sock)
            return
        served = Served(self._streams, permit)
        served.opens()
        task = self._loop.create_task(self._connect(sock, served))
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._connect_ended, sock, served))
        served.connects(task)

    def _refuse(self, sock):
        """Says farewell, as much of it as fits into an empty buffer, and closes."""
        if self._farewell:
            try:
                sock.send(self._farewell)
            except OSError:  # it takes nothing: it will be told the end
                pass
        self._refused.add(sock)

    def _connect_ended(self, sock, served, task):
        self._tasks.discard(task)
        if task.cancelled():
            # Before it had begun: else it sees to it itself.
            sock.close()
            served.lost()

    async def _connect(self, sock, served):
        """Makes the transport, over TLS when the handshake is done."""
        counters = self._streams.counters
        is_tls = bool(self._tls.get("ssl"))
        protocols = []

        def factory():
            protocols.append(self._streams.protocol(served))
            return protocols[0]

        counters.handshakes += is_tls
        try:
            await self._loop.connect_accepted_socket(factory, sock, **self._tls)
        except BaseException as error:
            if not protocols:
                sock.close()
            if is_tls and served.stop_end is None:
                counters.handshakes_failed += 1
            served.lost()
            if not isinstance(error, (OSError, ssl.SSLError, asyncio.CancelledError)):
                raise
        finally:
            counters.handshakes -= is_tls


class _Listener:
    """One listening socket."""

    def __init__(self, server, sock):
        self._server = server
        self._loop = server._loop
        self._sock = sock
        self._pause = _FIRST_PAUSE
        self._timer = None
        self._failed_at = None

    def start(self):
        self._sock.setblocking(False)
        self._sock.listen(self._server._backlog)
        self._listen()

    def close(self):
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()

    def _listen(self):
        if self._sock.fileno() >= 0:
            self._timer = None
            self._loop.add_reader(self._sock.fileno(), self._accept)

    def _accept(self):
        """Someone is there: at most a backlog of them in one turn."""
        admission = self._server._admission
        for _ in range(max(self._server._backlog, 1)):
            if admission.holds_back():
                # They wait in the kernel's backlog, which pushes back.
                self._loop.remove_reader(self._sock.fileno())
                admission.call_when_free(self._listen)
                return
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._server._streams.counters.accept_errors += 1
                if error.errno in _PEERS_DOING:
                    continue
                self._fail(error)
                return
            self._pause = _FIRST_PAUSE
            self._server.arrives(sock, address)

    def _fail(self, error):
        """Accepting pauses. One report an outage: at the limit every connection that ends lets one in before accepting fails
        again, so it is over only after a time without failures."""
        now = self._loop.time()
        self._server._streams.counters.accept_pauses += 1
        self._loop.remove_reader(self._sock.fileno())
        self._timer = self._loop.call_later(self._pause, self._listen)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        if self._failed_at is None or now - self._failed_at > _BURST_GAP:
            self._loop.call_exception_handler(
                {
                    "message": f"accepting pauses: {error}",
                    "exception": error,
                    "socket": self._sock,
                }
            )
        self._failed_at = now
