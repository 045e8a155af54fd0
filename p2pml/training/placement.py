"""Which peers hold each logical client's shard, and who of them trains it.

Every shard goes to at least two peers where there are two, so that a death loses nothing. The placement
moves as little as it can when peers come and go: what a peer has downloaded once, it is given again.
"""

from __future__ import annotations

from collections.abc import Sequence


class Owned:
    """Each client's data is its owner's and stays there: nobody holds it for another.

    Args:
        owners: of client 0, 1, …
    """

    bound = True

    def __init__(self, owners: Sequence[str]) -> None:
        self._owners = tuple(owners)

    def update(self, peers: Sequence[str]) -> None:
        """Nothing moves."""

    def holders(self, client: int) -> tuple[str, ...]:
        """The client's owner alone."""
        return (self._owners[client],)

    def held_by(self, peer: str) -> tuple[int, ...]:
        """The clients whose data the peer owns."""
        return tuple(client for client, owner in enumerate(self._owners) if owner == peer)


class Placement:
    """The holders of every client.

    Args:
        clients: how many logical clients there are, numbered from 0.
        copies: how many peers shall hold each shard.
    """

    bound = False

    def __init__(self, clients: int, copies: int = 2) -> None:
        self._clients = range(clients)
        self._copies = copies
        self._holders: dict[int, list[str]] = {client: [] for client in self._clients}
        self._ever: dict[int, set[str]] = {client: set() for client in self._clients}

    def update(self, peers: Sequence[str]) -> None:
        """Place the shards on exactly these peers; the same history gives the same placement everywhere."""
        present = set(peers)
        for client in self._clients:
            self._holders[client] = [peer for peer in self._holders[client] if peer in present]
        if not peers:
            return
        for client in self._clients:
            if not self._holders[client]:
                self._lead(
                    client, min(peers, key=lambda peer: (self._led(peer), *self._preference(client, peer)))
                )
        self._balance(peers)
        for client in self._clients:
            missing = min(self._copies, len(peers)) - len(self._holders[client])
            others = [peer for peer in peers if peer not in self._holders[client]]
            for _ in range(missing):
                chosen = min(others, key=lambda peer: (*self._preference(client, peer), self._held(peer)))
                others.remove(chosen)
                self._hold(client, chosen)

    def holders(self, client: int) -> tuple[str, ...]:
        """The client's trainer, then who takes over from it."""
        return tuple(self._holders[client])

    def held_by(self, peer: str) -> tuple[int, ...]:
        """The clients whose shards the peer holds: those it trains first."""
        mine = [client for client in self._clients if peer in self._holders[client]]
        return tuple(sorted(mine, key=lambda client: (self._holders[client][0] != peer, client)))

    def _balance(self, peers: Sequence[str]) -> None:
        """Even out how many clients each peer trains."""
        while True:
            most = max(peers, key=self._led)
            least = min(peers, key=self._led)
            if self._led(most) - self._led(least) < 2:
                return
            led = [client for client in self._clients if self._holders[client][0] == most]
            client = min(led, key=lambda client: (*self._preference(client, least), -client))
            self._holders[client] = [peer for peer in self._holders[client] if peer not in (least, most)]
            self._holders[client].insert(0, most)
            self._lead(client, least)
            del self._holders[client][self._copies :]

    def _lead(self, client: int, peer: str) -> None:
        self._holders[client].insert(0, peer)
        self._ever[client].add(peer)

    def _hold(self, client: int, peer: str) -> None:
        self._holders[client].append(peer)
        self._ever[client].add(peer)

    def _preference(self, client: int, peer: str) -> tuple[bool, bool]:
        """Lower is better: who holds the shard, then who once got it."""
        return peer not in self._holders[client], peer not in self._ever[client]

    def _led(self, peer: str) -> int:
        return sum(1 for client in self._clients if self._holders[client][:1] == [peer])

    def _held(self, peer: str) -> int:
        return sum(1 for holders in self._holders.values() if peer in holders)
