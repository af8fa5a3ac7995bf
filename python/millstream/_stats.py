"""What a server did so far and is doing now, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ServerStats:
    """A snapshot of a server's counters, made by ``server.stats()``. All are exact; those that a server cannot know whose
    connections are accepted by the loop are 0 there, and said so."""

    #: Connections that were let in. Those that were refused are not among them. (Where the loop accepts, those whose TLS
    #: handshake has succeeded.)
    accepted: int
    #: Connections now: those whose handler or handshake runs, and those that are closing.
    connections: int
    #: The most connections that there were at once.
    peak_connections: int
    #: Connections refused because there were ``max_connections``.
    refused_full: int
    #: Connections refused because of ``max_connections_per_peer``.
    refused_per_peer: int
    #: TLS handshakes that run now. (0 where the loop accepts.)
    handshakes: int
    #: TLS handshakes that failed. One that this server ended, because it stops, did not. (0 where the loop accepts.)
    handshakes_failed: int
    #: Handlers that ended with an exception. One that was cancelled did not, nor did one with the ``TimeoutError`` of a deadline
    #: that its peer let pass, or with what it raised from that: such a one is among ``passed_deadlines`` alone.
    handler_errors: int
    #: Connections that were cut for a deadline, by its name: "item", "idle", "receive_rate", "write_progress".
    passed_deadlines: Mapping[str, int] = field(hash=False)
    #: Attempts to accept that failed, be it the peer's doing or for lack of descriptors or memory. (0 where the loop accepts.)
    accept_errors: int
    #: Pauses in accepting for lack of descriptors or memory. (0 where the loop accepts.)
    accept_pauses: int


class Counters:
    """The counters behind it."""

    def __init__(self) -> None:
        self.accepted = 0
        self.peak_connections = 0
        self.refused_full = 0
        self.refused_per_peer = 0
        self.handshakes = 0
        self.handshakes_failed = 0
        self.handler_errors = 0
        self.passed_deadlines = {"item": 0, "idle": 0, "receive_rate": 0, "write_progress": 0}
        self.accept_errors = 0
        self.accept_pauses = 0

    def snapshot(self, connections: int) -> ServerStats:
        counted = {**vars(self), "passed_deadlines": dict(self.passed_deadlines)}
        return ServerStats(connections=connections, **counted)
