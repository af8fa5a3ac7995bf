"""Puts the native streams in the place of asyncio's, and takes them out again."""

from __future__ import annotations

import asyncio
import asyncio.streams
from types import ModuleType

from . import streams

#: What was there before, by module and name.
_before: dict[tuple[ModuleType, str], object] = {}


def install() -> None:
    """Puts these classes and functions into ``asyncio`` and ``asyncio.streams``. Idempotent.

    Code that looks the names up when it runs (``asyncio.open_connection(...)``), asyncio's own functions and its
    subprocesses included, uses them from then on. Code that did ``from asyncio import StreamReader`` before keeps what it
    has: install first.
    """
    if _before:
        return
    for module in (asyncio, asyncio.streams):
        for name in streams.__all__:
            if hasattr(module, name):
                _before[module, name] = getattr(module, name)
                setattr(module, name, getattr(streams, name))


def uninstall() -> None:
    """Puts asyncio's own back. Streams that are open go on as they are. Idempotent."""
    for (module, name), value in _before.items():
        setattr(module, name, value)
    _before.clear()


def is_installed() -> bool:
    """Whether ``install()`` is in effect."""
    return bool(_before)
