"""What several test files need: raw peers that misbehave on demand, child processes, certificates, sizes."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import socket
import ssl
import struct
import subprocess
import sys

import millstream
import pytest


def runs(default: int, full: int) -> int:
    """How often something is done that chance decides. ``MILLSTREAM_RUNS`` says how often, ``full`` the size of the issue."""
    wanted = os.environ.get("MILLSTREAM_RUNS")
    if wanted is None:
        return default
    return full if wanted == "full" else int(wanted)


@contextlib.asynccontextmanager
async def raw_peer(*, nodelay=True, rcvbuf=None, sndbuf=None, **keywords):
    """A millstream connection over TCP, and the plain non-blocking socket at its other end."""
    with socket.socket() as listener:
        if rcvbuf:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        reader, writer = await keywords.pop("connect", millstream.open_connection)(
            *listener.getsockname(), **keywords
        )
        peer, _ = listener.accept()
    if sndbuf:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
    peer.setblocking(False)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, nodelay)
    try:
        yield reader, writer, peer
    finally:
        peer.close()
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def reset(sock):
    """Closes with a reset in the place of an end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def receive(sock, count=None):
    """``count`` bytes from a plain socket, or everything to its end, while the loop goes on. (By polling: uvloop's own
    ``sock_recv`` and a descriptor that was cancelled do not get on.)"""
    data = bytearray()
    while count is None or len(data) < count:
        try:
            part = sock.recv(1 << 20 if count is None else count - len(data))
        except BlockingIOError:
            await asyncio.sleep(0.001)
            continue
        if not part:
            break
        data += part
    return bytes(data)


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


async def eventually(condition, seconds=10):
    """Waits until it holds."""
    for _ in range(int(seconds / 0.005)):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came to hold")


def child(source: str, *arguments, timeout=120, options=()) -> subprocess.CompletedProcess:
    """Runs a program in an interpreter of its own."""
    command = [sys.executable, *options, "-c", source, *map(str, arguments)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)


def loops() -> list:
    """The names of the loops there are, for child processes; see ``NEW_LOOP``."""
    found = importlib.util.find_spec("uvloop")
    return ["asyncio", "uvloop"] if found else ["asyncio"]


#: Begins the program of a child process: ``new_loop()`` makes the loop that the first argument names.
NEW_LOOP = """
import asyncio, sys
if sys.argv[1] == "uvloop":
    from uvloop import new_event_loop as new_loop
else:
    from asyncio import new_event_loop as new_loop
import millstream
"""


@pytest.fixture(scope="session")
def tls(tmp_path_factory):
    """A server's and a client's TLS context that trust each other."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl was not found, so nothing is tested over TLS")
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        + ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    client = ssl.create_default_context(cafile=str(certificate))
    return server, client
