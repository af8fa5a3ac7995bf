"""W4: ``odd_buffers.py STREAMS``: what is on the wire when buffers change after the write, have odd shapes or are no bytes.

Every case is written to a peer that reads only later. Prints how many were sent as they were at the call, or refused.
"""

import array
import asyncio
import importlib
import socket
import sys

streams = importlib.import_module(sys.argv[1])

BLOCK = bytes(range(256)) * 1000


def changing(method):
    def write(writer):
        data = bytearray(BLOCK)
        getattr(writer, method)(data) if method == "write" else writer.writelines([data[:1000], data])
        expected = BLOCK if method == "write" else BLOCK[:1000] + BLOCK
        data[:] = bytes(len(data))
        return expected

    return write


def shaped(view):
    def write(writer):
        writer.write(view)
        return view.tobytes()

    return write


def refused(value):
    def write(writer):
        try:
            writer.write(value)
        except TypeError:
            return b""
        return None

    return write


CASES = {
    "bytearray, write": changing("write"),
    "bytearray, writelines": changing("writelines"),
    "2-D memoryview": shaped(memoryview(BLOCK).cast("B", shape=[1000, 256])),
    "memoryview of ints": shaped(memoryview(array.array("i", range(60000)))),
    "str": refused("text"),
    "number": refused(5),
    "None": refused(None),
}


async def one(write):
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    theirs.settimeout(5)
    reader, writer = await streams.open_connection(sock=ours)
    # Something is queued before, so that nothing leaves within the call.
    writer.write(b"B" * 100_000)
    expected = write(writer)
    if expected is None:
        writer.transport.abort()
        return False
    writer.close()

    def receive():
        got = bytearray()
        while data := theirs.recv(65536):
            got += data
        return bytes(got)

    try:
        got = await asyncio.get_running_loop().run_in_executor(None, receive)
    finally:
        theirs.close()
    return got == b"B" * 100_000 + expected


async def main():
    wrong = []
    for name, write in CASES.items():
        try:
            right = await one(write)
        except Exception as error:
            right, name = False, f"{name} ({type(error).__name__})"
        if not right:
            wrong.append(name)
    if wrong and sys.argv[1] == "millstream":
        sys.exit(f"wrong on the wire: {wrong}")
    print(f"{len(wrong)} of {len(CASES)} shapes wrong" + (f": {', '.join(wrong)}" if wrong else ""))


asyncio.run(main())
