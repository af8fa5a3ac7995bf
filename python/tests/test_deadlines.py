"""The deadlines of a connection: slow and silent peers are cut, slow but living ones are not, and the program is never held
against its peer."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import weakref

import millstream
import pytest
from millstream import streams
from millstream._deadlines import unsent
from support import eventually, raw_peer, receive, tls, turns  # noqa: F401


@contextlib.asynccontextmanager
async def served(handler, **options):
    """A plain client of a server with these options, and what its handler raised."""
    ends = asyncio.get_running_loop().create_future()

    async def handle(reader, writer):
        try:
            ends.set_result(await handler(reader, writer))
        except Exception as error:  # noqa: BLE001 - the test looks at it
            ends.set_result(error)
        finally:
            writer.close()

    server = await millstream.start_server(handle, "127.0.0.1", 0, **options)
    client = socket.create_connection(server.sockets[0].getsockname())
    client.setblocking(False)
    try:
        yield server, client, ends
    finally:
        client.close()
        server.close()
        server.abort_clients()
        await server.wait_closed()


async def lines(reader, writer):
    return [line async for line in reader]


async def drip(client, data, pause):
    """One byte at a time, until the peer has had enough; then the error of the last."""
    for i in range(len(data)):
        try:
            client.send(data[i : i + 1])
        except OSError as error:
            return error
        await asyncio.sleep(pause)
    return None


def passed(server):
    return {kind: count for kind, count in server.stats().passed_deadlines.items() if count}


def test_a_silent_peer_is_cut_and_sees_an_end(run):
    async def main():
        loop = asyncio.get_running_loop()
        async with served(lines, idle_timeout=0.2) as (server, client, ends):
            began = loop.time()
            error = await ends
            assert 0.19 < loop.time() - began < 0.5
            assert type(error) is TimeoutError
            assert str(error).startswith("nothing was received or sent within 200ms: a read has waited for 2")
            assert await receive(client) == b""
            assert passed(server) == {"idle": 1}

    run(main())


def test_a_peer_that_talks_now_and_then_is_not_idle(run):
    async def main():
        async with served(lines, idle_timeout=0.6) as (server, client, ends):
            await drip(client, b"1\n2\n3\n4\n5\n", 0.1)
            client.shutdown(socket.SHUT_WR)
            assert await ends == [b"1\n", b"2\n", b"3\n", b"4\n", b"5\n"]
            assert passed(server) == {}

    run(main())


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"item_deadline": 0.3}, "item", "no whole item within 300ms: "),
        ({"min_receive_rate": (1000, 0.3)}, "receive_rate", "an item came slower than 1000 bytes/s: "),
    ],
    ids=["item", "rate"],
)
def test_a_slow_drip_is_cut_with_a_reset(run, options, kind, text):
    async def main():
        async with served(lines, **options) as (server, client, ends):
            dripping = asyncio.ensure_future(drip(client, b"x" * 1000, 0.02))
            error = await ends
            assert type(error) is TimeoutError and str(error).startswith(text), error
            assert passed(server) == {kind: 1}
            assert type(await dripping) is ConnectionResetError

    run(main())


@pytest.mark.parametrize(
    "read", [lambda reader: reader.readexactly(3000), lambda reader: reader.readuntil(b"end"), lambda reader: reader.read()]
)
def test_every_read_that_waits_for_a_whole_item_is_governed(run, read):
    async def main():
        async with served(lambda reader, writer: read(reader), item_deadline=0.2) as (server, client, ends):
            client.send(b"a part")
            assert type(await ends) is TimeoutError
            assert passed(server) == {"item": 1}

    run(main())


def test_a_slow_but_living_transfer_is_not_cut(run):
    async def main():
        async def whole(reader, writer):
            return await reader.readexactly(3000)

        async with served(whole, min_receive_rate=(500, 0.6), idle_timeout=0.8) as (server, client, ends):
            for _ in range(30):
                client.send(bytes(100))
                await asyncio.sleep(0.05)
            assert await ends == bytes(3000)
            assert passed(server) == {}

    run(main())


def test_a_peer_that_has_not_begun_an_item_may_be_silent(run):
    async def main():
        async with served(lines, item_deadline=0.1, min_receive_rate=(1000, 0.1)) as (server, client, ends):
            for _ in range(3):
                await asyncio.sleep(0.2)
                client.send(b"line\n")
            client.shutdown(socket.SHUT_WR)
            assert await ends == [b"line\n"] * 3

    run(main())


def test_a_peer_is_not_blamed_while_the_program_does_something_else(run):
    async def main():
        async def busy(reader, writer):
            await asyncio.sleep(0.6)
            return await reader.readline()

        options = {"item_deadline": 0.2, "idle_timeout": 0.2, "min_receive_rate": (1000, 0.2)}
        async with served(busy, **options) as (server, client, ends):
            client.send(b"half")
            await asyncio.sleep(0.65)
            client.send(b" and half\n")
            assert await ends == b"half and half\n"
            assert passed(server) == {}

    run(main())


def test_a_peer_that_takes_nothing_is_cut_with_a_reset_and_the_numbers_are_told(run):
    async def main():
        async def bulk(reader, writer):
            writer.write(bytes(1 << 24))
            await writer.drain()

        async with served(bulk, write_progress_timeout=0.3) as (server, client, ends):
            error = await ends
            assert type(error) is TimeoutError
            assert str(error).startswith("the peer took nothing within 300ms: "), error
            assert passed(server) == {"write_progress": 1}
            with pytest.raises(ConnectionResetError):
                await receive(client)

    run(main())


def test_a_peer_that_takes_its_answer_slowly_but_steadily_is_not_cut(run):
    async def main():
        async def bulk(reader, writer):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            writer.write(bytes(1 << 21))
            await writer.drain()
            return "sent"

        async with served(bulk, write_progress_timeout=0.8, idle_timeout=0.8) as (server, client, ends):
            count = 0
            while not ends.done() or count < 1 << 21:
                count += len(await receive(client, min(100_000, (1 << 21) - count)))
                await asyncio.sleep(0.05)
            assert await ends == "sent"
            assert passed(server) == {}

    run(main())


def test_what_had_arrived_is_read_before_the_timeout_is_told_and_told_to_all(run):
    async def main():
        told = []

        async def handler(reader, writer):
            waiting = asyncio.ensure_future(reader.readexactly(100))
            with contextlib.suppress(TimeoutError):
                await waiting
            for read in (reader.read(4), reader.read(100), reader.readline(), writer.wait_closed()):
                try:
                    told.append(await read)
                except Exception as error:  # noqa: BLE001 - the test looks at it
                    told.append(error)
            await writer.drain()

        async with served(handler, item_deadline=0.2) as (server, client, ends):
            client.send(b"some more")
            error = await ends
            assert told[:2] == [b"some", b" more"]
            errors = [error, *told[2:]]
            assert [type(error) for error in errors] == [TimeoutError] * 3
            assert len(set(map(str, errors))) == 1
            # One object raised in several places would have a spoiled traceback.
            assert told[2] is not told[3]

    run(main())


def test_a_client_has_the_same_deadlines(run):
    async def main():
        async with raw_peer(idle_timeout=0.2) as (reader, writer, peer):
            with pytest.raises(TimeoutError, match="nothing was received or sent within 200ms"):
                await reader.readline()
            assert await receive(peer) == b""
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    run(main())


def test_a_deadline_costs_no_look_while_nothing_is_due_and_ends_with_the_connection(run):
    async def main():
        async with raw_peer(idle_timeout=1000) as (reader, writer, peer):
            watching = writer._protocol._watching
            timer = watching._timer
            for _ in range(100):
                peer.send(b"line\n")
                await reader.readline()
                writer.write(b"line\n")
                await writer.drain()
            assert watching._timer is timer and not timer.cancelled()
            writer.close()
            await writer.wait_closed()
            assert timer.cancelled()

    run(main())


def test_a_connection_with_deadlines_is_collected_when_it_is_over(run):
    async def main():
        async with raw_peer(idle_timeout=1000) as (reader, writer, peer):
            references = [weakref.ref(thing) for thing in (reader, writer, writer._protocol)]
            await writer.aclose()
        del reader, writer
        return references

    references = run(main())
    gc.collect()
    assert [reference() for reference in references] == [None] * 3


def test_over_tls_deadlines_pass_as_well(run, tls):  # noqa: F811
    context, trust = tls

    async def main():
        ends = []

        async def handler(reader, writer):
            try:
                ends.append(await reader.readline())
                ends.append(await reader.readline())
            except TimeoutError as error:
                ends.append(error)
            writer.close()

        server = await millstream.start_server(
            handler, "127.0.0.1", 0, ssl=context, item_deadline=0.3, idle_timeout=10
        )
        async with server:
            address = server.sockets[0].getsockname()
            reader, writer = await millstream.open_connection(*address, ssl=trust, server_hostname="localhost")
            writer.write(b"line\nhalf of")
            with pytest.raises((OSError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            await eventually(lambda: len(ends) == 2)
            assert ends[0] == b"line\n" and str(ends[1]).startswith("no whole item within 300ms: 7 bytes")
            assert passed(server) == {"item": 1}
            writer.close()

    run(main())


def test_a_peer_is_not_cut_as_idle_whose_bytes_an_overridden_feed_data_keeps_to_itself(run, monkeypatch):
    class Foreign(millstream.StreamReader):
        def feed_data(self, data):
            kept.append(data)

    kept = []
    monkeypatch.setattr(streams, "StreamReader", Foreign)

    async def main():
        async with served(lines, idle_timeout=0.2, item_deadline=0.2) as (server, client, ends):
            for _ in range(10):
                client.send(b"line\n")
                await asyncio.sleep(0.05)
            assert passed(server) == {} and not ends.done()
            assert b"".join(kept) == b"line\n" * 10
        await ends

    run(main())


def test_an_overridden_feed_data_does_not_switch_off_the_deadline_for_writes(run, monkeypatch):
    class Foreign(millstream.StreamReader):
        def feed_data(self, data):
            super().feed_data(data)

    monkeypatch.setattr(streams, "StreamReader", Foreign)

    async def main():
        async with served(bulk_and_a_read, idle_timeout=10, write_progress_timeout=0.2) as (server, client, ends):
            assert type(await ends) is TimeoutError
            assert passed(server) == {"write_progress": 1}

    run(main())


@pytest.mark.parametrize("options", [{"idle_timeout": 0.05}, {"item_deadline": 0.05}, {"write_progress_timeout": 0.05}])
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_deadline_keeps_no_connection_that_the_program_has_forgotten(run, options):
    async def main():
        async def handler(reader, writer):
            reader.user_data = writer  # a cycle: only the collector ends it

        server = await millstream.start_server(handler, "127.0.0.1", 0, **options)
        async with server:
            with socket.create_connection(server.sockets[0].getsockname()):
                await eventually(lambda: server.stats().accepted == 1)
                await asyncio.sleep(0.2)
                gc.collect()
                await eventually(lambda: server.stats().connections == 0, 2)
            assert passed(server) == {}

    run(main())


def test_a_forgotten_connection_whose_peer_takes_nothing_is_still_cut(run):
    async def main():
        gone = []

        async def handler(reader, writer):
            gone.append(weakref.ref(reader))
            writer.write(bytes(1 << 24))
            writer.close()

        server = await millstream.start_server(handler, "127.0.0.1", 0, write_progress_timeout=0.2)
        async with server:
            with socket.create_connection(server.sockets[0].getsockname()) as client:
                client.setblocking(False)
                await eventually(lambda: gone)
                await turns(3)
                gc.collect()
                assert gone[0]() is None
                await eventually(lambda: server.stats().connections == 0, 5)
                assert passed(server) == {"write_progress": 1}
                with pytest.raises(ConnectionResetError):
                    await receive(client)

    run(main())


@contextlib.asynccontextmanager
async def served_over_tls(handler, contexts, **options):
    """The transport of a client that does not read, of a server with these options over TLS, and what its handler raised."""
    loop = asyncio.get_running_loop()
    begun, ends = asyncio.Event(), loop.create_future()

    async def handle(reader, writer):
        begun.set()
        try:
            ends.set_result(await handler(reader, writer))
        except Exception as error:  # noqa: BLE001 - the test looks at it
            ends.set_result(error)
        finally:
            writer.close()

    server = await millstream.start_server(handle, "127.0.0.1", 0, ssl=contexts[0], **options)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 13)
    sock.setblocking(False)
    await loop.sock_connect(sock, server.sockets[0].getsockname())
    client, _ = await loop.create_connection(
        asyncio.Protocol, sock=sock, ssl=contexts[1], server_hostname="localhost"
    )
    # A handshake that is not over on the other side needs what would not be read.
    await begun.wait()
    client.pause_reading()
    try:
        yield server, client, ends
    finally:
        client.abort()
        server.close()
        server.abort_clients()
        await server.wait_closed()


async def bulk_and_a_read(reader, writer):
    writer.write(bytes(1 << 24))
    return await reader.readline()


def test_over_tls_a_peer_that_takes_nothing_is_cut_as_well(run, tls):  # noqa: F811
    async def main():
        async with served_over_tls(bulk_and_a_read, tls, write_progress_timeout=0.3) as (server, client, ends):
            error = await asyncio.wait_for(ends, 10)
            assert type(error) is TimeoutError
            assert str(error).startswith("the peer took nothing within 300ms: "), error
            assert passed(server) == {"write_progress": 1}

    run(main())


def test_over_tls_an_idle_peer_that_has_not_taken_everything_is_reset(run, tls):  # noqa: F811
    async def main():
        async with served_over_tls(bulk_and_a_read, tls, idle_timeout=0.3) as (server, client, ends):
            assert type(await asyncio.wait_for(ends, 10)) is TimeoutError
            assert passed(server) == {"idle": 1}
            # Were it only closed, what is queued would keep it open.
            await eventually(lambda: server.stats().connections == 0)

    run(main())


def test_over_tls_a_peer_that_takes_its_answer_slowly_but_steadily_is_not_cut(run, tls):  # noqa: F811
    async def main():
        async def bulk(reader, writer):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            writer.write(bytes(1 << 21))
            return await reader.readline()

        async with served_over_tls(bulk, tls, write_progress_timeout=0.6) as (server, client, ends):
            for _ in range(30):
                client.resume_reading()
                await asyncio.sleep(0.001)
                client.pause_reading()
                await asyncio.sleep(0.05)
            assert not ends.done()
            client.resume_reading()
            client.write(b"thanks\n")
            assert await ends == b"thanks\n"
            assert passed(server) == {}

    run(main())


def test_what_waits_under_tls_is_found_and_counted_once(run, tls):  # noqa: F811
    async def main():
        found = []

        async def handler(reader, writer):
            writer.write(bytes(1 << 24))
            await turns(3)
            found.append(unsent(writer.transport))
            writer.abort()

        async with served_over_tls(handler, tls) as (_, _, ends):
            await ends
        # Records have their own headers.
        assert (1 << 22) < found[0] < (1 << 24) * 1.1

    run(main())


def test_a_deadline_gives_the_place_back(run):
    async def main():
        async with served(lines, idle_timeout=0.1, max_connections=1) as (server, client, ends):
            await ends
            await eventually(lambda: server.stats().connections == 0)
            assert server.stats().handler_errors == 0

    run(main())


class OurError(Exception):
    pass


async def lets_it_through(reader, writer):
    await reader.readline()


async def raises_its_own_from_it(reader, writer):
    try:
        await reader.readline()
    except TimeoutError as error:
        raise OurError from error


async def lets_it_through_a_group(reader, writer):
    async with asyncio.TaskGroup() as group:
        group.create_task(reader.readline())


async def stumbles_over_it(reader, writer):
    try:
        await reader.readline()
    except TimeoutError:
        {}["a bug"]


async def has_a_timeout_of_its_own(reader, writer):
    with contextlib.suppress(TimeoutError):
        await reader.readline()
    raise TimeoutError("of the database")


async def one_that_is_cut(handler):
    """The server's counters, when a peer of this handler was cut as idle and all is over."""
    server = await millstream.start_server(handler, "127.0.0.1", 0, idle_timeout=0.1)
    async with server:
        with socket.create_connection(server.sockets[0].getsockname()):
            await eventually(lambda: server.stats().connections == 0 and server.stats().accepted == 1)
    return server.stats()


@pytest.mark.parametrize("handler", [lets_it_through, raises_its_own_from_it, lets_it_through_a_group])
def test_a_handler_that_lets_the_timeout_through_is_no_error_but_a_passed_deadline(run, handler):
    if handler is lets_it_through_a_group and not hasattr(asyncio, "TaskGroup"):
        pytest.skip("there are no groups before 3.11")
    stats = run(one_that_is_cut(handler))
    assert run.complaints == []
    assert stats.handler_errors == 0
    assert stats.passed_deadlines["idle"] == 1


@pytest.mark.parametrize(
    ("handler", "error"), [(stumbles_over_it, KeyError), (has_a_timeout_of_its_own, TimeoutError)]
)
def test_a_handler_that_fails_otherwise_after_a_deadline_is_reported(run, handler, error):
    stats = run(one_that_is_cut(handler))
    [complaint] = run.complaints
    assert type(complaint["exception"]) is error
    assert stats.handler_errors == 1
    run.complaints.clear()


def test_a_drain_that_waits_is_told_of_the_deadline(run):
    async def main():
        async with raw_peer(write_progress_timeout=0.2, sndbuf=1 << 14) as (reader, writer, peer):
            writer.write(bytes(1 << 24))
            drains = [asyncio.ensure_future(writer.drain()) for _ in range(3)]
            for result in await asyncio.gather(*drains, return_exceptions=True):
                assert type(result) is TimeoutError
            await turns(2)

    run(main())
