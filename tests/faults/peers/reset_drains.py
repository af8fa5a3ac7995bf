"""W6: ``reset_drains.py STREAMS N``: a reset while four wait in `drain`; prints the slowest wake-up."""

import asyncio
import importlib
import socket
import struct
import sys
import time

streams = importlib.import_module(sys.argv[1])


async def one(k):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        reader, writer = await streams.open_connection(*listener.getsockname())
        peer, _ = listener.accept()
    writer.write(b"w" * (k + (8 << 20)))
    waiters = [asyncio.ensure_future(writer.drain()) for _ in range(4)]
    await asyncio.sleep(0.002)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    began = time.perf_counter()
    peer.close()
    results = await asyncio.wait_for(asyncio.gather(*waiters, return_exceptions=True), 10)
    took = time.perf_counter() - began
    writer.close()
    return took, all(isinstance(result, ConnectionError) for result in results)


async def main():
    results = [await one(k * 100) for k in range(int(sys.argv[2]))]
    wrong = sum(not right for _, right in results)
    if wrong and sys.argv[1] == "millstream":
        sys.exit(f"{wrong} of {len(results)} left a drain without its error")
    print(f"slowest of {len(results) * 4} wake-ups {max(took for took, _ in results) * 1e3:.1f} ms, {wrong} wrong")


asyncio.run(main())
