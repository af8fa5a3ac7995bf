"""X1: ``thrown.py STREAMS N``: reads that are cancelled at their k-th step and asked again; prints how many streams were wrong."""

import asyncio
import importlib
import random
import sys

streams = importlib.import_module(sys.argv[1])


async def one(seed):
    chance = random.Random(seed)
    sent = [bytes(chance.choices(b"abcdef", k=chance.randrange(1, 40))) + b"\n" for _ in range(20)]
    reader = streams.StreamReader()

    async def feed():
        stream = b"".join(sent)
        while stream:
            n = chance.randrange(1, 9)
            reader.feed_data(stream[:n])
            stream = stream[n:]
            await asyncio.sleep(0)
        reader.feed_eof()

    feeding = asyncio.ensure_future(feed())
    got, drops = [], 0
    for item in sent:
        k = 0
        while True:
            call = chance.choice([reader.readline, lambda: reader.readexactly(len(item)), lambda: reader.readuntil(b"\n")])
            task = asyncio.ensure_future(call())
            for _ in range(k):
                await asyncio.sleep(0)
            task.cancel()
            try:
                got.append(await task)
                break
            except asyncio.CancelledError:
                drops += 1
                k += 1
    await feeding
    return got == sent, drops


async def main():
    results = [await one(seed) for seed in range(int(sys.argv[2]))]
    wrong = sum(not right for right, _ in results)
    if wrong and sys.argv[1] == "millstream":
        sys.exit(f"{wrong} of {len(results)} streams wrong")
    print(f"{wrong} of {len(results)} streams wrong; {sum(drops for _, drops in results):,} drops")


asyncio.run(main())
