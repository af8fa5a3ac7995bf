"""The writing half of a connection: constructor, closing, the upgrade to TLS, warnings.

What is done for each write is native (``_core.WriterBase``).
"""

from __future__ import annotations

import asyncio
import warnings

from . import _core, _direct, streams
from ._protocol import link_of
from ._stopping import stopping_of

_direct.learn()


class StreamWriter(_core.WriterBase):
    """The writing half of a connection. Writes are gathered and leave together: at the latest when the connection's reader
    waits, or at the end of the loop's turn."""

    def __init__(self, transport, protocol, reader, loop):
        # The names are looked up when they are needed, so that a patched class is asked for. That module imports this one.
        assert reader is None or isinstance(reader, (streams.StreamReader, _core.ReaderBase))
        self._protocol = protocol
        self._reader = reader
        self._loop = loop
        is_ours = (
            isinstance(protocol, streams.StreamReaderProtocol)
            and type(protocol)._drain_helper is streams.FlowControlMixin._drain_helper
            and (reader is None or type(reader).exception is _core.ReaderBase.exception)
        )
        native_reader = reader if isinstance(reader, _core.ReaderBase) else None
        self._setup(transport, loop, link_of(loop), protocol if is_ours else None, native_reader)

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
        return stopping_of(getattr(self._protocol, "_served", None))

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
