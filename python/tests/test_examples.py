"""The examples do what they say; each runs as the file it is."""

from __future__ import annotations

import importlib.util
import pathlib
import subprocess
import sys

import millstream

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def port_of(server):
    return server.sockets[0].getsockname()[1]


async def end(server):
    server.close()
    await server.wait_closed()


def test_the_echo_client_gets_back_what_it_sent_to_the_echo_server(run):
    async def main():
        server = await millstream.start_server(load("echo_server").handle_echo, "127.0.0.1", 0)
        answer = await load("echo_client").tcp_echo_client("127.0.0.1", port_of(server), "Hello World!")
        assert answer == "Hello World!"
        await end(server)

    run(main())


def test_http_headers_come_without_their_line_ends_and_without_the_body(run):
    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HEAD /path HTTP/1.0\r\nHost: 127.0.0.1")
        writer.write(b"HTTP/1.0 200 OK\r\nA: 1\r\n\r\nno: header\r\n")
        await writer.aclose()

    async def main():
        server = await millstream.start_server(serve, "127.0.0.1", 0)
        headers = await load("http_headers").print_http_headers(f"http://127.0.0.1:{port_of(server)}/path")
        assert headers == ["HTTP/1.0 200 OK", "A: 1"]
        await end(server)

    run(main())


def test_an_open_socket_waits_for_data(run):
    assert run(load("open_socket").wait_for_data()) == b"abc"


def test_the_line_server_keeps_what_it_is_told_and_survives_a_line_that_is_too_long(run):
    """The conversation of the Rust twin's test."""

    async def main():
        server = await load("line_server").start("127.0.0.1", 0)
        reader, writer = await millstream.open_connection("127.0.0.1", port_of(server))
        writer.write(b"GET a\nSET a b c\r\nGET a\nnonsense\n")
        for answer in (b"\n", b"OK\n", b"b c\n", b"ERROR what?\n"):
            assert await reader.readline() == answer
        writer.write(b"x" * 5000)
        writer.write(b"\nGET a\nQUIT\n")
        assert await reader.read() == b"ERROR a line has at most 1024 bytes\nb c\nBYE\n"
        await writer.aclose()
        await end(server)

    run(main())


def test_the_line_server_answers_a_last_line_without_a_line_feed(run):
    async def main():
        server = await load("line_server").start("127.0.0.1", 0)
        reader, writer = await millstream.open_connection("127.0.0.1", port_of(server))
        writer.write(b"SET a b\nGET a")
        writer.write_eof()
        assert await reader.read() == b"OK\nb\n"
        await writer.aclose()
        await end(server)

    run(main())


def test_the_line_server_serves_as_a_program_of_its_own(run):
    command = [sys.executable, EXAMPLES / "line_server.py", "127.0.0.1", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = int(process.stdout.readline().rstrip(")\n").rpartition(" ")[2])

            async def main():
                reader, writer = await millstream.open_connection("127.0.0.1", port)
                writer.write(b"QUIT\n")
                assert await reader.read() == b"BYE\n"
                await writer.aclose()

            run(main())
        finally:
            process.terminate()
