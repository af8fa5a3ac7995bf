"""The options that asyncio's functions do not have: taken out of the keywords before the loop sees them, and checked."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field
from typing import Any

from . import _core

#: What says how long a peer may take; see ``_deadlines``.
DEADLINES = ("item_deadline", "idle_timeout", "min_receive_rate", "write_progress_timeout")


@dataclass(frozen=True)
class ServerOptions:
    """What a server was given beyond asyncio's own keywords."""

    max_connections: int | None = None
    max_connections_per_peer: int | None = None
    when_full: str = "wait"
    farewell: bytes = b""
    end_idle_on_stop: bool = True
    deadlines: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def take(cls, keywords: dict[str, Any]) -> ServerOptions | None:
        """Takes them out of the keywords; ``None`` if there are none."""
        taken = {name: keywords.pop(name) for name in _SERVER if name in keywords}
        deadlines = take_deadlines(keywords)
        if not taken and not deadlines:
            return None
        for name in ("max_connections", "max_connections_per_peer"):
            if taken.get(name) is not None:
                taken[name] = _whole(name, taken[name], "a whole number, at least 1")
                if taken[name] < 1:
                    raise ValueError(f"{name} is {taken[name]}, and has to be at least 1")
        options = cls(**taken, deadlines=deadlines)
        if not isinstance(options.end_idle_on_stop, bool):
            raise TypeError(f"end_idle_on_stop is {options.end_idle_on_stop!r}, and has to be True or False")
        if options.when_full not in ("wait", "refuse"):
            raise ValueError(f"when_full is {options.when_full!r}, and has to be 'wait' or 'refuse'")
        if not isinstance(options.farewell, bytes):
            raise TypeError(f"farewell has to be bytes, not {type(options.farewell).__name__!r}")
        return options


def take_deadlines(keywords: dict[str, Any]) -> dict[str, Any]:
    """Takes the deadlines out of the keywords, those that are on, and checks them."""
    deadlines = {name: keywords.pop(name) for name in DEADLINES if name in keywords}
    deadlines = {name: value for name, value in deadlines.items() if value is not None}
    for name, value in deadlines.items():
        if name == "min_receive_rate":
            deadlines[name] = _rate(name, value)
        else:
            deadlines[name] = _seconds(name, value)
    if deadlines:
        _core.Watch(0.0, **deadlines)
    return deadlines


def _whole(name: str, value: Any, wanted: str) -> int:
    if not isinstance(value, bool):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise TypeError(f"{name} is {value!r}, and has to be {wanted}")


def _seconds(name: str, value: Any) -> float:
    is_number = hasattr(type(value), "__float__") or hasattr(type(value), "__index__")
    if isinstance(value, bool) or not is_number:
        raise TypeError(f"{name} is {value!r}, and has to be a number of seconds")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not 0 < seconds <= _MOST_SECONDS:
        raise ValueError(f"{name} is {value!r}, and has to be more than 0 and at most {_MOST_SECONDS} seconds")
    return seconds


def _rate(name: str, value: Any) -> tuple[int, float]:
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        bytes_per_second, seconds = value
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {value!r}, and has to be a pair: bytes per second, seconds") from None
    whole = _whole(f"the first of {name}", bytes_per_second, "a whole number of bytes per second, at least 1")
    if not 0 < whole < 1 << 64:
        raise ValueError(f"the first of {name} is {whole}, and has to be at least 1 byte per second, and less than 2**64")
    return whole, _seconds(f"the second of {name}", seconds)


#: Three centuries, with which no clock's numbers overflow.
_MOST_SECONDS = 10**10

_SERVER = ("max_connections", "max_connections_per_peer", "when_full", "farewell", "end_idle_on_stop")
