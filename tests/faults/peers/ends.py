"""R3 for asyncio: an end inside a line, an item and a count; prints how many came out whole, once."""

import asyncio


async def main():
    right = 0
    for kind in range(3):
        reader = asyncio.StreamReader(limit=200_000)
        reader.feed_data(b"p" * 1000)
        reader.feed_eof()
        try:
            if kind == 0:
                await reader.readuntil(b"\r\n")
            elif kind == 1:
                await reader.readexactly(1001)
            else:
                right += await reader.readline() == b"p" * 1000 and reader.at_eof()
        except asyncio.IncompleteReadError as error:
            right += error.partial == b"p" * 1000 and await reader.read(10) == b"" and reader.at_eof()
    print(f"{right} of 3 partial items whole, once")


asyncio.run(main())
