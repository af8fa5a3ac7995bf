"""Written bytes leave together and never late: one send for a batch, at once where gathering gains nothing, by the end of
the loop's turn whatever the program does, and always in the order of the writes."""

from __future__ import annotations

import asyncio
import collections
import shutil
import socket
import subprocess
import sys

import millstream
import pytest
from support import NEW_LOOP, eventually, loops, raw_peer, receive, tls, turns  # noqa: F401 - `tls` is a fixture


class Counting:
    """A transport that notes what is handed to it, and is otherwise what it stands for."""

    def __init__(self, transport):
        self._transport = transport
        self.writes = []

    def write(self, data):
        self.writes.append(bytes(data))
        self._transport.write(data)

    def __getattr__(self, name):
        return getattr(self._transport, name)


def counting(writer):
    transport = writer._transport = Counting(writer._transport)
    return transport


def now(peer):
    """What has arrived."""
    data = b""
    try:
        while part := peer.recv(1 << 16):
            data += part
    except BlockingIOError:
        pass
    return data


async def arrived(run, peer):
    """What has arrived, without another turn of the loop where that is asyncio's. (uvloop sends at the end of its own.)"""
    if type(run.loop).__module__.startswith("uvloop"):
        await turns(1)
    return now(peer)


BATCH = b"".join(b"question %d\n" % number for number in range(100))


async def answer(reader, writer):
    """The plain handler, which takes no care of anything."""
    while line := await reader.readline():
        writer.write(b"re: " + line)
        await writer.drain()
    writer.close()


async def answer_by_iteration(reader, writer):
    async for line in reader:
        writer.writelines([b"re: ", line])
        await writer.drain()
    writer.close()


async def answer_without_drain(reader, writer):
    while line := await reader.readuntil(b"\n"):
        writer.write(b"re: ")
        writer.write(line)


@pytest.mark.parametrize("handler", [answer, answer_by_iteration, answer_without_drain], ids=lambda f: f.__name__)
def test_a_hundred_lines_in_one_segment_are_answered_in_at_most_two_sends(run, handler):
    async def main():
        async with raw_peer() as (reader, writer, peer):
            transport = counting(writer)
            task = asyncio.ensure_future(handler(reader, writer))
            for _ in range(5):
                transport.writes.clear()
                await asyncio.sleep(0.01)
                peer.send(BATCH)
                expected = b"".join(b"re: " + line for line in BATCH.splitlines(keepends=True))
                assert await receive(peer, len(expected)) == expected
                assert len(transport.writes) <= 2, [len(data) for data in transport.writes]
            task.cancel()
            await asyncio.wait({task})

    run(main())


SERVER = (
    NEW_LOOP
    + """
async def main():
    async def handle(reader, writer):
        while line := await reader.readline():
            writer.write(b"re: " + line)
            await writer.drain()
        writer.close()
        done.set()
    done = asyncio.Event()
    server = await millstream.start_server(handle, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await done.wait()
    server.close()
new_loop().run_until_complete(main())
"""
)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="strace is Linux's")
@pytest.mark.parametrize("loop", loops())
def test_the_kernel_sees_at_most_two_sends_for_a_hundred_lines(loop, tmp_path):
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace was not found: only the calls of the transport are counted")
    trace = tmp_path / "trace"
    calls = "sendto,sendmsg,write,writev"
    command = [strace, "-f", "-qq", "-e", f"trace={calls}", "-s", "4", "-o", trace, sys.executable, "-c", SERVER, loop]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        port = process.stdout.readline().strip()
        if not port:
            pytest.skip(f"strace cannot trace here: {process.stderr.read().strip()[:200]}")
        with socket.create_connection(("127.0.0.1", int(port)), timeout=30) as peer:
            batches = 5
            for _ in range(batches):
                peer.sendall(BATCH)
                left = len(BATCH) + 4 * 100
                while left:
                    left -= len(peer.recv(left))
    finally:
        process.stdout.close()
        process.stderr.close()
        process.wait(30)
    sends = [line for line in trace.read_text().splitlines() if '"re: "' in line]
    assert batches <= len(sends) <= 2 * batches, sends


def test_the_first_write_of_a_turn_leaves_at_once_if_nothing_is_left_to_be_read(run):
    async def main():
        async with raw_peer() as (reader, writer, peer):
            for number in range(5):
                writer.write(b"at once %d" % number)
                assert writer.corked == 0
                assert await arrived(run, peer) == b"at once %d" % number
                # The same when a read was answered and nothing is left of what came.
                peer.send(b"line\n")
                assert await reader.readline() == b"line\n"

    run(main())


def test_what_was_written_leaves_within_the_next_turn_without_another_call(run):
    async def main():
        async with raw_peer() as (_, writer, peer):
            transport = counting(writer)
            for number in range(5):
                transport.writes.clear()
                for part in (b"a", b"b", b"c", b"d"):
                    writer.write(part)
                assert transport.writes == [b"a"]
                assert writer.corked == 3
                await turns(1)
                assert transport.writes == [b"a", b"bcd"]
                assert writer.corked == 0
                await turns(1)
                assert now(peer) == b"abcd"

    run(main())


def test_much_leaves_at_once_in_mid_turn(run):
    async def main():
        async with raw_peer() as (_, writer, peer):
            transport = counting(writer)
            writer.write(b"first")
            for _ in range(1000):
                writer.write(b"x" * 100)
                assert writer.corked < 16 * 1024
            assert 5 < len(transport.writes) < 10
            await turns(2)
            assert await receive(peer, 100_005) == b"first" + b"x" * 100_000

    run(main())


def test_with_the_cork_off_every_write_leaves_at_once_and_on_again_not(run):
    async def main():
        async with raw_peer() as (_, writer, peer):
            transport = counting(writer)
            writer.write(b"1")
            writer.write(b"2")
            writer.cork(False)
            assert transport.writes == [b"1", b"2"]
            writer.write(b"3")
            writer.write(b"4")
            assert transport.writes == [b"1", b"2", b"3", b"4"]
            writer.cork()
            writer.write(b"5")
            writer.write(b"6")
            assert writer.corked > 0
            writer.flush()
            assert writer.corked == 0
            await turns(2)
            assert now(peer) == b"123456"

    run(main())


def test_a_task_that_writes_while_another_waits_to_read_is_not_held_up(run):
    """A client of a multiplexed protocol: its reader's task is parked for good."""

    async def main():
        async with raw_peer() as (reader, writer, peer):
            lines = []

            async def read():
                async for line in reader:
                    lines.append(line)

            reading = asyncio.ensure_future(read())
            await turns(2)

            async def call(number):
                writer.write(b"head %d " % number)
                writer.write(b"body %d\n" % number)
                await writer.drain()

            for round_ in range(3):
                tasks = [asyncio.ensure_future(call(number)) for number in range(10)]
                await turns(3)
                assert all(task.done() for task in tasks)
                await turns(2)
                expected = b"".join(b"head %d body %d\n" % (number, number) for number in range(10))
                assert now(peer) == expected
                peer.send(expected)
                await eventually(lambda: len(lines) == 10 * (round_ + 1))
            peer.close()
            await reading

    run(main())


def test_a_proxy_that_writes_to_one_side_and_waits_on_the_other_holds_nothing_up(run):
    async def main():
        async with raw_peer() as (front_reader, front_writer, client), raw_peer() as (
            back_reader,
            back_writer,
            service,
        ):

            async def proxy():
                while line := await front_reader.readline():
                    back_writer.write(b"from proxy: ")
                    back_writer.write(line)
                    # No drain: the proxy waits on the other connection at once.
                    answer = await back_reader.readline()
                    front_writer.write(b"answer: ")
                    front_writer.write(answer)

            task = asyncio.ensure_future(proxy())
            for number in range(5):
                client.send(b"question %d\n" % number)
                question = b"from proxy: question %d\n" % number
                assert await asyncio.wait_for(receive(service, len(question)), 5) == question
                service.send(b"%d\n" % number)
                answer = b"answer: %d\n" % number
                assert await asyncio.wait_for(receive(client, len(answer)), 5) == answer
            client.close()
            await asyncio.wait_for(task, 5)

    run(main())


@pytest.mark.parametrize("end", ["close", "write_eof", "aclose", "abort_after_flush"])
def test_an_end_comes_behind_everything_that_was_written(run, end):
    async def main():
        async with raw_peer() as (_, writer, peer):
            for part in (b"1", b"2", b"3"):
                writer.write(part)
            if end == "aclose":
                await writer.aclose()
            elif end == "abort_after_flush":
                writer.flush()
                await turns(2)
                writer.write_eof()
            else:
                getattr(writer, end)()
            assert await asyncio.wait_for(receive(peer), 5) == b"123"

    run(main())


def test_what_goes_straight_to_the_transport_comes_behind_what_was_written(run):
    async def main():
        async with raw_peer() as (_, writer, peer):
            writer.write(b"1")
            writer.write(b"2")
            writer.transport.write(b"3")
            writer.write(b"4")
            writer.write(b"5")
            writer.transport.writelines([b"6", b"7"])
            writer.write(b"8")
            writer.transport.close()
            assert await asyncio.wait_for(receive(peer), 5) == b"12345678"

    run(main())


def test_start_tls_comes_behind_what_was_written_and_before_what_comes_next(run, tls):  # noqa: F811
    for_server, for_client = tls
    served = []

    async def serve(reader, writer):
        async with writer:
            served.append(await reader.readline())
            writer.write(b"plain ")
            writer.write(b"text\n")
            await writer.start_tls(for_server)
            writer.write(b"secret ")
            writer.write(b"text\n")
            served.append(await reader.readline())

    async def main():
        server = await millstream.start_server(serve, "127.0.0.1", 0)
        reader, writer = await millstream.open_connection(*server.sockets[0].getsockname())
        writer.write(b"start")
        writer.write(b"tls\n")
        assert await reader.readline() == b"plain text\n"
        await writer.start_tls(for_client, server_hostname="localhost")
        writer.write(b"over ")
        writer.write(b"tls\n")
        assert await reader.readline() == b"secret text\n"
        assert await reader.read() == b""
        assert served == [b"starttls\n", b"over tls\n"]
        await writer.aclose()
        server.close()
        await server.wait_closed()

    run(main())


@pytest.mark.parametrize("how", ["call_soon", "call_later", "call_soon_threadsafe", "add_done_callback"])
def test_a_plain_callback_may_write(run, how):
    async def main():
        async with raw_peer() as (_, writer, peer):

            def write(*_):
                writer.write(b"from ")
                writer.write(b"a ")
                writer.write(b"callback")

            for _ in range(3):
                if how == "call_later":
                    run.loop.call_later(0.001, write)
                elif how == "add_done_callback":
                    future = run.loop.create_future()
                    future.add_done_callback(write)
                    future.set_result(None)
                else:
                    getattr(run.loop, how)(write)
                assert await asyncio.wait_for(receive(peer, 15), 5) == b"from a callback"

    run(main())


def test_a_blocking_handler_holds_up_only_what_it_wrote_after_the_first(run):
    """What no stream can help: but the first answer of a turn is out before the handler blocks."""
    import time

    async def main():
        async with raw_peer() as (_, writer, peer):
            writer.write(b"before")
            if not type(run.loop).__module__.startswith("uvloop"):
                time.sleep(0.05)
                assert now(peer) == b"before"
            writer.write(b" and")
            writer.write(b" after")
            await turns(2)
            assert now(peer).endswith(b" and after")

    run(main())


def test_a_write_right_before_the_loop_is_stopped_leaves_when_it_goes_on_or_the_writer_is_closed(run):
    pair = collections.deque()

    async def connect():
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        _, writer = await millstream.open_connection(sock=ours)
        pair.extend((writer, theirs))

    def write_and_stop(close):
        writer.write(b"1")
        writer.write(b"2")
        writer.write(b"3")
        if close:
            writer.close()
        run.loop.stop()

    run(connect())
    writer, peer = pair
    run.loop.call_soon(write_and_stop, False)
    run.loop.run_forever()
    run(turns(2))
    assert now(peer) == b"123"
    run.loop.call_soon(write_and_stop, True)
    run.loop.run_forever()
    assert now(peer) == b"123"
    run(writer.wait_closed())
    peer.close()


LAST_WORDS = (
    NEW_LOOP
    + """
import socket
ours, theirs = socket.socketpair()
async def main():
    reader, writer = await millstream.open_connection(sock=ours)
    for number in range(10):
        writer.write(b"%d" % number)
    if sys.argv[2] == "close":
        writer.close()
    elif sys.argv[2] == "keep":
        global kept
        kept = writer
loop = new_loop()
loop.run_until_complete(main())
loop.close()
theirs.setblocking(False)
print(theirs.recv(100).decode())
"""
)


@pytest.mark.parametrize("end", ["close", "keep", "drop"])
@pytest.mark.parametrize("loop", loops())
def test_the_last_words_of_a_program_leave(loop, end):
    """A main coroutine that writes and returns: closed, kept by someone or simply dropped, all of it is on its way."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LAST_WORDS, loop, end], capture_output=True, text=True, timeout=60
    )
    assert (result.stdout, result.stderr, result.returncode) == ("0123456789\n", "", 0)


def test_writes_of_many_connections_in_one_turn_all_leave(run):
    async def main():
        pairs = []
        for number in range(200):
            ours, theirs = socket.socketpair()
            theirs.setblocking(False)
            _, writer = await millstream.open_connection(sock=ours)
            pairs.append((number, writer, theirs))
        for _ in range(3):
            for number, writer, _ in pairs:
                writer.write(b"to ")
                writer.write(b"%d" % number)
            await turns(2)
            for number, _, theirs in pairs:
                assert now(theirs) == b"to %d" % number
        for _, writer, theirs in pairs:
            theirs.close()
            await writer.aclose()

    run(main())
