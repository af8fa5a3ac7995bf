"""What the native half has to know of asyncio's own socket transport before it sends past the transport's ``write``.

That is written in Python, and costs eight times its send. The native half does the same in less: asks whether the
connection is open and nothing waits in the transport, and sends.
"""

from __future__ import annotations

from asyncio import selector_events

from . import _core

#: Everything that ``write`` uses, from CPython 3.10 to 3.13. A release in which it does something else is left alone.
_NAMES = frozenset(
    """isinstance bytes bytearray memoryview TypeError type __name__ _eof RuntimeError _empty_waiter _conn_lost constants
    LOG_THRESHOLD_FOR_CONNLOST_WRITES logger warning _buffer _sock send BlockingIOError InterruptedError SystemExit
    KeyboardInterrupt BaseException _fatal_error _loop _add_writer _sock_fd _write_ready extend append
    _maybe_pause_protocol""".split()
)


def learn():
    """Tells the native half of the transport, if it is as CPython made it: neither newer than what is known here, nor wrapped
    by someone who wants to see what is written."""
    try:
        transport = selector_events._SelectorSocketTransport
        write = transport.write
        is_known = write.__globals__ is vars(selector_events) and _NAMES.issuperset(write.__code__.co_names)
    except AttributeError:
        return False
    if is_known:
        _core.know_transport(transport, write, _failed)
    return is_known


def _failed(transport, exc):
    """As ``write`` does with what the socket has raised."""
    try:
        raise exc
    except BaseException:  # noqa: BLE001 - the transport reports it to the protocol
        transport._fatal_error(exc, "Fatal write error on socket transport")
