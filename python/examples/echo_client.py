"""TCP echo client: the first example of Python's asyncio Streams, on the native ones.

    python echo_client.py [HOST] [PORT]
"""

import asyncio
import sys

import millstream


async def tcp_echo_client(host, port, message):
    reader, writer = await millstream.open_connection(host, port)

    print(f"Send: {message!r}")
    writer.write(message.encode())
    await writer.drain()
    writer.write_eof()

    data = await reader.read(100)
    print(f"Received: {data.decode()!r}")

    print("Close the connection")
    writer.close()
    await writer.wait_closed()
    return data.decode()


if __name__ == "__main__":
    host, port = (sys.argv[1:] + ["127.0.0.1", "8888"][len(sys.argv) - 1 :])[:2]
    asyncio.run(tcp_echo_client(host, int(port), "Hello World!"))
