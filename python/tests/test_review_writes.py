"""What a review of the border found, each as a promise: nobody's bytes go astray, and whoever writes is told what failed."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings

import by_hand
import millstream
import pytest


def test_two_transports_that_receive_in_the_background_do_not_get_each_others_bytes(run):
    async def main():
        pairs = [by_hand.made(run.loop) for _ in range(2)]
        views = [protocol.get_buffer(-1) for _, _, protocol, _ in pairs]
        views[1][:7] = b"secret\n"
        pairs[1][2].buffer_updated(7)
        views[0][:6] = b"plain\n"
        pairs[0][2].buffer_updated(6)
        assert [await reader.readline() for reader, *_ in pairs] == [b"plain\n", b"secret\n"]
        for *_, transport in pairs:
            transport.closing = True

    run(main())


def test_a_transport_that_releases_its_view_harms_no_other(run):
    async def main():
        _, _, protocol, transport = by_hand.made(run.loop)
        other, _, others, others_transport = by_hand.made(run.loop)
        with protocol.get_buffer(-1) as view:
            view[:2] = b"a\n"
        protocol.buffer_updated(2)
        by_hand.receive(others, b"b\n")
        assert await other.readline() == b"b\n"
        transport.closing = others_transport.closing = True

    run(main())


def test_an_exception_that_someone_changed_carries_no_other_result(run):
    """A finalizer in it that reads must not replace what it was to carry."""

    async def main():
        reader, other = millstream.StreamReader(loop=run.loop), millstream.StreamReader(loop=run.loop)
        reader.feed_data(b"0\n1\nmine\n")
        other.feed_data(b"of another connection\n")

        class Evil:
            def __del__(self):
                try:
                    other.readline().__await__().__next__()
                except StopIteration as stop:
                    self.seen = stop.value

        def step():
            try:
                reader.readline().__next__()
            except StopIteration as stop:
                stop.value, stop.note, stop.__cause__ = Evil(), "left here", ValueError()
                stop.__traceback__ = stop.__context__ = None

        assert await reader.readline() == b"0\n"
        step()
        assert await reader.readline() == b"mine\n"
        with pytest.raises(StopIteration) as caught:
            reader.feed_data(b"x\n")
            reader.readline().__next__()
        assert not hasattr(caught.value, "note") and caught.value.__cause__ is None

    run(main())


class Refusing(by_hand.Transport):
    """Its second write fails."""

    def write(self, data):
        self.count = getattr(self, "count", 0) + 1
        if self.count == 2:
            raise ValueError("second")
        super().write(data)


def refusing(loop):
    reader = millstream.StreamReader(loop=loop)
    protocol = millstream.StreamReaderProtocol(reader, loop=loop)
    transport = Refusing()
    protocol.connection_made(transport)
    return reader, millstream.StreamWriter(transport, protocol, reader, loop), transport


@pytest.mark.parametrize("how", ["write", "drain", "flush"])
def test_what_fails_at_the_end_of_a_turn_is_told_once_by_the_next_call(run, how):
    async def main():
        reader, writer, transport = refusing(run.loop)
        writer.write(b"1")
        writer.write(b"2")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(ValueError, match="second"):
            if how == "write":
                writer.write(b"3")
            elif how == "drain":
                await writer.drain()
            else:
                writer.flush()
        writer.write(b"4")
        await writer.drain()
        writer.flush()
        assert transport.sent == [b"1", b"4"]
        transport.closing = True

    run(main())


@pytest.mark.parametrize("end", ["close", "abort"])
def test_a_writer_closes_even_if_what_is_left_cannot_be_sent(run, end):
    async def main():
        reader, writer, transport = refusing(run.loop)
        writer.write(b"1")
        writer.write(b"2")
        getattr(writer, end)()
        assert transport.closing

    run(main())


@pytest.mark.parametrize("how", ["in the loop's last turn", "outside of a running loop"])
def test_what_was_written_in_a_loops_last_turn_leaves_when_the_writer_goes(how):
    loop = asyncio.new_event_loop()
    ours, peers = socket.socketpair()
    peers.settimeout(5)
    reader, writer = loop.run_until_complete(millstream.open_unix_connection(sock=ours))

    def write():
        writer.write(b"first;")
        writer.write(b"second;")
        loop.stop()

    if how == "outside of a running loop":
        write()
    else:
        loop.call_soon(write)
        loop.run_forever()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        loop.close()
        del reader, writer, write
        gc.collect()
        assert peers.recv(100) == b"first;second;"
    peers.close()


@pytest.mark.parametrize("then", ["close", "write"])
def test_a_transport_that_was_handed_out_is_not_overtaken(run, then):
    async def main():
        reader, writer, protocol, transport = by_hand.made(run.loop)
        held = writer.transport
        writer.write(b"1;")
        writer.write(b"2;")
        if then == "write":
            held.write(b"3;")
        assert transport.sent == [b"1;", b"2;"] + [b"3;"] * (then == "write")
        held.close()

    run(main())


def test_what_was_written_before_the_transport_was_replaced_goes_to_the_old_one(run):
    async def main():
        reader, writer, protocol, transport = by_hand.made(run.loop)
        new = by_hand.Transport()
        writer.write(b"a")
        writer.write(b"b")
        writer._transport = new
        writer.write(b"c")
        writer.flush()
        assert (transport.sent, new.sent) == ([b"a", b"b"], [b"c"])
        transport.closing = new.closing = True

    run(main())


def test_a_producer_stops_at_a_small_high_mark_also_within_one_turn(run):
    class Small(by_hand.Transport):
        def write(self, data):
            super().write(data)
            if sum(map(len, self.sent)) > 100 and not self.protocol._paused:
                self.protocol.pause_writing()

        def get_write_buffer_limits(self):
            return 20, 100

    async def main():
        reader = millstream.StreamReader(loop=run.loop)
        protocol = millstream.StreamReaderProtocol(reader, loop=run.loop)
        transport = Small()
        transport.protocol = protocol
        protocol.connection_made(transport)
        writer = millstream.StreamWriter(transport, protocol, reader, run.loop)
        accepted = 0

        async def produce():
            nonlocal accepted
            while True:
                writer.write(b"x" * 30)
                accepted += 30
                await writer.drain()

        task = asyncio.ensure_future(produce())
        await asyncio.sleep(0.02)
        task.cancel()
        # What is over the mark, and what was gathered up to it.
        assert accepted <= 240
        transport.closing = True

    run(main())
