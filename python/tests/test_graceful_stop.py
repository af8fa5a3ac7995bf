"""A server that stops: idle connections end at once, work is finished, the rest is cut off at the deadline."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys

import millstream
import pytest
from support import NEW_LOOP, eventually, loops, receive, tls, turns  # noqa: F401

#: A server whose connections the loop accepts, and one that accepts them itself.
KINDS = [pytest.param({}, id="plain"), pytest.param({"max_connections": 1000}, id="accepting")]
kinds = pytest.mark.parametrize("options", KINDS)


async def echo(reader, writer):
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


async def serve(handler=echo, **options):
    server = await millstream.start_server(handler, "127.0.0.1", 0, **options)
    return server, server.sockets[0].getsockname()


def plain(address):
    sock = socket.create_connection(address)
    sock.setblocking(False)
    return sock


async def ping(sock):
    sock.send(b"ping\n")
    assert await receive(sock, 5) == b"ping\n"


def numbers(stopped):
    return (stopped.finished, stopped.idle, stopped.aborted)


async def to_the_end(sock):
    """Everything up to the end, which is answered with one."""
    try:
        return await receive(sock)
    finally:
        sock.close()


async def timed(awaitable):
    """What it returns, and the seconds that took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    return await awaitable, loop.time() - began


@kinds
def test_a_server_without_connections_stops_at_once(run, options):
    async def main():
        server, address = await serve(**options)
        stopped, seconds = await timed(server.stop(10))
        assert numbers(stopped) == (0, 0, 0) and seconds < 1
        assert not server.is_serving()
        with pytest.raises(OSError):
            await millstream.open_connection(*address)
        await server.wait_closed()

    run(main())


@kinds
def test_idle_connections_end_at_once(run, options):
    async def main():
        server, address = await serve(**options)
        clients = [plain(address) for _ in range(20)]
        for client in clients:
            await ping(client)
        ends = asyncio.gather(*map(to_the_end, clients))
        stopped, seconds = await timed(server.stop(10))
        assert numbers(stopped) == (0, 20, 0) and seconds < 1
        assert await ends == [b""] * 20
        await server.wait_closed()

    run(main())


@kinds
def test_work_is_finished_and_its_answer_arrives(run, options):
    async def main():
        gate = asyncio.Event()

        async def handler(reader, writer):
            while line := await reader.readline():
                await gate.wait()
                writer.write(line * 1000)
                await writer.drain()
            writer.close()

        server, address = await serve(handler, **options)
        client = plain(address)
        client.send(b"work\n")
        await eventually(lambda: server.stats().connections == 1)
        end = asyncio.ensure_future(to_the_end(client))
        stop = asyncio.ensure_future(server.stop(10))
        await asyncio.sleep(0.4)
        assert not stop.done()
        gate.set()
        stopped, seconds = await timed(stop)
        assert numbers(stopped) == (0, 1, 0) and seconds < 1
        assert await end == b"work\n" * 1000

    run(main())


def test_a_request_of_which_a_part_is_there_is_finished(run):
    async def main():
        server, address = await serve()
        client = plain(address)
        await ping(client)
        client.send(b"pi")
        await asyncio.sleep(0.02)
        stop = asyncio.ensure_future(server.stop(10))
        await asyncio.sleep(0.4)
        assert not stop.done()
        client.send(b"ng\n")
        assert numbers(await stop) == (0, 1, 0)
        assert await receive(client) == b"ping\n"
        client.close()

    run(main())


def test_a_client_that_never_stops_asking_is_ended_behind_the_next_answer(run):
    async def main():
        async def handler(reader, writer):
            # So that it is hardly ever idle, and only for a moment.
            while line := await reader.readline():
                await asyncio.sleep(0.03)
                writer.write(line)
                await writer.drain()
            writer.close()

        server, address = await serve(handler)
        reader, writer = await millstream.open_connection(*address)

        async def ask():
            late = 0
            while True:
                writer.write(b"ping\n")
                if not await reader.readline():
                    return late
                late += stop is not None

        stop = None
        asking = asyncio.ensure_future(ask())
        asking.add_done_callback(lambda _: writer.close())
        await asyncio.sleep(0.1)
        stop = asyncio.ensure_future(server.stop(10))
        assert numbers(await stop) == (0, 1, 0)
        assert await asking <= 1

    run(main())


@kinds
def test_who_has_said_nothing_yet_has_a_quarter_of_a_second_to_do_it(run, options):
    async def main():
        server, address = await serve(**options)
        silent, late = plain(address), plain(address)
        await eventually(lambda: server.stats().connections == 2)
        stop = asyncio.ensure_future(timed(server.stop(10)))
        end = asyncio.ensure_future(to_the_end(silent))
        await asyncio.sleep(0.1)
        assert not end.done()
        await ping(late)
        assert await to_the_end(late) == b""
        assert not end.done()
        stopped, seconds = await stop
        assert numbers(stopped) == (0, 2, 0) and 0.24 < seconds < 1
        assert await end == b""

    run(main())


@kinds
def test_at_the_deadline_the_rest_is_reset_and_its_handler_cancelled(run, options):
    async def main():
        ends = []

        async def handler(reader, writer):
            try:
                writer.write(b"half of an answer")
                await asyncio.Event().wait()
            finally:
                ends.append(writer.stopping().time_left())

        server, address = await serve(handler, **options)
        client = plain(address)
        assert await receive(client, 5) == b"half "
        stopped, seconds = await timed(server.stop(0.3))
        assert numbers(stopped) == (0, 0, 1) and 0.29 < seconds < 1
        assert ends == [pytest.approx(0, abs=0.01)]
        with pytest.raises(ConnectionResetError):
            await receive(client)
        client.close()
        await server.wait_closed()

    run(main())


def test_a_peer_that_takes_nothing_is_cut_off_at_the_deadline(run):
    async def main():
        async def handler(reader, writer):
            writer.write(bytes(1 << 24))
            await writer.drain()
            writer.close()

        server, address = await serve(handler)
        client = plain(address)
        await eventually(lambda: server.stats().connections == 1)
        stopped, seconds = await timed(server.stop(0.2))
        assert numbers(stopped) == (0, 0, 1) and seconds < 1
        client.close()

    run(main())


def test_a_handler_that_refuses_to_be_cancelled_delays_the_stop_by_a_second_only(run):
    async def main():
        gate = asyncio.Event()

        async def handler(reader, writer):
            while not gate.is_set():
                try:
                    await gate.wait()
                except asyncio.CancelledError:
                    pass

        server, address = await serve(handler, max_connections=5)
        client = plain(address)
        await eventually(lambda: server.stats().connections == 1)
        stopped, seconds = await timed(server.stop(0))
        assert numbers(stopped) == (0, 0, 1) and 0.9 < seconds < 2
        await server.wait_closed()
        gate.set()
        await turns(5)
        client.close()

    run(main())


def test_handlers_are_told_and_may_say_goodbye(run):
    async def main():
        began = asyncio.Event()

        async def handler(reader, writer):
            stopping = writer.stopping()
            assert not stopping.is_requested() and stopping.time_left() is None
            assert not reader.stopping().is_requested()
            began.set()
            await stopping.requested()
            assert stopping.is_requested() and reader.stopping().is_requested()
            assert 9 < stopping.time_left() <= 10
            writer.write(b"goodbye\n")
            await writer.aclose()

        server, address = await serve(handler)
        client = plain(address)
        await began.wait()
        assert numbers(await server.stop(10)) == (1, 0, 0)
        assert await receive(client) == b"goodbye\n"
        client.close()

    run(main())


def test_a_connection_that_no_server_accepted_is_never_told(run):
    async def main():
        server, address = await serve()
        reader, writer = await millstream.open_connection(*address)
        assert not reader.stopping().is_requested() and writer.stopping().time_left() is None
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(writer.stopping().requested(), 0.01)
        await server.stop(5)
        assert not writer.stopping().is_requested()
        writer.close()

    run(main())


def test_an_answer_by_another_task_makes_a_connection_idle(run):
    async def main():
        gate = asyncio.Event()

        async def handler(reader, writer):
            async def answer():
                await gate.wait()
                writer.write(b"pushed\n")

            pushing = asyncio.ensure_future(answer())
            while await reader.readline():
                pass
            await pushing
            writer.close()

        server, address = await serve(handler)
        client = plain(address)
        client.send(b"ask\n")
        await eventually(lambda: server.stats().connections == 1)
        end = asyncio.ensure_future(to_the_end(client))
        stop = asyncio.ensure_future(server.stop(10))
        await asyncio.sleep(0.4)
        assert not stop.done()
        gate.set()
        stopped, seconds = await timed(stop)
        assert numbers(stopped) == (0, 1, 0) and seconds < 1
        assert await end == b"pushed\n"

    run(main())


def test_what_a_peer_sends_behind_the_end_is_dropped(run):
    async def main():
        seen = []
        gate = asyncio.Event()

        async def handler(reader, writer):
            writer.write(await reader.readline())
            seen.append(await reader.read())
            await gate.wait()
            seen.append(await reader.read())
            writer.close()

        server, address = await serve(handler)
        client = plain(address)
        await ping(client)
        stop = asyncio.ensure_future(server.stop(10))
        await eventually(lambda: seen == [b""])
        client.send(b"too late\n")
        await asyncio.sleep(0.02)
        gate.set()
        assert numbers(await stop) == (0, 1, 0)
        assert seen == [b"", b""]
        client.close()

    run(main())


@pytest.mark.parametrize("end", [True, False])
def test_a_server_may_leave_idle_connections_to_their_handlers(run, end):
    async def main():
        server, address = await serve(end_idle_on_stop=end)
        client = plain(address)
        await ping(client)
        ending = asyncio.ensure_future(to_the_end(client))
        stopped, seconds = await timed(server.stop(0.6))
        assert numbers(stopped) == ((0, 1, 0) if end else (0, 0, 1))
        assert (seconds < 0.5) == end
        await asyncio.wait([ending])
        assert (ending.exception() is None) == end

    run(main())


def test_of_several_stops_the_earliest_deadline_counts_and_all_return_the_same(run):
    async def main():
        async def handler(reader, writer):
            await asyncio.Event().wait()

        server, address = await serve(handler)
        client = plain(address)
        await eventually(lambda: server.stats().connections == 1)
        given_up = asyncio.ensure_future(server.stop(0.4))
        await turns(2)
        given_up.cancel()
        stops = [asyncio.ensure_future(timed(server.stop(within))) for within in (30, float("inf"), 20)]
        results = await asyncio.gather(*stops)
        assert {numbers(stopped) for stopped, _ in results} == {(0, 0, 1)}
        assert all(0.3 < seconds < 1.5 for _, seconds in results)
        assert numbers(await server.stop(0)) == (0, 0, 1)
        client.close()

    run(main())


def test_a_connection_that_is_being_accepted_when_the_stop_begins_is_served(run):
    async def main():
        # The stock loop's own server drops it, as its `close` always does.
        server, address = await serve(max_connections=1000)
        client = plain(address)
        client.send(b"ping\n")
        end = asyncio.ensure_future(to_the_end(client))
        # Up to the turn in which it is accepted, and not to the one in which its handler is called.
        tasks = len(asyncio.all_tasks())
        while not server.stats().connections and len(asyncio.all_tasks()) == tasks:
            await turns(1)
        stopped = await server.stop(5)
        assert numbers(stopped) == (0, 1, 0)
        assert await end == b"ping\n"

    run(main())


def test_a_peer_that_does_not_answer_the_end_delays_the_stop_by_a_second(run):
    async def main():
        server, address = await serve()
        client = plain(address)
        await ping(client)
        stopped, seconds = await timed(server.stop(10))
        assert numbers(stopped) == (0, 1, 0) and 0.9 < seconds < 2
        assert await to_the_end(client) == b""

    run(main())


@kinds
def test_over_tls_idle_connections_end_and_handshakes_too(run, tls, options):  # noqa: F811
    context, trust = tls

    async def main():
        server, address = await serve(ssl=context, **options)
        reader, writer = await millstream.open_connection(*address, ssl=trust, server_hostname="localhost")
        writer.write(b"ping\n")
        assert await reader.readline() == b"ping\n"
        silent = plain(address)
        await asyncio.sleep(0.05)
        reading = asyncio.ensure_future(reader.read())
        ended = [asyncio.ensure_future(to_the_end(silent))]
        stopped, seconds = await timed(server.stop(5))
        assert seconds < 2
        # The loop's own server does not tell of connections before their handshake is done.
        assert numbers(stopped) == (0, 2 if options else 1, 0)
        assert await reading == b""
        writer.close()
        if not options:
            silent.send(b"this is no ClientHello")
        await asyncio.wait(ended)

    run(main())


def test_a_hundred_clients_of_five_kinds_stop_within_the_deadline_and_no_answer_is_cut(run):
    async def main():
        async def handler(reader, writer):
            while line := await reader.readline():
                if line == b"hang\n":
                    await asyncio.Event().wait()
                if line == b"slow\n":
                    await asyncio.sleep(0.3)
                writer.write(line * 500)
                await writer.drain()
            writer.close()

        server, address = await serve(handler, max_connections=200)

        async def client(kind):
            reader, writer = await millstream.open_connection(*address)
            answers = []
            try:
                if kind == "silent":
                    answers.append(await reader.read())
                while kind != "silent":
                    writer.write(kind.encode() + b"\n")
                    answers.append(await reader.readexactly(500 * (len(kind) + 1)))
                    if kind == "idle":
                        answers.append(await reader.read())
                        break
            except asyncio.IncompleteReadError as error:
                assert error.partial == b"", kind
            except ConnectionResetError:
                assert kind == "hang"
            finally:
                writer.close()

        kinds = [kind for kind in ("idle", "busy", "slow", "silent", "hang") for _ in range(20)]
        clients = [asyncio.ensure_future(client(kind)) for kind in kinds]
        await eventually(lambda: server.stats().connections == 100)
        await asyncio.sleep(0.2)
        stopped, seconds = await timed(server.stop(1.5))
        assert numbers(stopped) == (0, 80, 20) and seconds < 2.5
        await asyncio.gather(*clients)
        assert server.stats().connections == 0

    run(main())


SERVER = """
async def handler(reader, writer):
    while line := await reader.readline():
        if line == b"hang\\n":
            await asyncio.Event().wait()
        writer.write(line)
        await writer.drain()
    writer.close()

async def main():
    server = await millstream.start_server(handler, "127.0.0.1", 0, **eval(sys.argv[2]))
    print(server.sockets[0].getsockname()[1], flush=True)
    number, stopped = await server.serve_until_terminated(30)
    print(number and number.name, stopped.finished, stopped.idle, stopped.aborted, flush=True)

loop = new_loop()
loop.run_until_complete(main())
loop.close()
"""


@pytest.mark.parametrize("loop_name", loops())
@pytest.mark.parametrize("options", ["{}", "{'max_connections': 9}"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_gracefully_and_a_second_one_at_once(loop_name, options, number):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    command = [sys.executable, "-c", NEW_LOOP + SERVER, loop_name, options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        address = ("127.0.0.1", int(process.stdout.readline()))
        with socket.create_connection(address) as idle, socket.create_connection(address) as hanging:
            idle.settimeout(20)
            idle.sendall(b"ping\n")
            assert idle.recv(5) == b"ping\n"
            hanging.sendall(b"hang\n")
            idle.sendall(b"ping\n")
            assert idle.recv(5) == b"ping\n"
            process.send_signal(number)
            assert idle.recv(1) == b""
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            assert process.stdout.readline().split() == [number.name, "0", "1", "1"]
        assert process.wait(20) == 0


def test_a_server_that_someone_else_closes_stops_without_a_signal(run):
    async def main():
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        for options in ({}, {"max_connections": 3}):
            server, address = await serve(start_serving=False, **options)
            serving = asyncio.ensure_future(server.serve_until_terminated(5))
            await eventually(server.is_serving)
            client = plain(address)
            await ping(client)
            server.close()
            number, stopped = await serving
            assert number is None and numbers(stopped) == (0, 1, 0)
            assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
            await to_the_end(client)

    run(main())
