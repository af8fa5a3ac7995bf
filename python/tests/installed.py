"""What a user does first, with the package as it was installed: echo both ways, Unix sockets, TLS, ``install()``.

    python -I installed.py FOLDER

in an environment that has the package and nothing else, from outside the repository. The folder holds ``server.pem``,
``server.key`` and ``client.pem`` (``python -m trustme``), for the name ``localhost``. `make package` runs it for each wheel.
"""

import asyncio
import importlib.metadata
import importlib.resources
import ssl
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import millstream


async def echo(reader, writer):
    async for line in reader:
        writer.write(line)
        await writer.drain()
    writer.close()


async def say(streams, message):
    """Sends lines, ends, and reads to the end."""
    reader, writer = await streams
    for _ in range(100):
        writer.write(message)
    await writer.drain()
    lines = [await reader.readexactly(len(message)) for _ in range(100)]
    writer.close()
    await writer.wait_closed()
    return lines == [message] * 100 and await reader.read() == b""


async def between(servers, clients, **tls):
    """A server of one package, a client of the other."""
    server = await servers.start_server(echo, "127.0.0.1", 0, ssl=tls.get("server"))
    port = server.sockets[0].getsockname()[1]
    keywords = {"ssl": tls["client"], "server_hostname": "localhost"} if tls else {}
    try:
        return await say(clients.open_connection("127.0.0.1", port, **keywords), b"a line\n")
    finally:
        server.close()
        await server.wait_closed()


async def over_unix(folder):
    path = str(Path(folder) / "socket")
    server = await millstream.start_unix_server(echo, path)
    try:
        return await say(millstream.open_unix_connection(path), b"a line\n")
    finally:
        server.close()
        await server.wait_closed()


def contexts(folder):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.pem", folder / "server.key")
    return {"server": server, "client": ssl.create_default_context(cafile=folder / "client.pem")}


def check_what_is_installed():
    home = Path(millstream.__file__).resolve()
    installed = Path(sysconfig.get_path("platlib")).resolve()
    assert home.is_relative_to(installed), f"{home} is not below {installed}"
    metadata = importlib.metadata.metadata("millstream")
    assert millstream.__version__ == metadata["Version"], (millstream.__version__, metadata["Version"])
    assert metadata.get_all("Requires-Dist") is None
    files = {str(file) for file in importlib.metadata.files("millstream")}
    for name in ("py.typed", "_core.pyi", "streams.pyi"):
        assert f"millstream/{name}" in files and importlib.resources.files("millstream").joinpath(name).is_file(), name
    for name in ("LICENSE-MIT", "LICENSE-APACHE"):
        assert any(file.endswith(f".dist-info/licenses/{name}") for file in files), name


async def check_streams(folder):
    tls = contexts(folder)
    for keywords in ({}, tls):
        assert await between(millstream, millstream, **keywords)
        assert await between(millstream, asyncio, **keywords)
        assert await between(asyncio, millstream, **keywords)
    with tempfile.TemporaryDirectory() as place:
        assert await over_unix(place)


def check_install():
    ours, theirs = millstream.open_connection, asyncio.open_connection
    assert theirs is not ours
    millstream.install()
    assert asyncio.open_connection is ours and asyncio.streams.StreamReader is millstream.StreamReader
    assert asyncio.run(between(asyncio, asyncio))
    millstream.uninstall()
    assert asyncio.open_connection is theirs
    with tempfile.NamedTemporaryFile("w", suffix=".py") as script:
        script.write("import asyncio, sys; print(asyncio.StreamReader.__module__, *sys.argv[1:])")
        script.flush()
        run = [sys.executable, "-I", "-m", "millstream", script.name, "an argument"]
        said = subprocess.run(run, check=True, capture_output=True, text=True).stdout
    assert said.startswith("millstream") and said.endswith(" an argument\n"), said


if __name__ == "__main__":
    check_what_is_installed()
    asyncio.run(check_streams(Path(sys.argv[1])))
    check_install()
    print(f"CPython {sys.version.split()[0]}: millstream {millstream.__version__} works as installed")
