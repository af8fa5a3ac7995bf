"""TLS from the start and by ``start_tls``: what has arrived before the upgrade belongs to the handshake, and is never read as if
it had been decrypted (T1, T2, T8 of the fault table)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
import time

import millstream
import pytest
import trustme


@pytest.fixture(scope="module")
def tls():
    """A server's and a client's context that trust each other."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


@pytest.fixture
def broken_handshakes(run):
    """What loops say of a handshake that failed is no complaint."""
    yield
    run.complaints.clear()


async def echo(reader, writer):
    async with writer:
        async for line in reader:
            writer.write(line)
            await writer.drain()


@contextlib.asynccontextmanager
async def serving(handler, **keywords):
    """The address of a server."""
    server = await millstream.start_server(handler, "127.0.0.1", 0, **keywords)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
        server.abort_clients()
        await server.wait_closed()


def test_tls_is_passed_through_to_the_loop(run, tls):
    async def main():
        async with serving(echo, ssl=tls[0]) as address:
            reader, writer = await millstream.open_connection(*address, ssl=tls[1], server_hostname="localhost")
            async with writer:
                assert writer.get_extra_info("ssl_object").version().startswith("TLS")
                assert not writer.can_write_eof()
                for number in range(1000):
                    writer.write(b"line %d\n" % number)
                for number in range(1000):
                    assert await reader.readline() == b"line %d\n" % number

    run(main())


def test_much_goes_over_tls_both_ways_with_pauses(run, tls):
    async def main():
        async def handler(reader, writer):
            async with writer:
                writer.write(await reader.readexactly(3_000_000))

        async with serving(handler, ssl=tls[0], limit=1000) as address:
            reader, writer = await millstream.open_connection(
                *address, ssl=tls[1], server_hostname="localhost", limit=1000
            )
            async with writer:
                data = bytes(range(250)) * 12_000
                writer.write(data)
                assert await reader.readexactly(3_000_000) == data

    run(main())


def test_both_sides_upgrade_and_go_on_with_the_same_reader(run, tls):
    async def main():
        async def handler(reader, writer):
            assert await reader.readline() == b"STARTTLS\n"
            writer.write(b"first ")
            writer.write(b"ready\n")
            before = reader
            await writer.start_tls(tls[0])
            assert writer.get_extra_info("sslcontext") is tls[0]
            assert not writer.can_write_eof()
            await echo(before, writer)

        async with serving(handler) as address:
            reader, writer = await millstream.open_connection(*address)
            writer.write(b"START")
            writer.write(b"TLS\n")
            assert await reader.readline() == b"first ready\n"
            await writer.start_tls(tls[1], server_hostname="localhost")
            assert reader._transport is writer.transport
            writer.write(b"secret\n")
            assert await reader.readline() == b"secret\n"
            await writer.aclose()

    run(main())


@pytest.mark.parametrize("times", range(3))
def test_plaintext_behind_starttls_is_never_read_by_the_server(run, tls, broken_handshakes, times):
    async def main():
        read = []

        async def handler(reader, writer):
            assert await reader.readline() == b"STARTTLS\n"
            with contextlib.suppress(OSError):
                async with writer:
                    writer.write(b"ready\n")
                    await writer.start_tls(tls[0])
                    read.append(await reader.readline())
            read.append(bytes(reader._buffer))

        async with serving(handler) as address:
            reader, writer = await millstream.open_connection(*address)
            writer.write(b"STARTTLS\n" + b"injected\n" * times)
            assert await reader.readline() == b"ready\n"
            try:
                await writer.start_tls(tls[1], server_hostname="localhost")
                writer.write(b"secret\n")
                await reader.read()
            except OSError:
                assert times > 0
            await writer.aclose()
            while b"" not in read:
                await asyncio.sleep(0.001)
        assert read == ([b"secret\n", b""] if times == 0 else [b""])

    run(main())


@pytest.mark.parametrize("times", range(3))
def test_plaintext_behind_the_answer_is_never_read_by_the_client(run, tls, broken_handshakes, times):
    async def main():
        async def handler(reader, writer):
            await reader.readline()
            writer.write(b"ready\n" + b"injected\n" * times)
            with contextlib.suppress(OSError):
                async with writer:
                    await writer.start_tls(tls[0])
                    writer.write(b"secret\n")
                    await reader.read()

        async with serving(handler) as address:
            reader, writer = await millstream.open_connection(*address)
            writer.write(b"STARTTLS\n")
            assert await reader.readline() == b"ready\n"
            if times == 0:
                await writer.start_tls(tls[1], server_hostname="localhost")
                assert await reader.readline() == b"secret\n"
            else:
                with pytest.raises(OSError):
                    await writer.start_tls(tls[1], server_hostname="localhost")
                assert not reader._buffer
                with contextlib.suppress(OSError):
                    assert await asyncio.wait_for(reader.read(), 5) == b""
            await writer.aclose()

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio's writers have no start_tls yet")
def test_asyncios_own_client_reads_injected_plaintext_as_if_it_had_been_decrypted(run, tls):
    async def main():
        async def handler(reader, writer):
            await reader.readline()
            writer.transport.write(b"ready\ninjected\n")
            await writer.start_tls(tls[0])
            writer.write(b"secret\n")
            await reader.read()
            writer.close()

        async with serving(handler) as address:
            reader, writer = await asyncio.open_connection(*address)
            assert not isinstance(reader, millstream.StreamReader)
            writer.write(b"STARTTLS\n")
            assert await reader.readline() == b"ready\n"
            await writer.start_tls(tls[1], server_hostname="localhost")
            line = await reader.readline()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        if line == b"secret\n":
            pytest.skip("this version no longer does")
        assert line == b"injected\n"

    run(main())


def talk(address, context, cut):
    """A client that glues its ClientHello to its command: all of it, or the first ``cut`` bytes. Returns what came back."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")

    def attempt(call, *args):
        while True:
            try:
                return call(*args)
            except ssl.SSLWantReadError:
                peer.sendall(outgoing.read())
                incoming.write(peer.recv(65536))

    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = outgoing.read()
    with socket.create_connection(address, timeout=20) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.sendall(b"STARTTLS\n" + hello[:cut])
        if hello[cut:]:
            # So that the first part is surely behind the command in the reader's buffer.
            time.sleep(0.05)
            peer.sendall(hello[cut:])
        attempt(tls.do_handshake)
        tls.write(b"secret\n")
        return attempt(tls.read)


@pytest.mark.parametrize("cut", [1, 5, 100, 100_000])
def test_a_client_hello_behind_starttls_is_part_of_the_handshake(run, tls, cut):
    async def main():
        async def handler(reader, writer):
            assert await reader.readline() == b"STARTTLS\n"
            await writer.start_tls(tls[0])
            await echo(reader, writer)

        async with serving(handler) as address:
            assert await asyncio.to_thread(talk, address, tls[1], cut) == b"secret\n"

    run(main())


def test_a_client_hello_that_waited_in_a_paused_reader_is_part_of_the_handshake(run, tls):
    async def main():
        async def handler(reader, writer):
            await asyncio.sleep(0.02)
            assert reader._paused
            assert await reader.readexactly(9) == b"STARTTLS\n"
            await writer.start_tls(tls[0])
            await echo(reader, writer)

        async with serving(handler, limit=16) as address:
            assert await asyncio.to_thread(talk, address, tls[1], 100_000) == b"secret\n"

    run(main())


def test_a_refused_certificate_leaves_nothing_to_read(run, tls, broken_handshakes):
    async def main():
        async def handler(reader, writer):
            await reader.readline()
            with contextlib.suppress(OSError):
                async with writer:
                    await writer.start_tls(tls[0])
                    await reader.read()

        async with serving(handler) as address:
            reader, writer = await millstream.open_connection(*address)
            writer.write(b"STARTTLS\n")
            with pytest.raises(ssl.SSLCertVerificationError):
                await writer.start_tls(ssl.create_default_context(), server_hostname="localhost")
            assert writer.is_closing()
            with contextlib.suppress(OSError):
                assert await asyncio.wait_for(reader.read(), 5) == b""
            await writer.aclose()

    run(main())


def test_a_context_that_is_none_is_refused_and_what_had_arrived_stays(run):
    async def main():
        async def handler(reader, writer):
            writer.write(b"line\nmore\n")
            await reader.read()
            writer.close()

        async with serving(handler) as address:
            reader, writer = await millstream.open_connection(*address)
            assert await reader.readline() == b"line\n"
            with pytest.raises(TypeError, match="sslcontext"):
                await writer.start_tls("no context")
            assert await reader.readline() == b"more\n"
            await writer.aclose()

    run(main())


def test_the_timeouts_of_handshake_and_shutdown_are_passed_on(run, tls, broken_handshakes):
    async def main():
        async def silent(reader, writer):
            await reader.read()
            writer.close()

        async with serving(silent) as address:
            reader, writer = await millstream.open_connection(*address)
            with pytest.raises(OSError):
                await writer.start_tls(tls[1], server_hostname="localhost", ssl_handshake_timeout=0.05)
            await writer.aclose(1)

    run(main())
