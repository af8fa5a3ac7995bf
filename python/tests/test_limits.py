"""The limits of a server: how many connections, how many of one peer, what becomes of those above, and what it counts."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
import ssl

import millstream
import pytest
from millstream._limits import peer_of
from support import eventually, receive, reset, tls, turns  # noqa: F401


async def echo(reader, writer):
    async for line in reader:
        writer.write(line)
        await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def serving(handler=echo, host="127.0.0.1", **options):
    server = await millstream.start_server(handler, host, 0, **options)
    try:
        yield server, server.sockets[0].getsockname()[:2]
    finally:
        server.close()
        server.abort_clients()
        await server.wait_closed()
        await turns(3)


def plain(address):
    """A client that does nothing by itself."""
    sock = socket.create_connection(address)
    sock.setblocking(False)
    return sock


async def answers(sock):
    sock.send(b"ping\n")
    return await receive(sock, 5) == b"ping\n"


def test_above_the_cap_connections_wait_in_the_backlog_and_are_served_when_a_place_is_free(run):
    async def main():
        async with serving(max_connections=2) as (server, address):
            clients = [plain(address) for _ in range(5)]
            assert await answers(clients[0]) and await answers(clients[1])
            clients[2].send(b"ping\n")
            await asyncio.sleep(0.05)
            assert server.stats().connections == 2
            for i in range(3):
                clients[i].close()
                if i:
                    clients[2 + i].send(b"ping\n")
                assert await receive(clients[2 + i], 5) == b"ping\n"
            stats = server.stats()
            assert (stats.accepted, stats.peak_connections, stats.refused_full) == (5, 2, 0)
            for client in clients:
                client.close()
            await eventually(lambda: server.stats().connections == 0)

    run(main())


def test_a_cap_of_one_serves_one_after_the_other(run):
    async def main():
        async with serving(max_connections=1) as (server, address):

            async def client():
                reader, writer = await millstream.open_connection(*address)
                writer.write(b"ping\n")
                line = await reader.readline()
                await writer.aclose()
                return line

            assert await asyncio.gather(*(client() for _ in range(50))) == [b"ping\n"] * 50
            stats = server.stats()
            assert (stats.accepted, stats.peak_connections) == (50, 1)

    run(main())


def test_above_the_cap_peers_are_told_why_and_not_reset(run):
    async def main():
        options = {"max_connections": 1, "when_full": "refuse", "farewell": b"421 try later\r\n"}
        async with serving(**options) as (server, address):
            first = plain(address)
            assert await answers(first)
            second = plain(address)
            second.send(b"x" * 1000)
            assert await receive(second) == b"421 try later\r\n"
            stats = server.stats()
            assert (stats.accepted, stats.connections, stats.refused_full) == (1, 1, 1)
            first.close()
            second.close()
            await eventually(lambda: server.stats().connections == 0)
            third = plain(address)
            assert await answers(third)
            third.close()

    run(main())


def test_a_refused_peer_that_does_not_close_is_closed_within_a_second_or_by_the_server(run):
    async def main():
        async with serving(max_connections=1, when_full="refuse") as (server, address):
            first = plain(address)
            assert await answers(first)
            before = len(os.listdir("/proc/self/fd"))
            second = plain(address)
            await eventually(lambda: server.stats().refused_full == 1)
            assert len(os.listdir("/proc/self/fd")) == before + 2
            await eventually(lambda: len(os.listdir("/proc/self/fd")) == before + 1, 3)
            third = plain(address)
            await eventually(lambda: server.stats().refused_full == 2)
            for sock in (first, second, third):
                sock.close()

    run(main())


def test_a_crowd_of_refused_peers_pushes_out_the_oldest(run):
    async def main():
        async with serving(max_connections=1, when_full="refuse") as (server, address):
            clients = [plain(address)]
            assert await answers(clients[0])
            for _ in range(6):
                clients += [plain(address) for _ in range(50)]
                await eventually(lambda: server.stats().refused_full == len(clients) - 1)
            assert len(server._refused) == 256
            for client in clients:
                client.close()
            await eventually(lambda: not server._refused)

    run(main())


def test_the_connections_of_one_peer_are_counted_and_others_are_let_in(run):
    async def main():
        async with serving(host="0.0.0.0", max_connections_per_peer=2, farewell=b"enough\n") as (server, (_, port)):
            mine = [plain(("127.0.0.1", port)) for _ in range(2)]
            assert await answers(mine[0]) and await answers(mine[1])
            third = plain(("127.0.0.1", port))
            assert await receive(third) == b"enough\n"
            other = socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.2", 0))
            other.setblocking(False)
            assert await answers(other)
            assert server.stats().refused_per_peer == 1
            mine[0].close()
            await eventually(lambda: server.stats().connections == 2)
            again = plain(("127.0.0.1", port))
            assert await answers(again)
            for sock in (*mine, third, other, again):
                sock.close()
            await eventually(lambda: server.stats().connections == 0)
            assert server._admission.peers == {}

    run(main())


def test_a_peer_is_an_ipv4_address_however_written_or_an_ipv6_network_of_64_bits():
    def of(text):
        return peer_of((text, 1))

    assert of("::ffff:192.0.2.7") == of("192.0.2.7") != of("192.0.2.8")
    assert of("2001:db8:1:2:3:4:5:6") == of("2001:db8:1:2::") != of("2001:db8:1:3::")
    assert of("fe80::1%lo") == of("fe80::2")
    assert peer_of("") is None


@pytest.mark.parametrize("end", ["returns", "raises", "is cancelled", "is reset", "is aborted", "plain raises"])
def test_every_way_a_connection_ends_gives_its_place_back(run, end):
    async def coroutine(reader, writer):
        await reader.readline()
        if end == "raises":
            raise ValueError("on purpose")
        if end == "is cancelled":
            asyncio.current_task().cancel()
            await asyncio.sleep(0)
        if end == "is aborted":
            writer.abort()
        writer.close()

    def plain_callback(reader, writer):
        raise ValueError("on purpose")

    async def main():
        handler = plain_callback if end == "plain raises" else coroutine
        async with serving(handler, max_connections=1) as (server, address):
            for _ in range(5):
                client = plain(address)
                if end == "is reset":
                    reset(client)
                else:
                    client.send(b"go\n")
                    with contextlib.suppress(ConnectionResetError):
                        await receive(client)
                    client.close()
            await eventually(lambda: server.stats().accepted == 5 and server.stats().connections == 0)
            failed = 5 if "raises" in end or end == "is reset" else 0
            assert server.stats().handler_errors == failed == len(run.complaints)
            run.complaints.clear()

    run(main())


def test_a_connection_counts_until_its_handler_has_ended(run):
    async def main():
        gate = asyncio.Event()

        async def handler(reader, writer):
            writer.close()
            await gate.wait()

        async with serving(handler, max_connections=1, when_full="refuse", farewell=b"full") as (server, address):
            first, second = plain(address), None
            assert await receive(first) == b""
            second = plain(address)
            assert await receive(second) == b"full"
            gate.set()
            await eventually(lambda: server.stats().connections == 0)
            first.close()
            second.close()

    run(main())


def test_a_tls_handshake_takes_a_place_and_gives_it_back(run, tls):  # noqa: F811
    context, trust = tls

    async def main():
        options = {"max_connections": 1, "when_full": "refuse", "farewell": b"not over TLS"}
        async with serving(ssl=context, **options) as (server, address):
            silent = plain(address)
            await eventually(lambda: server.stats().handshakes == 1)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await millstream.open_connection(*address, ssl=trust, server_hostname="localhost")
            assert (server.stats().refused_full, server.stats().connections) == (1, 1)
            silent.send(b"this is no ClientHello")
            await eventually(lambda: server.stats().connections == 0)
            assert (server.stats().handshakes, server.stats().handshakes_failed) == (0, 1)
            silent.close()
            reader, writer = await millstream.open_connection(*address, ssl=trust, server_hostname="localhost")
            writer.write(b"ping\n")
            assert await reader.readline() == b"ping\n"
            assert server.stats().handshakes == 0
            await writer.aclose(5)

    run(main())


def test_out_of_descriptors_accepting_pauses_reports_once_and_loses_nobody(run):
    async def main():
        async with serving(max_connections=1000) as (server, address):
            clients = [plain(address) for _ in range(3)]
            for client in clients:
                assert await answers(client)
            late = [socket.socket() for _ in range(5)]
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            free = os.dup(0)
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
            try:
                for client in late:
                    client.connect(address)
                    client.setblocking(False)
                await eventually(lambda: server.stats().accept_pauses >= 5)
                assert await answers(clients[0])
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for client in late:
                assert await answers(client)
            stats = server.stats()
            assert stats.accept_errors == stats.accept_pauses < 50
            [complaint] = run.complaints
            assert complaint["exception"].errno == errno.EMFILE
            run.complaints.clear()
            for client in (*clients, *late):
                client.close()

    run(main())


def test_a_server_without_options_counts_as_well(run):
    async def main():
        async with serving() as (server, address):
            client = plain(address)
            assert await answers(client)
            stats = server.stats()
            assert (stats.accepted, stats.connections, stats.peak_connections) == (1, 1, 1)
            client.close()
            await eventually(lambda: server.stats().connections == 0)
            assert server.stats().passed_deadlines == {"item": 0, "idle": 0, "receive_rate": 0, "write_progress": 0}

    run(main())


def test_a_server_with_options_takes_asyncios_keywords_too(run, tmp_path):
    async def main():
        path = str(tmp_path / "socket")
        server = await millstream.start_unix_server(echo, path, max_connections=1, limit=100, start_serving=False)
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            await millstream.open_unix_connection(path)
        await server.start_serving()
        assert server.is_serving() and server.get_loop() is run.loop
        reader, writer = await millstream.open_unix_connection(path)
        writer.write(b"ping\n")
        assert await reader.readline() == b"ping\n"
        await writer.aclose()
        forever = asyncio.ensure_future(server.serve_forever())
        await turns(2)
        with pytest.raises(RuntimeError):
            await server.serve_forever()
        server.close()
        with pytest.raises(asyncio.CancelledError):
            await forever
        await server.wait_closed()
        with pytest.raises(RuntimeError):
            await server.start_serving()

    run(main())


def test_an_open_socket_is_served_with_options_and_nodelay_is_on(run):
    async def main():
        seen = []

        async def handler(reader, writer):
            option = writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            seen.append((option, writer.get_extra_info("peername")))
            writer.close()

        with socket.create_server(("127.0.0.1", 0)) as sock:
            server = await millstream.start_server(handler, sock=sock, max_connections=3)
            async with server:
                client = plain(sock.getsockname())
                assert await receive(client) == b""
                assert seen == [(1, client.getsockname())]
                client.close()

    run(main())


@pytest.mark.parametrize(
    "options",
    [
        {"max_connections": 0},
        {"max_connections_per_peer": 0},
        {"when_full": "panic"},
        {"idle_timeout": -1},
        {"item_deadline": 0.001},
        {"min_receive_rate": (500, float("nan"))},
    ],
)
def test_options_that_can_never_work_are_refused_before_anything_is_bound(run, options):
    with pytest.raises(ValueError):
        run(millstream.start_server(echo, "127.0.0.1", 0, **options))


def test_a_farewell_is_bytes(run):
    with pytest.raises(TypeError):
        run(millstream.start_server(echo, "127.0.0.1", 0, farewell="text"))
