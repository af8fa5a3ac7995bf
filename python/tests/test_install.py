"""``install()`` puts these streams in the place of asyncio's, for this process or for a script; everything that asyncio builds on
its streams goes on working."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import millstream
import pytest

NAMES = [
    "StreamReader",
    "StreamWriter",
    "StreamReaderProtocol",
    "open_connection",
    "start_server",
    "open_unix_connection",
    "start_unix_server",
]


@pytest.fixture
def installed():
    before = {name: getattr(asyncio, name) for name in NAMES}
    millstream.install()
    yield
    millstream.uninstall()
    assert {name: getattr(asyncio, name) for name in NAMES} == before


def python(*arguments, **keywords):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=60, env=environment, **keywords
    )


def test_the_names_are_replaced_in_both_modules_and_put_back():
    stock = {name: getattr(asyncio, name) for name in NAMES}
    mixin = asyncio.streams.FlowControlMixin
    assert not millstream.is_installed()
    millstream.install()
    try:
        assert millstream.is_installed()
        for name in NAMES:
            assert getattr(asyncio, name) is getattr(asyncio.streams, name) is getattr(millstream, name)
        assert asyncio.streams.FlowControlMixin is millstream.FlowControlMixin
        millstream.install()
    finally:
        millstream.uninstall()
    assert not millstream.is_installed()
    for name in NAMES:
        assert getattr(asyncio, name) is getattr(asyncio.streams, name) is stock[name]
    assert asyncio.streams.FlowControlMixin is mixin
    millstream.uninstall()


def test_exceptions_stay_asyncios(installed):
    assert asyncio.IncompleteReadError is asyncio.exceptions.IncompleteReadError
    assert asyncio.LimitOverrunError is asyncio.exceptions.LimitOverrunError


def test_programs_use_the_native_streams_without_knowing(run, installed):
    async def main():
        async def handler(reader, writer):
            assert isinstance(reader, millstream.StreamReader)
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            assert isinstance(writer, millstream.StreamWriter)
            writer.write(b"hello\n")
            assert await reader.read() == b"hello\n"
            writer.close()
            await writer.wait_closed()

    run(main())


def test_streams_that_are_open_when_it_is_taken_back_go_on(run):
    async def main():
        async def handler(reader, writer):
            writer.write(await reader.readline())
            writer.close()

        millstream.install()
        try:
            server = await asyncio.start_server(handler, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        finally:
            millstream.uninstall()
        async with server:
            writer.write(b"hello\n")
            assert await reader.read() == b"hello\n"
            writer.close()
            await writer.wait_closed()

    run(main())


def test_subprocesses_have_native_pipes(installed):
    # A child watcher of 3.10 and 3.11 belongs to the loop of the main thread: `asyncio.run` sees to that.
    async def main():
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        program = "import sys; [print(line, end='', flush=True) for line in sys.stdin]; print('end', file=sys.stderr)"
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, **pipes)
        assert isinstance(process.stdout, millstream.StreamReader)
        assert isinstance(process.stdin, millstream.StreamWriter)
        for number in range(100):
            process.stdin.write(b"%d\n" % number)
            await process.stdin.drain()
            assert await process.stdout.readline() == b"%d\n" % number
        output, errors = await process.communicate(b"more\n" * 30_000)
        assert output == b"more\n" * 30_000
        assert errors == b"end\n"
        assert await process.wait() == 0
        process = await asyncio.create_subprocess_shell("cat >/dev/null; exit 3", stdin=subprocess.PIPE)
        process.stdin.write(b"x" * 1_000_000)
        await process.stdin.drain()
        process.stdin.close()
        await process.stdin.wait_closed()
        assert await process.wait() == 3

    asyncio.run(main())


def test_pipes_are_read_and_written(run):
    async def main():
        loop = asyncio.get_running_loop()
        reading, writing = os.pipe()
        reader = millstream.StreamReader(limit=100, loop=loop)
        source, protocol = await loop.connect_read_pipe(
            lambda: millstream.StreamReaderProtocol(reader), os.fdopen(reading, "rb")
        )
        sink, mixin = await loop.connect_write_pipe(millstream.FlowControlMixin, os.fdopen(writing, "wb"))
        writer = millstream.StreamWriter(sink, mixin, None, loop)
        sent = [b"line %d\n" % number for number in range(20_000)]
        received = asyncio.create_task(collect(reader))
        for line in sent:
            writer.write(line)
            await writer.drain()
        writer.close()
        assert await received == sent
        source.close()

    async def collect(reader):
        return [line async for line in reader]

    run(main())


SCRIPT = """
import asyncio, sys, millstream
print(asyncio.StreamReader is millstream.StreamReader, millstream.is_installed(), __name__, sys.argv[1:])
sys.exit(7)
"""


def test_a_script_is_run_with_it_installed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = python("-m", "millstream", script, "one", "-m", "--three")
    assert done.stdout == "True True __main__ ['one', '-m', '--three']\n", done.stderr
    assert done.returncode == 7


def test_a_module_is_run_with_it_installed(tmp_path):
    (tmp_path / "a_module_of_mine.py").write_text(SCRIPT)
    done = python("-m", "millstream", "-m", "a_module_of_mine", "one", "--two", cwd=tmp_path)
    assert done.stdout == "True True __main__ ['one', '--two']\n", done.stderr
    assert done.returncode == 7


def test_a_script_finds_the_modules_beside_it(tmp_path):
    (tmp_path / "beside.py").write_text("name = 'beside'\n")
    (tmp_path / "script.py").write_text("import beside, sys; print(beside.name, sys.argv[0])\n")
    done = python("-m", "millstream", tmp_path / "script.py")
    assert done.stdout == f"beside {tmp_path / 'script.py'}\n", done.stderr


def test_a_script_that_fails_fails_as_it_does_alone(tmp_path):
    (tmp_path / "script.py").write_text("1 / 0\n")
    done = python("-m", "millstream", tmp_path / "script.py")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    missing = python("-m", "millstream", tmp_path / "missing.py")
    assert missing.returncode != 0
    assert "missing.py" in missing.stderr


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["-h"], 0), (["--help"], 0), (["-m"], 1)])
def test_the_command_says_how_it_is_used(arguments, code):
    done = python("-m", "millstream", *arguments)
    assert "usage: python -m millstream" in done.stdout + done.stderr
    assert done.returncode == code
