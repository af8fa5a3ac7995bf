"""A client that many programs use, redis-py's asyncio one, against a real server, on these streams: ``install()`` and nothing
else. Its own tests run on them by ``make test-redis-py``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time

import millstream
import pytest

redis = pytest.importorskip("redis.asyncio")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of its own: a free port, a unix socket, nothing on disk."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server was not found, so redis-py is not tested")
    folder = tmp_path_factory.mktemp("redis")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = str(folder / "socket")
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--unixsocket", path, "--save", "", "--appendonly", "no"]
    process = subprocess.Popen([*command, "--dir", folder], stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            if os.path.exists(path) and process.poll() is None:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as ping:
                    ping.sendall(b"PING\r\n")
                    if ping.recv(100) == b"+PONG\r\n":
                        break
            time.sleep(0.05)
        else:
            pytest.fail(f"redis-server did not come up: {process.poll()}")
        yield port, path
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def installed():
    millstream.install()
    yield
    millstream.uninstall()


@pytest.fixture(params=["tcp", "unix"])
def using(request, run, server, installed):
    """Runs a test with a client on the native streams."""
    port, path = server

    def run_with(test):
        async def main():
            kind = {"port": port} if request.param == "tcp" else {"unix_socket_path": path}
            client = redis.Redis(**kind)
            try:
                await client.flushall()
                connection = await client.connection_pool.get_connection()
                assert isinstance(connection._reader, millstream.StreamReader)
                assert isinstance(connection._writer, millstream.StreamWriter)
                await client.connection_pool.release(connection)
                await test(client)
            finally:
                await client.aclose()

        run(main())

    return run_with


def test_values_come_back(using):
    async def test(client):
        for number in range(200):
            assert await client.set(f"key {number}", f"value {number}")
        for number in range(200):
            assert await client.get(f"key {number}") == b"value %d" % number
        assert await client.get("nothing") is None
        assert sorted(await client.keys("key 1[0-9]")) == [b"key %d" % number for number in range(10, 20)]
        with pytest.raises(redis.ResponseError):
            await client.lpush("key 1", "not a list")
        assert await client.incr("counter") == 1

    using(test)


def test_pipelines_of_a_thousand_commands_are_answered_in_order(using):
    async def test(client):
        for transaction in (False, True):
            async with client.pipeline(transaction=transaction) as pipe:
                for number in range(1000):
                    pipe.set(f"key {number}", number)
                assert await pipe.execute() == [True] * 1000
                for number in range(1000):
                    pipe.get(f"key {number}")
                assert await pipe.execute() == [b"%d" % number for number in range(1000)]

    using(test)


def test_many_tasks_share_a_pool_of_connections(using):
    async def test(client):
        async def work(number):
            for turn in range(10):
                await client.hset(f"hash {number}", f"field {turn}", turn)
            return await client.hgetall(f"hash {number}")

        for result in await asyncio.gather(*(work(number) for number in range(30))):
            assert result == {b"field %d" % turn: b"%d" % turn for turn in range(10)}

    using(test)


def test_what_is_published_reaches_every_subscriber_in_order(using):
    async def test(client):
        async def listen(pubsub):
            heard = []
            async for message in pubsub.listen():
                if message["type"] in ("message", "pmessage"):
                    heard.append(message["data"])
                    if message["data"] == b"the end":
                        return heard

        async with client.pubsub() as first, client.pubsub() as second:
            await first.subscribe("news")
            await second.psubscribe("n*")
            tasks = [asyncio.ensure_future(listen(pubsub)) for pubsub in (first, second)]
            await asyncio.sleep(0.05)
            for number in range(200):
                assert await client.publish("news", number) == 2
            await client.publish("news", "the end")
            for heard in await asyncio.wait_for(asyncio.gather(*tasks), 10):
                assert heard == [b"%d" % number for number in range(200)] + [b"the end"]
            assert await first.get_message(timeout=0.02) is None

    using(test)


def test_a_blocking_pop_ends_by_its_timeout_by_a_push_or_by_cancellation(using):
    async def test(client):
        async def blocked(count=1):
            while (await client.info("clients"))["blocked_clients"] != count:
                await asyncio.sleep(0.001)

        assert await client.blpop(["queue"], timeout=0.05) is None
        waits = asyncio.ensure_future(client.blpop(["queue"], timeout=10))
        await blocked()
        await client.rpush("queue", "pushed")
        assert await asyncio.wait_for(waits, 5) == (b"queue", b"pushed")
        for _ in range(10):
            waits = asyncio.ensure_future(client.blpop(["queue"], timeout=10))
            await blocked()
            # Not while redis-py's wait_for() around its send is done and has yet to return: before 3.12 that swallows a
            # cancellation (gh-86296), with asyncio's own streams as well.
            for _ in range(5):
                await asyncio.sleep(0)
            waits.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waits
            if sys.version_info >= (3, 12):
                # Before, that happens within its connect as well, a few times in a thousand.
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(client.brpop(["queue"], timeout=10), 0.01)
            # The connection that was given up answers nobody else's question.
            assert await client.echo("still right") == b"still right"
            await blocked(0)
        await client.delete("queue")
        assert await client.ping()

    using(test)


def test_a_value_of_five_megabytes_comes_back_whole(using):
    async def test(client):
        value = os.urandom(5_000_000)
        assert await client.set("large", value)
        assert await client.get("large") == value
        assert await client.strlen("large") == len(value)
        both = await asyncio.gather(client.get("large"), client.get("large"), client.ping())
        assert both == [value, value, True]

    using(test)


def test_a_server_that_kills_the_connection_is_connected_to_again(using):
    async def test(client):
        async with client.client() as one:
            number = await one.client_id()
            assert await client.client_kill_filter(_id=number) == 1
            await asyncio.sleep(0.02)
        assert await client.ping()
        assert await client.set("after", "it") and await client.get("after") == b"it"

    using(test)
