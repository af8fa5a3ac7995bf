"""A line protocol: a store of names and values, with ``SET name value``, ``GET name`` and ``QUIT``.

    python line_server.py [HOST] [PORT]
"""

import asyncio
import sys

import millstream


async def serve(reader, writer, store):
    """One client, from its first line to its end."""
    async with writer:  # closes, and waits until everything was sent
        while True:
            try:
                line = await reader.readuntil(b"\n")
            except asyncio.IncompleteReadError as end:
                line = end.partial  # the last line may lack its line feed
                if not line:
                    return  # the client has ended its side
            except asyncio.LimitOverrunError:
                # The line is still in the buffer and the stream is whole: drop just this line, and go on.
                writer.write(b"ERROR a line has at most 1024 bytes\n")
                if not await skip_line(reader):
                    return
                continue
            if line.rstrip() == b"QUIT":
                writer.write(b"BYE\n")
                return
            writer.write(answer(line.rstrip(), store) + b"\n")
            await writer.drain()  # lets a client that reads slowly keep up


async def skip_line(reader):
    """Drops everything through the next line feed. False if the stream ends before."""
    while part := await reader.peek():
        here, found, _ = part.partition(b"\n")
        await reader.readexactly(len(here) + len(found))
        if found:
            return True
    return False


def answer(line, store):
    match line.split(b" ", 2):
        case [b"SET", name, value]:
            store[name] = value
            return b"OK"
        case [b"GET", name]:
            return store.get(name, b"")
        case _:
            return b"ERROR what?"


async def start(host, port):
    store = {}
    limit = 1024  # the longest line of this protocol
    return await millstream.start_server(lambda r, w: serve(r, w, store), host, port, limit=limit)


async def main(host, port):
    server = await start(host, port)
    for sock in server.sockets:
        print(f"Serving on {sock.getsockname()}", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    host, port = (sys.argv[1:] + ["127.0.0.1", "8888"][len(sys.argv) - 1 :])[:2]
    try:
        asyncio.run(main(host, int(port)))
    except KeyboardInterrupt:
        pass
