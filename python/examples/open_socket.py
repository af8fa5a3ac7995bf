"""Register an open socket to wait for data: the fourth example of Python's asyncio Streams, on the native ones.

    python open_socket.py
"""

import asyncio
import socket

import millstream


async def wait_for_data():
    # Get a reference to the current event loop because we want to access low-level APIs.
    loop = asyncio.get_running_loop()

    # Create a pair of connected sockets.
    rsock, wsock = socket.socketpair()

    # Register the open socket to wait for data.
    reader, writer = await millstream.open_connection(sock=rsock)

    # Simulate the reception of data from the network
    loop.call_soon(wsock.send, b"abc")

    # Wait for data
    data = await reader.read(100)

    # Got data, we are done: close the socket
    print("Received:", data.decode())
    writer.close()
    await writer.wait_closed()

    # Close the second socket
    wsock.close()
    return data


if __name__ == "__main__":
    asyncio.run(wait_for_data())
