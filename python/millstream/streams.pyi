import asyncio
import ssl as _ssl
import sys
from collections.abc import Awaitable, Callable
from os import PathLike
from types import TracebackType
from typing import Any, type_check_only

from typing_extensions import Self

from . import _core

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

async def open_connection(
    host: str | None = None, port: int | str | None = None, *, limit: float = 65536, **kwds: Any
) -> tuple[StreamReader, StreamWriter]: ...
async def start_server(
    client_connected_cb: _ClientConnectedCallback,
    host: str | None = None,
    port: int | str | None = None,
    *,
    limit: float = 65536,
    **kwds: Any,
) -> _Server: ...

if sys.platform != "win32":
    async def open_unix_connection(
        path: str | PathLike[str] | None = None, *, limit: float = 65536, **kwds: Any
    ) -> tuple[StreamReader, StreamWriter]: ...
    async def start_unix_server(
        client_connected_cb: _ClientConnectedCallback,
        path: str | PathLike[str] | None = None,
        *,
        limit: float = 65536,
        **kwds: Any,
    ) -> _Server: ...
