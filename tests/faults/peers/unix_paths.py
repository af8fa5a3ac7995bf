"""A4 for asyncio: what its Unix servers do to a living server's path, and to one that another has put in its place."""

import asyncio
import os
import socket
import sys


async def main():
    path = sys.argv[2] + "/asyncio"
    handler = lambda reader, writer: writer.close()
    first = await asyncio.start_unix_server(handler, path)
    try:
        second = await asyncio.start_unix_server(handler, path)
        living = "a second server takes a living one's path"
    except OSError:
        second, living = first, "a living server's path is kept"
    os.remove(path)
    other = socket.socket(socket.AF_UNIX)
    other.bind(path)
    for server in {first, second}:
        server.close()
    kept = "another's path is kept" if os.path.exists(path) else "another's path is removed"
    print(f"{living}; {kept}; no way to set rights")


asyncio.run(main())
