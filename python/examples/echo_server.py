"""TCP echo server: the second example of Python's asyncio Streams, on the native ones.

    python echo_server.py [HOST] [PORT]
"""

import asyncio
import sys

import millstream


async def handle_echo(reader, writer):
    data = await reader.read(100)
    message = data.decode()
    addr = writer.get_extra_info("peername")

    print(f"Received {message!r} from {addr!r}")

    print(f"Send: {message!r}")
    writer.write(data)
    await writer.drain()

    print("Close the connection")
    writer.close()
    await writer.wait_closed()


async def main(host, port):
    server = await millstream.start_server(handle_echo, host, port)

    addrs = ", ".join(str(sock.getsockname()) for sock in server.sockets)
    print(f"Serving on {addrs}", flush=True)

    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    host, port = (sys.argv[1:] + ["127.0.0.1", "8888"][len(sys.argv) - 1 :])[:2]
    try:
        asyncio.run(main(host, int(port)))
    except KeyboardInterrupt:
        pass
