"""C1 to C5 for the Python libraries: ``connect.py STREAMS ROW ARGS...``, in the namespaces that the row has made."""

import asyncio
import importlib
import os
import sys
import time

streams = importlib.import_module(sys.argv[1])
row, *args = sys.argv[2:]


async def c1():
    try:
        await streams.open_connection("all.test", 9)
    except OSError as error:
        text = str(error)
        hosts = ["10.1.0.1", "10.2.0.1", "10.3.0.1", "127.0.0.7"]
        print(f"{sum(host in text for host in hosts)} of 4 addresses in the text, errno {error.errno}")


async def c2():
    began = time.perf_counter()
    try:
        await asyncio.wait_for(streams.open_connection("two.test", 4000), 3)
        default = f"{time.perf_counter() - began:.2f} s"
    except (TimeoutError, asyncio.TimeoutError):
        default = "nothing within 3 s"
    began = time.perf_counter()
    _, writer = await streams.open_connection("two.test", 4000, happy_eyeballs_delay=0.25)
    asked = (time.perf_counter() - began - 0.25) * 1e3
    writer.transport.abort()
    print(f"by default {default}; asked for 250 ms + {asked:.1f} ms")


async def c3():
    port, runs = map(int, args)
    descriptors = lambda: len(os.listdir("/proc/self/fd"))
    before = descriptors()
    for _ in range(runs):
        task = asyncio.ensure_future(streams.open_connection("127.0.0.1", port))
        for _ in range(2):
            await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass
    print(f"{descriptors() - before} left of {runs:,}")


async def c4():
    refused = 0
    table = [("", 9), ("127.0.0.1\0.evil.example", 9), ("a" * 254, 9), ("127.0.0.1", 65536)]
    for host, port in table:
        try:
            await streams.open_connection(host, port)
        except (ValueError, OverflowError):
            refused += 1
        except OSError:
            pass
    print(f"{refused} of {len(table)} refused before the lookup")


async def c5():
    worst = 0.0

    async def tick():
        nonlocal worst
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            worst, last = max(worst, now - last), now

    ticks = asyncio.ensure_future(tick())
    began = time.perf_counter()
    try:
        await asyncio.wait_for(streams.open_connection("never.test", 9), 0.5)
    except (TimeoutError, asyncio.TimeoutError):
        pass
    late = time.perf_counter() - began - 0.5
    ticks.cancel()
    print(f"longest stall {worst * 1e3:.1f} ms, cancel returns after {late * 1e3:.1f} ms", flush=True)
    # asyncio.run() would wait for the thread that looks up.
    os._exit(0)


asyncio.run(globals()[row]())
