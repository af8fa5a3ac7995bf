"""The Python half of ``make demo``: talks to a server of the Rust face, then serves it one of its own.

    python demo.py PORT_OF_AN_ECHO_SERVER
"""

import asyncio
import sys

import echo_client
import millstream
import open_socket


async def pipelined(port, count):
    reader, writer = await millstream.open_connection("127.0.0.1", port)
    for number in range(count):
        writer.write(b"line %d\n" % number)
    for number in range(count):
        assert await reader.readline() == b"line %d\n" % number
    writer.close()
    await writer.wait_closed()
    print(f"Python client: {count} lines there and back from the Rust server")


async def serve_one():
    """An echo server for the Rust client, whose address goes to the other half by a line of output."""
    done = asyncio.Event()

    async def echo(reader, writer):
        async for line in reader:
            writer.write(line)
            await writer.drain()
        writer.close()
        done.set()

    server = await millstream.start_server(echo, "127.0.0.1", 0)
    print("PORT", server.sockets[0].getsockname()[1], flush=True)
    await done.wait()
    server.close()
    await server.wait_closed()


async def main(port):
    await echo_client.tcp_echo_client("127.0.0.1", port, "Hello from Python!\n")
    await pipelined(port, 10_000)
    await open_socket.wait_for_data()
    await serve_one()
    print("Python server: its Rust client has hung up")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
