import asyncio
import signal as _signal
import ssl as _ssl
import sys
from collections.abc import Awaitable, Callable
from os import PathLike
from types import TracebackType
from typing import Any, Literal, type_check_only

from typing_extensions import Self

from . import _core
from ._stats import ServerStats
from ._stopping import Stopped, Stopping

if sys.platform == "win32":
    __all__ = [
        "FlowControlMixin",
        "StreamReader",
        "StreamReaderProtocol",
        "StreamWriter",
        "open_connection",
        "start_server",
    ]
else:
    __all__ = [
        "FlowControlMixin",
        "StreamReader",
        "StreamReaderProtocol",
        "StreamWriter",
        "open_connection",
        "start_server",
        "open_unix_connection",
        "start_unix_server",
    ]

_ClientConnectedCallback = Callable[[StreamReader, StreamWriter], Awaitable[None] | None]

@type_check_only
class _Server(asyncio.Server):
    """asyncio's, with what it has since 3.13 on every version."""

    def close_clients(self) -> None: ...
    def abort_clients(self) -> None: ...
    def stats(self) -> ServerStats:
        """The counters as they are now."""

    async def stop(self, within: float) -> Stopped:
        """Stops gracefully within so many seconds, in this order: accepting ends; handlers are told, by ``stopping()``; idle
        connections end at once, and others as soon as they are idle; what is left at the deadline is reset, and its handler
        cancelled. Returns when no connection and no handler is left, or a second after the deadline.

        A connection is idle when a read waits with an empty buffer, nothing is left to send, and something was written since
        the last read. Its read ends as if the peer had ended its side; the handler may still write. One from which nothing
        was read so far counts as idle after a quarter of a second.

        Called again, the earliest deadline counts, and all calls return the same numbers. Cancelled, it goes on."""

    async def serve_until_terminated(self, within: float) -> tuple[_signal.Signals | None, Stopped]:
        """Serves until this process is asked to end, by SIGTERM or SIGINT (Ctrl-C), then stops within so many seconds. A
        second such signal cuts the rest off at once. Returns which signal it was, ``None`` if someone else closed the
        server, and what became of the connections. Only in the main thread."""

class FlowControlMixin(asyncio.Protocol):
    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None: ...

class StreamReaderProtocol(_core.ProtocolBase, FlowControlMixin, asyncio.BufferedProtocol):
    def __init__(
        self,
        stream_reader: StreamReader | None,
        client_connected_cb: _ClientConnectedCallback | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None: ...
    def get_buffer(self, _sizehint: int) -> memoryview: ...
    def buffer_updated(self, nbytes: int) -> None: ...
    def __del__(self) -> None: ...

class StreamWriter(_core.WriterBase):
    def __init__(
        self,
        transport: asyncio.WriteTransport,
        protocol: asyncio.BaseProtocol,
        reader: StreamReader | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None: ...
    @property
    def transport(self) -> asyncio.WriteTransport: ...
    def write_eof(self) -> None: ...
    def can_write_eof(self) -> bool: ...
    def close(self) -> None: ...
    def abort(self) -> None:
        """Closes at once; what was not sent is lost."""

    def is_closing(self) -> bool: ...
    async def wait_closed(self) -> None: ...
    async def aclose(self, timeout: float | None = None) -> None:
        """Closes and waits until it is closed, at most ``timeout`` seconds, after which it is aborted. That the peer broke
        the connection first is no error."""

    def stopping(self) -> Stopping:
        """A token that tells when the server which accepted this connection is being stopped."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc_info: type[BaseException] | BaseException | TracebackType | None) -> None: ...
    def get_extra_info(self, name: str, default: Any = None) -> Any: ...
    async def start_tls(
        self,
        sslcontext: _ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> None:
        """Upgrade an existing stream-based connection to TLS. Bytes that have arrived and were not read are part of the
        handshake."""

    def __del__(self, warnings: Any = ...) -> None: ...

class StreamReader(_core.ReaderBase):
    def __init__(self, limit: float = 65536, loop: asyncio.AbstractEventLoop | None = None) -> None: ...
    def stopping(self) -> Stopping:
        """A token that tells when the server which accepted this connection is being stopped."""

async def open_connection(
    host: str | None = None,
    port: int | str | None = None,
    *,
    limit: float = 65536,
    item_deadline: float | None = None,
    idle_timeout: float | None = None,
    min_receive_rate: tuple[int, float] | None = None,
    write_progress_timeout: float | None = None,
    **kwds: Any,
) -> tuple[StreamReader, StreamWriter]: ...
async def start_server(
    client_connected_cb: _ClientConnectedCallback,
    host: str | None = None,
    port: int | str | None = None,
    *,
    limit: float = 65536,
    max_connections: int | None = None,
    max_connections_per_peer: int | None = None,
    when_full: Literal["wait", "refuse"] = "wait",
    farewell: bytes = b"",
    end_idle_on_stop: bool = True,
    item_deadline: float | None = None,
    idle_timeout: float | None = None,
    min_receive_rate: tuple[int, float] | None = None,
    write_progress_timeout: float | None = None,
    **kwds: Any,
) -> _Server: ...

if sys.platform != "win32":
    async def open_unix_connection(
        path: str | PathLike[str] | None = None,
        *,
        limit: float = 65536,
        item_deadline: float | None = None,
        idle_timeout: float | None = None,
        min_receive_rate: tuple[int, float] | None = None,
        write_progress_timeout: float | None = None,
        **kwds: Any,
    ) -> tuple[StreamReader, StreamWriter]: ...
    async def start_unix_server(
        client_connected_cb: _ClientConnectedCallback,
        path: str | PathLike[str] | None = None,
        *,
        limit: float = 65536,
        max_connections: int | None = None,
        max_connections_per_peer: int | None = None,
        when_full: Literal["wait", "refuse"] = "wait",
        farewell: bytes = b"",
        end_idle_on_stop: bool = True,
        item_deadline: float | None = None,
        idle_timeout: float | None = None,
        min_receive_rate: tuple[int, float] | None = None,
        write_progress_timeout: float | None = None,
        **kwds: Any,
    ) -> _Server: ...
