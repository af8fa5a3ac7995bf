"""R7: ``bad_calls.py STREAMS``: calls that cannot be meant; prints how many are refused with the buffer untouched."""

import asyncio
import importlib
import sys

streams = importlib.import_module(sys.argv[1])


async def refused(call, *errors):
    reader = streams.StreamReader(limit=100)
    reader.feed_data(b"kept")
    try:
        await call(reader)
    except errors:
        return await reader.read(10) == b"kept"
    return False


async def second_reader():
    reader = streams.StreamReader(limit=100)
    first = asyncio.ensure_future(reader.readline())
    await asyncio.sleep(0)
    try:
        await asyncio.wait_for(reader.readline(), 1)
    except RuntimeError:
        reader.feed_data(b"for the first\n")
        return await first == b"for the first\n"
    finally:
        first.cancel()
    return False


async def main():
    results = {
        "empty separator": await refused(lambda reader: reader.readuntil(b""), ValueError),
        "negative count": await refused(lambda reader: reader.readexactly(-1), ValueError),
        "second reader": await second_reader(),
    }
    try:
        streams.StreamReader(limit=0)
        results["limit of zero"] = False
    except ValueError:
        results["limit of zero"] = True
    wrong = [name for name, right in results.items() if not right]
    if sys.argv[1] == "millstream" and wrong:
        sys.exit(f"not refused: {wrong}")
    print(f"{len(results) - len(wrong)} of {len(results)} refused" + (f"; not: {', '.join(wrong)}" if wrong else ""))


asyncio.run(main())
