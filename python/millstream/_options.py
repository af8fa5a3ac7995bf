"""The options that asyncio's functions do not have: taken out of the keywords before the loop sees them, and checked."""

from __future__ import annotations

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
        options = cls(**taken, deadlines=deadlines)
        for name in ("max_connections", "max_connections_per_peer"):
            most = getattr(options, name)
            if most is not None and most < 1:
                raise ValueError(f"{name} is {most}, and has to be at least 1")
        if options.when_full not in ("wait", "refuse"):
            raise ValueError(f"when_full is {options.when_full!r}, and has to be 'wait' or 'refuse'")
        if not isinstance(options.farewell, bytes):
            raise TypeError(f"farewell has to be bytes, not {type(options.farewell).__name__!r}")
        return options


def take_deadlines(keywords: dict[str, Any]) -> dict[str, Any]:
    """Takes the deadlines out of the keywords, those that are on, and checks them."""
    deadlines = {name: keywords.pop(name) for name in DEADLINES if name in keywords}
    deadlines = {name: value for name, value in deadlines.items() if value is not None}
    if deadlines:
        _core.Watch(0.0, **deadlines)
    return deadlines


_SERVER = ("max_connections", "max_connections_per_peer", "when_full", "farewell", "end_idle_on_stop")
