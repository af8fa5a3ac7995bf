"""The streams as a user meets them: connect, serve, read, write, close, and the additions to asyncio's."""

from __future__ import annotations

import asyncio

import millstream
import pytest


async def serve(handler):
    server = await millstream.start_server(handler, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


async def echo(reader, writer):
    async for line in reader:
        writer.write(line)
        await writer.drain()
    writer.close()


def test_an_echo_server_gives_back_every_line(run):
    async def main():
        server, port = await serve(echo)
        reader, writer = await millstream.open_connection("127.0.0.1", port)
        lines = [b"line %d\n" % number for number in range(1000)]
        for line in lines:
            writer.write(line)
        assert [await reader.readline() for _ in lines] == lines
        await writer.aclose()
        server.close()
        await server.wait_closed()

    run(main())


def test_a_read_ends_at_its_deadline_and_loses_nothing(run):
    async def main():
        async def part(reader, writer):
            writer.write(b"par")
            await reader.read()
            writer.write(b"tial\n")
            writer.close()

        server, port = await serve(part)
        reader, writer = await millstream.open_connection("127.0.0.1", port)
        with pytest.raises(asyncio.TimeoutError):
            await reader.readline(deadline=run.loop.time() + 0.05)
        writer.write_eof()
        assert await reader.readline() == b"partial\n"
        await writer.aclose()
        server.close()
        await server.wait_closed()

    run(main())
