"""One server of the comparison: ``serve.py STREAMS LOOP WORK [CORE]`` prints its port and serves until it is ended.

STREAMS is ``stock`` (asyncio's own), ``millstream``, or ``protocol`` (no streams: a bare ``asyncio.Protocol``, the floor of
what the loop allows). LOOP is ``asyncio``, ``uvloop``, ``rloop`` or ``rsloop``. WORK is ``lines``, ``bulk``, ``counted``
(messages behind their length) or the size of every message in bytes, with ``tls-`` before it over TLS 1.3.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import ssl
import sys


async def echo_lines(reader, writer):
    while True:
        line = await reader.readline()
        if not line:
            break
        writer.write(line)
        await writer.drain()
    writer.close()


async def echo_bulk(reader, writer):
    while True:
        data = await reader.read(65536)
        if not data:
            break
        writer.write(data)
        await writer.drain()
    writer.close()


def echo_messages(size):
    async def echo(reader, writer):
        try:
            while True:
                message = await reader.readexactly(size)
                writer.write(message)
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()

    return echo


async def echo_counted(reader, writer):
    """Messages behind their length, four bytes with the most significant first."""
    try:
        while True:
            length = await reader.readexactly(4)
            body = await reader.readexactly(int.from_bytes(length, "big"))
            # One write: a header on its own would be a send of its own on asyncio's transports.
            writer.write(length + body)
            await writer.drain()
    except asyncio.IncompleteReadError:
        writer.close()


def quiet(handler):
    """Load generators end as they like."""

    async def wrapped(reader, writer):
        try:
            await handler(reader, writer)
        except ConnectionError:
            writer.close()

    return wrapped


class EchoProtocol(asyncio.BufferedProtocol):
    """The least that a loop can do for an echo: one buffer for all, and no look at what came."""

    buffer = memoryview(bytearray(65536))

    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, count):
        self.transport.write(bytes(self.buffer[:count]))


def new_loop(name):
    if name == "asyncio":
        return asyncio.new_event_loop()
    return importlib.import_module(name).new_event_loop()


def server_side_tls():
    """A context with a certificate that is made for this run."""
    import trustme

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    trustme.CA().issue_cert("localhost").configure_cert(context)
    return context


async def main(streams, work):
    keywords = {}
    if work.startswith("tls-"):
        work = work.removeprefix("tls-")
        keywords["ssl"] = server_side_tls()
    if streams == "protocol":
        loop = asyncio.get_running_loop()
        server = await loop.create_server(EchoProtocol, "127.0.0.1", 0)
    else:
        module = asyncio if streams == "stock" else importlib.import_module("millstream")
        handlers = {"lines": echo_lines, "bulk": echo_bulk, "counted": echo_counted}
        handler = handlers.get(work) or echo_messages(int(work))
        server = await module.start_server(quiet(handler), "127.0.0.1", 0, **keywords)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    streams, loop_name, work, *core = sys.argv[1:]
    if core:
        os.sched_setaffinity(0, {int(core[0])})
    loop = new_loop(loop_name)
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(main(streams, work))
    except KeyboardInterrupt:
        pass
