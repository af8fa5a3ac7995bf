"""What a review of the servers found: the class, handshakes that end, signals, options that make no sense."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import signal
import socket

import millstream
import pytest
from support import eventually, receive, tls, turns  # noqa: F401

KINDS = [pytest.param({}, id="plain"), pytest.param({"max_connections": 1000}, id="accepting")]
kinds = pytest.mark.parametrize("options", KINDS)


async def until_the_end(reader, writer):
    with contextlib.suppress(OSError):
        await reader.read()
    writer.close()


async def serve(handler=until_the_end, **options):
    server = await millstream.start_server(handler, "127.0.0.1", 0, **options)
    return server, server.sockets[0].getsockname()


def plain(address):
    sock = socket.create_connection(address)
    sock.setblocking(False)
    return sock


def is_stock(loop):
    return isinstance(loop, asyncio.BaseEventLoop)


def test_a_plain_server_is_the_loops_own_and_one_of_asyncios_class_on_the_stock_loop(run):
    async def main():
        server, _ = await serve()
        assert isinstance(server, asyncio.AbstractServer)
        if is_stock(run.loop):
            assert isinstance(server, asyncio.Server)
            assert (type(server).__name__, type(server).__module__) == ("Server", asyncio.Server.__module__)
        server.close()
        await server.wait_closed()

    run(main())


@kinds
def test_a_bound_close_keeps_its_server_alive(run, options):
    async def main():
        server, address = await serve(**options)
        close = server.close
        del server
        gc.collect()
        reader, writer = await millstream.open_connection(*address)
        await writer.aclose()
        close()
        await turns(5)
        with pytest.raises(OSError):
            await millstream.open_connection(*address)

    run(main())


async def in_its_handshake(tls, **options):  # noqa: F811
    """A server and a client that says nothing over TLS."""
    server, address = await serve(ssl=tls[0], ssl_handshake_timeout=20, **options)
    client = plain(address)
    await asyncio.sleep(0.1)
    return server, client


async def its_end(client):
    try:
        return await asyncio.wait_for(receive(client), 3)
    except ConnectionResetError:
        return b""
    finally:
        client.close()


@kinds
@pytest.mark.parametrize("within", [0, 2])
def test_a_stop_ends_handshakes(run, tls, options, within):  # noqa: F811
    async def main():
        server, client = await in_its_handshake(tls, **options)
        if not options and not is_stock(run.loop):
            # Nobody tells of handshakes there before they are done.
            client.close()
        await asyncio.wait_for(server.stop(within), 3)
        if client.fileno() >= 0:
            assert await its_end(client) == b""
        await asyncio.wait_for(server.wait_closed(), 3)

    run(main())


@kinds
def test_aborting_the_clients_ends_handshakes(run, tls, options):  # noqa: F811
    async def main():
        if not options and not is_stock(run.loop):
            pytest.skip("nobody tells of handshakes there before they are done")
        server, client = await in_its_handshake(tls, **options)
        server.abort_clients()
        assert await its_end(client) == b""
        assert server.stats().handshakes_failed == 0
        server.close()
        await asyncio.wait_for(server.wait_closed(), 3)

    run(main())


def test_clients_that_are_aborted_in_the_turn_in_which_they_came_are_closed(run):
    async def main():
        server, address = await serve(max_connections=2)
        clients = [plain(address) for _ in range(2)]
        while not server.stats().connections:
            await asyncio.sleep(0)
        server.abort_clients()
        assert [await its_end(client) for client in clients] == [b"", b""]
        await eventually(lambda: server.stats().connections == 0)
        server.close()
        await server.wait_closed()

    run(main())


def test_who_cancels_serve_forever_closes_the_clients_and_waits_for_nobody(run):
    async def main():
        server, address = await serve(max_connections=3)
        serving = asyncio.ensure_future(server.serve_forever())
        client = plain(address)
        await eventually(lambda: server.stats().connections == 1)
        serving.cancel()
        done, _ = await asyncio.wait([serving], timeout=3)
        assert done and serving.cancelled() and not server.is_serving()
        assert await its_end(client) == b""

    run(main())


@kinds
def test_a_graceful_stop_is_one_also_while_serve_forever_is_awaited(run, options):
    async def main():
        gate = asyncio.Event()

        async def handler(reader, writer):
            await gate.wait()
            writer.write(b"done")
            await writer.aclose()

        server, address = await serve(handler, **options)
        serving = asyncio.ensure_future(server.serve_forever())
        client = plain(address)
        await eventually(lambda: server.stats().connections == 1)
        stop = asyncio.ensure_future(server.stop(20))
        await asyncio.sleep(0.05)
        gate.set()
        assert await its_end(client) == b"done"
        assert (await stop).finished == 1
        if not options:
            serving.cancel()  # not every loop's own server does it when it is closed
        await asyncio.wait([serving], timeout=3)
        assert serving.cancelled()

    run(main())


@pytest.mark.parametrize("backlog", [0, -1])
def test_a_server_with_options_accepts_with_any_backlog(run, backlog):
    async def main():
        server, address = await serve(max_connections=3, backlog=backlog)
        reader, writer = await asyncio.wait_for(millstream.open_connection(*address), 3)
        await eventually(lambda: server.stats().accepted == 1, 3)
        await writer.aclose()
        server.close()
        await server.wait_closed()

    run(main())


@kinds
@pytest.mark.parametrize("within", [float("nan"), None, "5", [5]])
def test_a_stop_within_no_number_of_seconds_closes_nothing_and_says_so(run, options, within):
    async def main():
        server, address = await serve(**options)
        error = ValueError if isinstance(within, float) else TypeError
        with pytest.raises(error, match=r"^stop\(\): within "):
            await server.stop(within)
        with pytest.raises(error, match=r"^serve_until_terminated\(\): within "):
            await server.serve_until_terminated(within)
        assert server.is_serving()
        reader, writer = await millstream.open_connection(*address)
        await writer.aclose()
        assert (await asyncio.wait_for(server.stop(5), 3)).aborted == 0

    run(main())


async def given_up(task):
    task.cancel()
    await asyncio.wait([task])


@kinds
def test_the_programs_own_signal_handlers_come_back(run, options):
    async def main():
        got = []
        mine = lambda number, frame: got.append("the program's")  # noqa: E731
        before = signal.signal(signal.SIGTERM, mine)
        try:
            server, _ = await serve(**options)
            serving = asyncio.ensure_future(server.serve_until_terminated(1))
            await turns(3)
            assert signal.getsignal(signal.SIGTERM) is not mine
            await given_up(serving)
            assert signal.getsignal(signal.SIGTERM) is mine
            assert not server._streams._on_close
            run.loop.add_signal_handler(signal.SIGTERM, got.append, "the loop's")
            serving = asyncio.ensure_future(server.serve_until_terminated(1))
            await turns(3)
            if is_stock(run.loop):
                await given_up(serving)
            else:
                with pytest.raises(RuntimeError, match="SIGTERM that could not be put back"):
                    await serving
            signal.raise_signal(signal.SIGTERM)
            await eventually(lambda: got, 3)
            assert got == ["the loop's"]
        finally:
            run.loop.remove_signal_handler(signal.SIGTERM)
            signal.signal(signal.SIGTERM, before)
        server.close()
        await server.wait_closed()

    run(main())


def test_one_signal_stops_every_server_of_a_loop(run):
    async def main():
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        servers = [(await serve(**options))[0] for options in ({}, {"max_connections": 3}, {})]
        serving = [asyncio.ensure_future(server.serve_until_terminated(5)) for server in servers]
        await turns(3)
        await given_up(serving.pop())
        servers.pop().close()
        signal.raise_signal(signal.SIGTERM)
        ended = await asyncio.wait_for(asyncio.gather(*serving), 3)
        assert [number for number, _ in ended] == [signal.SIGTERM] * 2
        assert not any(server.is_serving() for server in servers)
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before

    run(main())


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("error", "name", "values"),
    [
        (TypeError, "max_connections", [True, 1.5, NAN, INFINITY, "3"]),
        (ValueError, "max_connections", [0, -1]),
        (TypeError, "max_connections_per_peer", [True, 2.5, "x"]),
        (ValueError, "max_connections_per_peer", [0]),
        (TypeError, "end_idle_on_stop", ["no", None, 1]),
        (TypeError, "item_deadline", ["3", True, [3]]),
        (ValueError, "item_deadline", [0, -1, NAN, INFINITY]),
        (ValueError, "idle_timeout", [0, 1e300, 10**400]),
        (ValueError, "write_progress_timeout", [-0.0]),
        (TypeError, "min_receive_rate", [5, (5,), (1, 2, 3), "51", ("a", 1), (5.5, 1), (True, 1), (5, "1")]),
        (ValueError, "min_receive_rate", [(-5, 1), (0, 1), (5, 0), (5, NAN), (1 << 64, 1)]),
    ],
)
def test_a_malformed_option_is_refused_with_its_name_its_value_and_what_it_may_be(run, error, name, values):
    async def main():
        for value in values:
            with pytest.raises(error) as caught:
                await millstream.start_server(until_the_end, "127.0.0.1", 0, **{name: value})
            assert name in str(caught.value) and "has to be" in str(caught.value), value
            part = value[0] if isinstance(value, tuple) else value
            assert repr(part) in str(caught.value) or repr(value[1]) in str(caught.value), value
            if name.endswith(("deadline", "timeout", "rate")):
                with pytest.raises(error, match=name):
                    await millstream.open_connection("127.0.0.1", 1, **{name: value})

    run(main())


def test_options_may_be_whatever_stands_for_a_whole_number_and_any_pair(run):
    class Three:
        def __index__(self):
            return 3

    async def main():
        server, _ = await serve(max_connections=Three(), min_receive_rate=[5, 1], idle_timeout=Three())
        server.close()
        await server.wait_closed()

    run(main())


@pytest.mark.parametrize("ends_first", ["handler", "connection"])
def test_a_transport_that_was_given_to_another_protocol_gives_its_place_back(run, ends_first):
    class Other(asyncio.Protocol):
        def __init__(self):
            self.lost = asyncio.Event()

        def connection_lost(self, exc):
            self.writer = None
            self.lost.set()

    async def main():
        async def handler(reader, writer):
            other = Other()
            writer.transport.set_protocol(other)
            other.writer = writer  # which closes the connection when it goes
            del reader, writer
            if ends_first == "connection":
                await other.lost.wait()

        server, address = await serve(handler, max_connections=1)
        for count in (1, 2):
            client = plain(address)
            await eventually(lambda: server.stats().accepted == count, 3)  # noqa: B023
            await asyncio.sleep(0.02)
            assert server.stats().connections == 1
            client.close()
            await asyncio.sleep(0.02)
            gc.collect()
        await eventually(lambda: server.stats().connections == 0, 3)
        await server.stop(1)

    run(main())


def test_a_stop_cuts_off_a_transport_that_was_given_to_another_protocol(run):
    async def main():
        kept = []

        async def handler(reader, writer):
            kept.append(writer)
            writer.transport.set_protocol(asyncio.Protocol())

        server, address = await serve(handler, max_connections=1)
        client = plain(address)
        await eventually(lambda: server.stats().accepted == 1, 3)
        await server.stop(0)
        assert await its_end(client) == b""

    run(main())


@kinds
def test_a_copy_of_a_server_can_be_made_and_its_numbers_hashed(run, options):
    async def main():
        server, _ = await serve(**options)
        if isinstance(server, millstream._clients.Server):
            assert copy.copy(server).get_loop() is run.loop
        assert hash(server.stats()) == hash(server.stats()) and server.stats() == server.stats()
        server.close()
        await server.wait_closed()

    run(main())
