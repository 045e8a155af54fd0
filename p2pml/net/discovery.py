"""Who has which dataset: announcements over gossip, and questions to the peers that are connected.

Each node announces the public datasets of which it holds pieces; the provider is whoever signed the gossip
message, so nobody can announce for somebody else. What gossip lost or a newcomer missed is asked for directly
over `/p2pml/meta/1.0.0`: FIND gives the datasets of a name or info-hash with their providers, METAINFO the
`.torrent` file, which is believed only when its info-hash is the one asked for. Private datasets are never
announced, and exist only for the peers that their owner allows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import trio

from p2pml.net import wire
from p2pml.net.errors import Malformed, RemoteError
from p2pml.net.gossip import Gossip, Verdict
from p2pml.net.host import Host
from p2pml.net.provider_table import Listing, ProviderTable
from p2pml.net.raw_host import is_peer_id
from torrent import errors as torrent_errors
from torrent.metainfo import MAX_METAINFO_BYTES, Metainfo

log = logging.getLogger(__name__)

TOPIC = "datasets"
PROTOCOL = "/p2pml/meta/1.0.0"

ANNOUNCE_S = 30.0
PER_MESSAGE = 64
MAX_FOUND = 16
MAX_PROVIDERS_TOLD = 32
ASK_PEERS = 24
ASK_DEADLINE_S = 5.0
ASK_GRACE_S = 0.4
"""After the first answer the others get this long, so that providers known elsewhere and clashes are seen."""
METAINFO_DEADLINE_S = 30.0
_ANSWER_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Holding:
    """A dataset of this node, as others may learn of it.

    Args:
        listing: name, info-hash and size.
        metainfo: the `.torrent` file.
        pieces: how many verified pieces are here; with none the node is no provider.
        allowed: the only peers that may know of it; None when it is public.
        sources: other peers that are known to hold pieces.
    """

    listing: Listing
    metainfo: bytes
    pieces: int
    allowed: frozenset[str] | None = None
    sources: tuple[str, ...] = ()

    def visible_to(self, peer: str) -> bool:
        return self.allowed is None or peer in self.allowed


@dataclass(frozen=True, slots=True)
class Found:
    """A dataset that somebody has: `providers` hold pieces of it, `informants` know its metainfo."""

    listing: Listing
    providers: tuple[str, ...]
    informants: tuple[str, ...]


class Discovery:
    """Announces this node's datasets and finds those of others.

    Args:
        host: serves and asks over `PROTOCOL`.
        gossip: carries the announcements.
        holdings: the datasets of this node at this moment.
        heard: called with an info-hash when a provider of it was announced.
    """

    def __init__(
        self,
        host: Host,
        gossip: Gossip,
        holdings: Callable[[], Sequence[Holding]],
        heard: Callable[[bytes, str], None] = lambda infohash, peer: None,
    ) -> None:
        self._host = host
        self._gossip = gossip
        self._holdings = holdings
        self._heard = heard
        self._table = ProviderTable()
        self._again = trio.Event()
        gossip.subscribe(TOPIC, _validate, self._on_announcement)
        host.serve(PROTOCOL, self._answer, max_size=4096)

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Announce now and then, and at once after `announce`, until cancelled."""
        task_status.started()
        while True:
            self._again = trio.Event()
            public = [held.listing for held in self._holdings() if held.allowed is None and held.pieces]
            for start in range(0, len(public), PER_MESSAGE):
                rows = [[row.name, row.infohash, row.size] for row in public[start : start + PER_MESSAGE]]
                await self._gossip.publish(TOPIC, wire.encode([1, rows]))
            self._table.expire(trio.current_time())
            with trio.move_on_after(ANNOUNCE_S):
                await self._again.wait()
            await trio.sleep(0.2)  # several new datasets at once go out together

    def announce(self) -> None:
        """Say at once what this node holds: something was added."""
        self._again.set()

    def listings(self) -> list[Found]:
        """The datasets that others announced and that did not expire."""
        return [
            Found(listing, providers, providers)
            for listing, providers in self._table.everything(trio.current_time())
        ]

    def providers(self, infohash: bytes) -> tuple[str, ...]:
        """Peers that are known to hold pieces of a dataset; the one heard of last first."""
        return self._table.providers(infohash, trio.current_time())

    async def find(
        self, name_or_hash: str | bytes, peers: Iterable[str] = (), ask_others: bool = True
    ) -> list[Found]:
        """The datasets of a name, or the one of an info-hash, from the table and from peers.

        Args:
            peers: asked first, connected or not.
            ask_others: ask connected peers too; not for a private dataset, whose existence they would learn.
        """
        results: dict[bytes, _Merge] = {}
        for listing, providers in self._table.lookup(name_or_hash, trio.current_time()):
            results.setdefault(listing.infohash, _Merge(listing)).add(providers, providers)
        others = self._host.connected() if ask_others else []
        asked = [peer for peer in dict.fromkeys([*peers, *others]) if peer != self._host.peer_id][:ASK_PEERS]
        with trio.move_on_after(ASK_DEADLINE_S) as scope:
            async with trio.open_nursery() as nursery:
                for peer in asked:
                    nursery.start_soon(self._ask, peer, name_or_hash, results, scope)
        return [merge.found() for merge in results.values()]

    async def metainfo(self, infohash: bytes, peers: Sequence[str]) -> tuple[Metainfo, str] | None:
        """The metainfo of an info-hash and the first of `peers` that gave the right one."""
        for peer in peers:
            found = await self._metainfo_from(peer, infohash)
            if found is not None:
                return found, peer
        return None

    async def vouched(self, infohash: bytes, peers: Iterable[str] | None = None) -> tuple[str, ...]:
        """Providers of a private dataset, named by peers that have its metainfo, which a stranger has not.

        Anybody may claim to be a provider and would be let in; only who was let in by the owner can vouch.

        Args:
            peers: who is asked; the connected ones by default.
        """
        found: dict[str, None] = {}

        async def ask(peer: str) -> None:
            results: dict[bytes, _Merge] = {}
            if await self._metainfo_from(peer, infohash) is not None:
                await self._ask(peer, infohash, results, trio.CancelScope())
            for merge in results.values():
                found.update(merge.providers)

        async with trio.open_nursery() as nursery:
            for peer in list(self._host.connected() if peers is None else peers)[:ASK_PEERS]:
                nursery.start_soon(ask, peer)
        return tuple(found)

    async def _metainfo_from(self, peer: str, infohash: bytes) -> Metainfo | None:
        question = ["metainfo", infohash]
        limit = MAX_METAINFO_BYTES + 1024
        try:
            answer = await self._host.request(peer, PROTOCOL, question, METAINFO_DEADLINE_S, limit)
            if isinstance(answer, bytes):
                metainfo = Metainfo.parse(answer)
                if metainfo.info_hash == infohash:
                    return metainfo
            log.debug("%s gave no metainfo of %s", peer, infohash.hex())
        except (RemoteError, torrent_errors.RemoteError) as error:
            log.debug("no metainfo from %s: %s", peer, error)
        return None

    async def _ask(
        self, peer: str, query: str | bytes, results: dict[bytes, _Merge], scope: trio.CancelScope
    ) -> None:
        try:
            answer = await self._host.request(peer, PROTOCOL, ["find", query], ASK_DEADLINE_S, _ANSWER_BYTES)
            rows = _parse_answer(answer, query)
        except RemoteError as error:
            log.debug("%s did not answer a question about %r: %s", peer, query, error)
            self._host.standing.note(peer, error)
            return
        for listing, providers in rows:
            for provider, addrs in providers:
                self._host.learn(provider, addrs)
            names = [provider for provider, _ in providers if provider != self._host.peer_id]
            results.setdefault(listing.infohash, _Merge(listing)).add(names, [peer])
            scope.deadline = min(scope.deadline, trio.current_time() + ASK_GRACE_S)

    async def _answer(self, peer: str, message: Any) -> Any:
        match message:
            case ["find", str() | bytes() as query]:
                return self._found_for(peer, query)
            case ["metainfo", bytes() as infohash]:
                for held in self._holdings():
                    if held.listing.infohash == infohash and held.visible_to(peer):
                        return held.metainfo
                return None
        raise Malformed("not a question about datasets")

    def _found_for(self, peer: str, query: str | bytes) -> list[list[Any]]:
        now = trio.current_time()
        results: dict[bytes, _Merge] = {}
        private: set[bytes] = set()
        for held in self._holdings():
            if query not in (held.listing.name, held.listing.infohash):
                continue
            if held.allowed is not None:
                private.add(held.listing.infohash)
            if not held.visible_to(peer):
                continue
            own = [self._host.peer_id] if held.pieces else []
            results[held.listing.infohash] = _Merge(held.listing)
            results[held.listing.infohash].add([*own, *held.sources], [])
        for listing, providers in self._table.lookup(query, now):
            if listing.infohash not in private:  # whoever announces that one was not let in
                results.setdefault(listing.infohash, _Merge(listing)).add(providers, [])
        return [self._row(merge, peer) for merge in list(results.values())[:MAX_FOUND]]

    def _row(self, merge: _Merge, asker: str) -> list[Any]:
        providers = [peer for peer in merge.providers if peer != asker][:MAX_PROVIDERS_TOLD]
        listing = merge.listing
        return [
            listing.name,
            listing.infohash,
            listing.size,
            [
                [peer, self._host.addrs() if peer == self._host.peer_id else self._host.known_addrs(peer)]
                for peer in providers
            ],
        ]

    def _on_announcement(self, origin: str, data: bytes) -> None:
        now = trio.current_time()
        for listing in _parse_announcement(data):
            if self._table.add(listing, origin, now):
                self._heard(listing.infohash, origin)


class _Merge:
    """What several peers said about one dataset."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.providers: dict[str, None] = {}
        self.informants: dict[str, None] = {}

    def add(self, providers: Iterable[str], informants: Iterable[str]) -> None:
        self.providers |= dict.fromkeys(providers)
        self.informants |= dict.fromkeys(informants)

    def found(self) -> Found:
        return Found(self.listing, tuple(self.providers), tuple(self.informants))


def _validate(data: bytes) -> Verdict:
    try:
        _parse_announcement(data)
    except RemoteError:
        return Verdict.REJECT
    return Verdict.ACCEPT


def _parse_announcement(data: bytes) -> list[Listing]:
    match wire.decode(data):
        case [1, list() as rows] if 0 < len(rows) <= PER_MESSAGE:
            return [_listing(row) for row in rows]
    raise Malformed("not an announcement of datasets")


def _listing(row: Any) -> Listing:
    match row:
        case [str() as name, bytes() as infohash, int() as size]:
            try:
                return Listing(name, infohash, size)
            except ValueError as error:
                raise Malformed(str(error)) from error
    raise Malformed("not a listing of a dataset")


def _parse_answer(answer: Any, query: str | bytes) -> list[tuple[Listing, list[tuple[str, list[str]]]]]:
    if not isinstance(answer, list) or len(answer) > MAX_FOUND:
        raise Malformed("not an answer about datasets")
    rows = []
    for row in answer:
        match row:
            case [name, infohash, size, list() as providers] if len(providers) <= MAX_PROVIDERS_TOLD:
                listing = _listing([name, infohash, size])
            case _:
                raise Malformed("not an answer about datasets")
        if query not in (listing.name, listing.infohash):
            raise Malformed("an answer about another dataset")
        rows.append((listing, [_provider(item) for item in providers]))
    return rows


def _provider(item: Any) -> tuple[str, list[str]]:
    match item:
        case [str() as peer, list() as addrs] if is_peer_id(peer) and len(addrs) <= 16:
            if all(isinstance(addr, str) for addr in addrs):
                return peer, addrs
    raise Malformed("not a provider")
