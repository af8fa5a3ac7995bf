"""The reading half of a connection: constructor, messages, the wait that subclasses use.

What is done for each read is native (``_core.ReaderBase``).
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import events, format_helpers

from . import _core
from ._stopping import stopping_of

_DEFAULT_LIMIT = 2**16


class StreamReader(_core.ReaderBase):
    """The reading half of a connection. Reads are bounded by the limit and may be cancelled at any time: nothing is
    consumed before a read returns."""

    _source_traceback = None

    def __init__(self, limit=_DEFAULT_LIMIT, loop=None):
        if limit <= 0:
            raise ValueError("Limit cannot be <= 0")
        if loop is None:
            loop = events.get_event_loop()
        # Whatever compares with numbers has been a limit in asyncio: infinity, for one.
        self._setup(int(min(limit, sys.maxsize)), loop, _future_args(loop))
        if loop.get_debug():
            self._source_traceback = format_helpers.extract_stack(sys._getframe(1))

    def __repr__(self):
        info = ["StreamReader"]
        if self.buffered:
            info.append(f"{self.buffered} bytes")
        if self._eof:
            info.append("eof")
        if self._limit != _DEFAULT_LIMIT:
            info.append(f"limit={self._limit}")
        if self._waiter:
            info.append(f"waiter={self._waiter!r}")
        if self._exception:
            info.append(f"exception={self._exception!r}")
        if self._transport:
            info.append(f"transport={self._transport!r}")
        if self._paused:
            info.append("paused")
        return "<{}>".format(" ".join(info))

    def stopping(self):
        """A token that tells when the server which accepted this connection is being stopped."""
        return stopping_of(self._served)

    async def _wait_for_data(self, func_name):
        """Wait until feed_data() or feed_eof() is called, for subclasses that read the buffer themselves."""
        if self._waiter is not None:
            raise RuntimeError(
                f"{func_name}() called while another coroutine is already waiting for incoming data"
            )
        assert not self._eof, "_wait_for_data after EOF"
        self._raise_exception()
        buffered = self.buffered
        waiter = self._waiter = self._loop.create_future()
        self._maybe_resume_transport(True)
        try:
            await waiter
        finally:
            self._waiter = None
        if self.buffered <= buffered:
            # What has arrived may be enough: then the loss is told to who waits next.
            self._raise_exception()

    def _raise_exception(self):
        exc = _core.ReaderBase.exception(self)
        if exc is not None:
            raise exc


def _future_args(loop):
    """The arguments for making a future directly, where ``loop.create_future()`` does nothing else."""
    make = getattr(type(loop), "create_future", None)
    uvloop = sys.modules.get("uvloop")
    if make is asyncio.BaseEventLoop.create_future or (uvloop is not None and make is uvloop.Loop.create_future):
        return {"loop": loop}
    return None
