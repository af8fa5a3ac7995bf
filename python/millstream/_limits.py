"""Who is let in: the cap of connections and the cap for each peer, and the permits that count them."""

from __future__ import annotations

import ipaddress


class Admission:
    """The caps in force and what they count, shared by all listeners of a server."""

    def __init__(self, options):
        self._most = options.max_connections
        self._most_per_peer = options.max_connections_per_peer
        self._waits_when_full = options.when_full == "wait"
        self._taken = 0
        #: Connections of each peer that has any; nobody else is in it.
        self.peers = {}
        #: Called when a place is free again; each once.
        self._waiting = []

    def is_full(self):
        return self._most is not None and self._taken >= self._most

    def holds_back(self):
        """Whether nobody is to be accepted before a place is free."""
        return self._waits_when_full and self.is_full()

    def call_when_free(self, callback):
        self._waiting.append(callback)

    def admit(self, address):
        """A permit for the peer of this address, to be released once; or the name of the counter of what forbids it."""
        if self.is_full():
            return "refused_full"
        peer = None if self._most_per_peer is None else peer_of(address)
        if peer is not None:
            count = self.peers.get(peer, 0)
            if count >= self._most_per_peer:
                return "refused_per_peer"
            self.peers[peer] = count + 1
        self._taken += 1
        return Permit(self, peer)

    def _release(self, peer):
        self._taken -= 1
        if peer is not None:
            self.peers[peer] -= 1
            if not self.peers[peer]:
                del self.peers[peer]
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            callback()


class Permit:
    """One connection's leave to be there."""

    __slots__ = ("_admission", "_peer")

    def __init__(self, admission, peer):
        self._admission = admission
        self._peer = peer

    def release(self):
        admission, self._admission = self._admission, None
        if admission is not None:
            admission._release(self._peer)


def peer_of(address):
    """Whom a connection is counted for: an IPv4 address, also where it comes mapped into IPv6, or an IPv6 network of 64
    bits, which is what one host usually has to choose its addresses from. Nobody, for a Unix socket."""
    if not isinstance(address, tuple):
        return None
    ip = ipaddress.ip_address(address[0].partition("%")[0])
    if ip.version == 4:
        return ip
    return ip.ipv4_mapped or int(ip) >> 64
