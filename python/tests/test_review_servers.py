"""What a review of the servers found: the class, handshakes that end, signals, options that make no sense."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket

import millstream
import pytest
from support import turns

KINDS = [pytest.param({}, id="plain"), pytest.param({"max_connections": 1000}, id="accepting")]
kinds = pytest.mark.parametrize("options", KINDS)


async def until_the_end(reader, writer):
    with contextlib.suppress(OSError):
        await reader.read()
    writer.close()


async def serve(handler=until_the_end, **options):
    server = await millstream.start_server(handler, "127.0.0.1", 0, **options)
    return server, server.sockets[0].getsockname()


def plain(address):
    sock = socket.create_connection(address)
    sock.setblocking(False)
    return sock


def is_stock(loop):
    return isinstance(loop, asyncio.BaseEventLoop)


def test_a_plain_server_is_the_loops_own_and_one_of_asyncios_class_on_the_stock_loop(run):
    async def main():
        server, _ = await serve()
        assert isinstance(server, asyncio.AbstractServer)
        if is_stock(run.loop):
            assert isinstance(server, asyncio.Server)
            assert (type(server).__name__, type(server).__module__) == ("Server", asyncio.Server.__module__)
        server.close()
        await server.wait_closed()

    run(main())


@kinds
def test_a_bound_close_keeps_its_server_alive(run, options):
    async def main():
        server, address = await serve(**options)
        close = server.close
        del server
        gc.collect()
        reader, writer = await millstream.open_connection(*address)
        await writer.aclose()
        close()
        await turns(5)
        with pytest.raises(OSError):
            await millstream.open_connection(*address)

    run(main())
