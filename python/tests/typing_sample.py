"""A program that uses every public name, for ``mypy --strict``; see ``make lint-python``."""

from __future__ import annotations

import asyncio
import signal
import ssl
import sys

import millstream

if sys.version_info >= (3, 11):
    from typing import assert_type
else:
    from typing_extensions import assert_type


async def handler(reader: millstream.StreamReader, writer: millstream.StreamWriter) -> None:
    async with writer as same:
        assert_type(same, millstream.StreamWriter)
        async for line in reader:
            assert_type(line, bytes)
            writer.write(line.strip() + b"\n")
            writer.writelines([line, bytearray(line), memoryview(line)])
            await writer.drain()


def plain(reader: millstream.StreamReader, writer: millstream.StreamWriter) -> None:
    writer.abort()


class Lines(millstream.StreamReader):
    """A subclass with a constructor of its own."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self.name = name
        super().__init__(limit=1 << 20, loop=loop)

    def feed_eof(self) -> None:
        super().feed_eof()


async def reads(reader: millstream.StreamReader) -> None:
    loop = asyncio.get_running_loop()
    assert_type(await reader.readline(), bytes)
    assert_type(await reader.readline(limit=100, deadline=loop.time() + 1), bytes)
    assert_type(await reader.read(), bytes)
    assert_type(await reader.read(100), bytes)
    assert_type(await reader.readexactly(4, deadline=None), bytes)
    assert_type(await reader.readuntil(b"\r\n", limit=1 << 20), bytes)
    assert_type(await reader.readuntil((b"\r\n", b"\n")), bytes)
    assert_type(await reader.readlines(10), list[bytes])
    assert_type(await reader.readinto(bytearray(10)), int)
    assert_type(await reader.peek(3), bytes)
    assert_type(await asyncio.create_task(reader.readline()), bytes)
    assert_type(await asyncio.wait_for(reader.read(1), timeout=1), bytes)
    first, count = await asyncio.gather(reader.readline(), reader.readinto(bytearray(1)))
    assert_type(first, bytes)
    assert_type(count, int)
    assert_type(reader.buffered, int)
    assert_type(reader.at_eof(), bool)
    assert_type(reader.exception(), BaseException | None)


async def until_stopped(reader: millstream.StreamReader, writer: millstream.StreamWriter) -> None:
    stopping = writer.stopping()
    assert_type(stopping, millstream.Stopping)
    assert_type(reader.stopping().is_requested(), bool)
    await stopping.requested()
    assert_type(stopping.time_left(), float | None)


async def fit_for_the_internet() -> None:
    server = await millstream.start_server(
        until_stopped,
        "127.0.0.1",
        0,
        max_connections=10_000,
        max_connections_per_peer=100,
        when_full="refuse",
        farewell=b"421 try later\r\n",
        end_idle_on_stop=False,
        item_deadline=30,
        idle_timeout=75.0,
        min_receive_rate=(500, 30),
        write_progress_timeout=60,
    )
    stats = server.stats()
    assert_type(stats, millstream.ServerStats)
    assert_type(stats.refused_full, int)
    assert_type(stats.passed_deadlines["idle"], int)
    assert_type(await server.stop(10), millstream.Stopped)
    number, stopped = await server.serve_until_terminated(30)
    assert_type(number, signal.Signals | None)
    assert_type(stopped.aborted, int)
    await millstream.open_connection("localhost", 1, idle_timeout=75)


async def main() -> None:
    server = await millstream.start_server(handler, "127.0.0.1", 0, limit=1 << 20, backlog=10)
    async with server:
        host, port = server.sockets[0].getsockname()
        reader, writer = await millstream.open_connection(host, port, ssl=None)
        assert_type(reader, millstream.StreamReader)
        assert_type(writer, millstream.StreamWriter)
        await reads(reader)
        writer.cork(False)
        writer.flush()
        assert_type(writer.corked, int)
        assert_type(writer.transport, asyncio.WriteTransport)
        await writer.start_tls(ssl.create_default_context(), server_hostname="localhost")
        await writer.aclose(timeout=1.5)
        await writer.wait_closed()
        server.close_clients()
        server.abort_clients()
        await server.serve_forever()
    if sys.platform != "win32":
        unix = await millstream.start_unix_server(plain, "/tmp/socket")
        unix.close()
        _, writer = await millstream.open_unix_connection("/tmp/socket")
        writer.close()


millstream.install()
assert_type(millstream.is_installed(), bool)
millstream.uninstall()
assert_type(millstream.__version__, str)
asyncio.run(main())
