"""R5: ``one_by_one.py STREAMS N``: a parked `readuntil` is fed N segments of one byte; prints the time a byte."""

import asyncio
import importlib
import sys
import time

streams = importlib.import_module(sys.argv[1])
n = int(sys.argv[2])


async def feed(n):
    reader = streams.StreamReader(limit=n + 10)
    read = asyncio.ensure_future(reader.readuntil(b"\r\n"))
    await asyncio.sleep(0)
    began = time.perf_counter()
    for _ in range(n):
        reader.feed_data(b"l")
        await asyncio.sleep(0)
    reader.feed_data(b"\r\n")
    assert len(await read) == n + 2
    return (time.perf_counter() - began) / n * 1e9


async def main():
    quarter, whole = await feed(n // 4), await feed(n)
    print(f"{whole:.0f} ns a byte, the loop's turn included ({quarter:.0f} ns at a quarter)")


asyncio.run(main())
