"""The Python servers under test: ``server.py asyncio|millstream --work WORK ...``, the same works as `src/subjects`.

It says ``port N pid N``, serves until its standard input ends, and reports in lines.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import resource
import ssl
import sys
import threading
import time

FILL = b"f" * 16384
STALL = 0.5


def say(line):
    print(line, flush=True)


async def echo(reader, writer):
    while True:
        try:
            line = await reader.readline()
        except ValueError:
            # asyncio has dropped what it had; the rest of the line comes out as if it were one.
            continue
        if not line:
            break
        writer.write(line)
        await writer.drain()


async def swallow(reader, writer):
    while line := await reader.readline():
        if line == b"flood\n":
            while await reader.read(65536):
                pass
            return
        writer.write(line)
        await writer.drain()


async def collect(reader, writer):
    await asyncio.sleep(0.02)
    delivered = 0
    try:
        while data := await reader.read(4):
            delivered += len(data)
        end = "end"
    except OSError:
        end = "error"
    say(f"delivered {delivered} {end}")


async def exact(reader, writer):
    n = int(await reader.readline())
    writer.write(b"reading\n")
    try:
        say(f"all {len(await reader.readexactly(n))}")
    except asyncio.IncompleteReadError as error:
        say(f"partial {len(error.partial)}")
    except OverflowError:
        say("refused")


def queued(writer):
    # Ours gathers what is written until the turn is over, but not any more once `writer.transport` was handed out.
    return writer._transport.get_write_buffer_size() + getattr(writer, "corked", 0)


async def fill(reader, writer, write=None):
    peak = 0
    while True:
        writer.write(FILL) if write is None else write(writer)
        peak = max(peak, queued(writer))
        try:
            await asyncio.wait_for(asyncio.shield(drain := asyncio.ensure_future(writer.drain())), STALL)
        except (TimeoutError, asyncio.TimeoutError):
            say(f"stalled {peak}")
            await drain


PIECES = [FILL[:1024]] * 16


async def fill_lines(reader, writer):
    await fill(reader, writer, lambda writer: writer.writelines(PIECES))


async def tiny(reader, writer):
    n = int(await reader.readline())
    writer.write(b"f" * (8 << 20))
    await asyncio.sleep(0.02)
    say(f"filled {queued(writer)}")
    await reader.readline()
    for _ in range(n):
        writer.write(b"t")
        writer.write(b"")
    await asyncio.sleep(0)
    say(f"queued {queued(writer)}")
    await reader.readline()


async def fail(reader, writer):
    line = await reader.readline()
    if line in (b"panic\n", b"fail\n"):
        try:
            raise RuntimeError("as ordered")
        finally:
            # Neither asyncio nor we close what a handler leaves behind; programs do.
            writer.close()
    writer.write(line)


async def last_words(reader, writer):
    n = int(await reader.readline())
    writer.write(b"w" * n)


async def stuck_close(reader, writer):
    await reader.readline()
    peak = 0
    while True:
        writer.write(FILL)
        peak = max(peak, queued(writer))
        try:
            await asyncio.wait_for(writer.drain(), STALL)
        except (TimeoutError, asyncio.TimeoutError):
            break
    began = time.monotonic()
    writer.close()
    try:
        await asyncio.wait_for(writer.wait_closed(), 10)
        end = "closed"
    except (TimeoutError, asyncio.TimeoutError) as error:
        end = "never" if time.monotonic() - began > 9 else "error"
    except Exception:
        end = "error"
    say(f"{end} {int((time.monotonic() - began) * 1000)} {peak}")


async def tail(reader, writer):
    came = 0
    while data := await reader.read(65536):
        came += len(data)
    writer.write(b"t" * came)


async def report(reader, writer):
    say("connected")
    writer.write(b"hello\n")
    came = 0
    try:
        while data := await reader.read(1024):
            came += len(data)
        end = "end"
    except OSError as error:
        end = f"error {error}"
    say(f"read {came} {end}")


async def watch(reader, writer):
    idle = await reader.readline() == b"idle\n"
    writer.write(b"go\n")
    try:
        await writer.drain()
        if idle:
            say(f"idle ended {await reader.readline()!r}")
            return
        while True:
            writer.write(FILL)
            await writer.drain()
    except OSError as error:
        say(f"{'idle' if idle else 'writing'} lost {error}")


async def starttls(reader, writer):
    while line := await reader.readline():
        if line == b"STARTTLS\n":
            writer.write(b"go\n")
            await writer.drain()
            try:
                await writer.start_tls(context(args.papers), ssl_handshake_timeout=args.handshake_ms / 1000)
            except (OSError, ValueError, asyncio.IncompleteReadError):
                say("upgrade failed")
                raise
            continue
        say(f"line {line.decode(errors='replace').strip()}")
        writer.write(line)
        await writer.drain()


def context(folder):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(f"{folder}/chain.pem", f"{folder}/key.pem")
    return made


async def handle(reader, writer):
    try:
        await WORKS[args.work](reader, writer)
    except (OSError, EOFError):
        pass
    writer.close()


async def main():
    streams = importlib.import_module(args.streams)
    keywords = {}
    if args.tls:
        keywords = {"ssl": context(args.tls), "ssl_handshake_timeout": args.handshake_ms / 1000}
        if sys.version_info >= (3, 11):
            keywords["ssl_shutdown_timeout"] = args.close_ms / 1000
    server = await streams.start_server(handle, "127.0.0.1", 0, backlog=4096, **keywords)
    say(f"port {server.sockets[0].getsockname()[1]} pid {os.getpid()}")
    await asyncio.Event().wait()


def end_with_the_row():
    # Unbuffered, so that no lock of `sys.stdin` is held when the process ends.
    while os.read(0, 1024):
        pass
    os._exit(0)


WORKS = {
    "echo": echo,
    "swallow": swallow,
    "collect": collect,
    "exact": exact,
    "fill": fill,
    "fill-lines": fill_lines,
    "tiny": tiny,
    "fail": fail,
    "last-words": last_words,
    "stuck-close": stuck_close,
    "tail": tail,
    "report": report,
    "watch": watch,
    "starttls": starttls,
}

parser = argparse.ArgumentParser()
parser.add_argument("streams")
parser.add_argument("--work", default="echo")
parser.add_argument("--tls")
parser.add_argument("--papers")
parser.add_argument("--handshake-ms", type=int, default=10_000)
parser.add_argument("--close-ms", type=int, default=30_000)
args = parser.parse_args()
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
threading.Thread(target=end_with_the_row, daemon=True).start()
asyncio.run(main())
