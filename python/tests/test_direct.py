"""What is sent past the ``write`` of asyncio's own transport arrives as if that had sent it: in order, whole, never on a
connection that is closed, and not at all past a ``write`` that someone has put in its place."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import socket
import sys
from asyncio import selector_events

import millstream
import pytest
from millstream import _direct
from support import raw_peer, receive, reset, tls, turns  # noqa: F401 - `tls` is a fixture

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="asyncio's own loop has other transports there"),
    pytest.mark.parametrize("run", [asyncio.new_event_loop], ids=["asyncio"], indirect=True),
]

#: With asyncio's own streams, and with ours.
both = pytest.mark.parametrize("connect", [asyncio.open_connection, millstream.open_connection], ids=["asyncio", "ours"])

TRANSPORT = selector_events._SelectorSocketTransport
MEGABYTE = os.urandom(1 << 10) * (1 << 10)


class Sent(list):
    """A ``write`` that notes what it is given, and does nothing else."""

    def __call__(self, data):
        self.append(bytes(data))


@contextlib.contextmanager
def functions_of_asyncio(called):
    """Notes the functions of the module of asyncio's transports that are called."""
    module = selector_events.__file__

    def note(frame, event, _):
        if event == "call" and frame.f_code.co_filename == module:
            called.append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="its transports were not looked at")
def test_a_message_that_finds_room_takes_no_python_code_of_the_transports(run):
    async def main():
        async with raw_peer() as (_, writer, peer):
            called = []
            with functions_of_asyncio(called):
                writer.write(b"first")
            assert called == []
            assert peer.recv(100) == b"first"

    run(main())


def test_a_message_goes_behind_what_the_transport_still_has(run):
    async def main():
        async with raw_peer(sndbuf=65536) as (_, writer, peer):
            transport = writer._transport
            transport.write(MEGABYTE)
            assert transport.get_write_buffer_size()
            writer.write(b"behind")
            transport.write(b"at the end")
            expected = MEGABYTE + b"behindat the end"
            assert await receive(peer, len(expected)) == expected

    run(main())


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview], ids=lambda kind: kind.__name__)
def test_a_message_that_finds_room_for_a_part_arrives_whole(run, kind):
    async def main():
        async with raw_peer(sndbuf=4096, rcvbuf=4096) as (_, writer, peer):
            message = MEGABYTE[:50_000]
            writer.write(kind(message))
            assert 0 < writer._transport.get_write_buffer_size() < len(message)
            writer.write(b"end")
            assert await receive(peer, len(message) + 3) == message + b"end"

    run(main())


def test_a_message_that_finds_no_room_waits_for_it(run):
    async def main():
        async with raw_peer(sndbuf=65536) as (_, writer, peer):
            filled = 0
            with contextlib.suppress(BlockingIOError):
                sock = writer._transport._sock
                while True:
                    filled += sock.send(b"x" * 65536)
            writer.write(b"late")
            assert writer._transport.get_write_buffer_size() == 4
            assert (await receive(peer, filled + 4))[-4:] == b"late"

    run(main())


@both
@pytest.mark.parametrize("how", ["close", "abort"])
def test_nothing_is_sent_on_a_transport_that_others_have_closed(run, connect, how):
    async def main():
        async with raw_peer(connect=connect) as (_, writer, peer):
            getattr(writer._transport, how)()
            for _ in range(10):  # asyncio has something to say about the fifth
                writer.write(b"too late")
            assert await receive(peer) == b""

    run(main())


@both
def test_nothing_is_sent_behind_the_end(run, connect):
    # A program may have signals in their first state, in which a send behind the end would kill it.
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)

    async def main():
        async with raw_peer(connect=connect) as (_, writer, peer):
            writer._transport.write_eof()
            with pytest.raises(RuntimeError, match=r"write_eof\(\)"):
                writer.write(b"behind the end")
            assert await receive(peer) == b""

    try:
        run(main())
    finally:
        signal.signal(signal.SIGPIPE, before)


@both
def test_nothing_is_sent_into_a_file_that_is_being_sent(run, connect, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(MEGABYTE)

    async def main():
        async with raw_peer(connect=connect, sndbuf=65536) as (_, writer, peer):
            with path.open("rb") as file:
                sending = asyncio.ensure_future(run.loop.sendfile(writer._transport, file))
                await turns(3)
                assert not sending.done()
                with pytest.raises(RuntimeError, match="sendfile is in progress"):
                    writer.write(b"amidst")
                assert await receive(peer, len(MEGABYTE)) == MEGABYTE
                await sending

    run(main())


@both
def test_a_reset_that_a_send_finds_is_told_as_the_reset_that_it_is(run, connect):
    async def main():
        async with raw_peer(connect=connect) as (reader, writer, peer):
            reset(peer)
            writer.write(b"to nobody")
            assert writer.is_closing()
            with pytest.raises(ConnectionResetError):
                await reader.readline()
            with pytest.raises(ConnectionResetError):
                await writer.wait_closed()

    run(main())


def test_a_descriptor_that_another_connection_has_by_now_is_not_written_to(run):
    async def main():
        async with raw_peer() as (_, writer, _):
            descriptor = writer._transport._sock_fd
            writer._transport.abort()
            await turns(3)
            ends = [*socket.socketpair(), *socket.socketpair()]
            try:
                assert descriptor in [end.fileno() for end in ends]
                writer.write(b"astray")
                for end in ends:
                    end.setblocking(False)
                    with pytest.raises(BlockingIOError):
                        end.recv(100)
            finally:
                for end in ends:
                    end.close()

    run(main())


def test_a_write_that_someone_has_set_on_the_transport_is_called(run):
    async def main():
        async with raw_peer() as (_, writer, peer):
            sent = writer._transport.write = Sent()
            writer.write(b"noted")
            del writer._transport.write
            await turns(2)
            writer.write(b"sent")
            assert (sent, await receive(peer, 4)) == ([b"noted"], b"sent")

    run(main())


def test_a_write_of_another_transport_is_called_as_well(run):
    async def main():
        async with raw_peer() as (_, writer, _), raw_peer() as (_, other, others_peer):
            writer._transport.write = other._transport.write
            writer.write(b"led away")
            assert await receive(others_peer, 8) == b"led away"
            del writer._transport.write

    run(main())


def test_a_write_that_someone_has_set_on_the_class_is_called(run, monkeypatch):
    async def main():
        async with raw_peer() as (_, writer, _):
            sent = Sent()
            monkeypatch.setattr(TRANSPORT, "write", lambda _, data: sent(data))
            writer.write(b"noted")
            monkeypatch.undo()
            assert sent == [b"noted"]

    run(main())


def test_a_write_of_a_subclass_is_called(run, monkeypatch):
    sent = Sent()

    class Noting(TRANSPORT):
        def write(self, data):
            sent(data)

    monkeypatch.setattr(selector_events, "_SelectorSocketTransport", Noting)

    async def main():
        async with raw_peer() as (_, writer, _):
            assert type(writer._transport) is Noting
            writer.write(b"noted")
            assert sent == [b"noted"]

    run(main())


def test_what_is_written_over_tls_goes_through_the_transport_of_tls(run, tls):  # noqa: F811
    server_side, client_side = tls

    async def echo(reader, writer):
        writer.write(await reader.readline())
        await writer.aclose()

    async def main():
        server = await millstream.start_server(echo, "127.0.0.1", 0, ssl=server_side)
        host, port = server.sockets[0].getsockname()
        reader, writer = await millstream.open_connection(host, port, ssl=client_side, server_hostname="localhost")
        sent, write = [], writer._transport.write
        writer._transport.write = lambda data: (sent.append(data), write(data))
        writer.write(b"secret\n")
        assert await reader.readline() == b"secret\n"
        assert sent == [b"secret\n"]
        del writer._transport.write
        await writer.aclose()
        server.close()
        await server.wait_closed()

    run(main())


class Failing:
    """A socket whose next send raises."""

    def __init__(self, sock, exc):
        self.sock, self.exc = sock, exc

    def send(self, data):
        exc, self.exc = self.exc, None
        if exc is None:
            return self.sock.send(data)
        raise exc

    def __getattr__(self, name):
        return getattr(self.sock, name)


@both
@pytest.mark.parametrize("wish", [KeyboardInterrupt, SystemExit])
def test_a_wish_to_end_comes_out_of_a_write_and_leaves_the_connection_whole(run, connect, wish):
    async def main():
        async with raw_peer(connect=connect) as (_, writer, peer):
            writer._transport._sock = Failing(writer._transport._sock, wish())
            with pytest.raises(wish):
                writer.write(b"lost")
            writer.write(b"sent")
            assert await receive(peer, 4) == b"sent"

    run(main())


@both
def test_any_other_failure_of_a_send_is_reported_and_ends_the_connection(run, connect):
    async def main():
        with pytest.raises(MemoryError):  # from the peer's wait_closed()
            async with raw_peer(connect=connect) as (_, writer, _):
                writer._transport._sock = Failing(writer._transport._sock, MemoryError("none left"))
                writer.write(b"lost")
                assert writer.is_closing()
        [complaint] = run.complaints
        assert complaint["message"] == "Fatal write error on socket transport"
        assert complaint["exception"].args == ("none left",)
        run.complaints.clear()

    run(main())


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="its transports were not looked at")
def test_only_the_write_that_cpython_has_made_is_known(run, monkeypatch):
    write = TRANSPORT.write
    assert _direct.learn()

    @functools.wraps(write)
    def wrapped(self, data):
        return write(self, data)

    monkeypatch.setattr(TRANSPORT, "write", wrapped)
    assert not _direct.learn()


def test_a_write_of_a_later_release_that_does_more_is_not_known(run, monkeypatch):
    names = {}
    exec("def write(self, data): self._count_bytes(data)", vars(selector_events), names)
    monkeypatch.setattr(TRANSPORT, "write", names["write"])
    assert not _direct.learn()
