"""Finds a dataset that this node does not have, and its metainfo."""

from __future__ import annotations

import trio

from p2pml.errors import UserError
from p2pml.net.discovery import Discovery
from p2pml.net.host import Host
from p2pml.net.presence import Presence
from p2pml.node.dataset_keys import Key, ambiguous, infohash_of, shown
from p2pml.node.events import Events
from p2pml.node.views import NotFound
from torrent.metainfo import Metainfo

_PAUSE_S = 0.5


class Finder:
    """Asks the network for datasets; emits `data.search` with `dataset` and `peers` for each attempt."""

    def __init__(self, discovery: Discovery, host: Host, presence: Presence, events: Events) -> None:
        self._discovery = discovery
        self._host = host
        self._presence = presence
        self._events = events

    async def locate(self, key: Key, search: float) -> tuple[Metainfo, tuple[str, ...]]:
        """The metainfo of a dataset and the peers that hold pieces of it.

        Args:
            search: seconds to go on asking.

        Raises:
            UserError: nobody knows it (`NotFound`), or the name is not unique.
        """
        query = infohash_of(key) or key
        until = trio.current_time() + search
        while True:
            self._events.emit("data.search", dataset=shown(key), peers=len(self._host.connected()))
            found = await self._discovery.find(query, [peer.peer_id for peer in self._presence.peers()])
            if len(found) > 1:
                raise ambiguous(key, found)
            for item in found:
                informants = list(dict.fromkeys([*item.informants, *item.providers]))
                answer = await self._discovery.metainfo(item.listing.infohash, informants)
                if answer is None:
                    continue
                metainfo, informant = answer
                if metainfo.private:
                    return metainfo, await self._discovery.vouched(metainfo.info_hash, [informant])
                return metainfo, item.providers
            if trio.current_time() >= until:
                raise self._nobody_knows(key)
            await trio.sleep(_PAUSE_S)

    async def private_sources(self, metainfo: Metainfo) -> tuple[str, ...]:
        """The peers to fetch a private dataset from, as those say who may know of it.

        Raises:
            NotFound: no connected peer has it, or none lets this node know.
        """
        sources = await self._discovery.vouched(metainfo.info_hash)
        if not sources:
            raise NotFound(
                f"no connected peer offers the private data set {metainfo.name} to this node",
                "ask its owner to allow this node's peer id, which `p2pml status` shows",
            )
        return sources

    def _nobody_knows(self, key: Key) -> UserError:
        count = len(self._host.connected())
        if not count:
            return NotFound(
                f"nobody to ask for {shown(key)}: no peer is connected",
                "give the node a bootstrap address, and see `p2pml status`",
            )
        return NotFound(
            f"none of the {count} connected peers knows a data set {shown(key)}",
            "check the spelling, ask its owner whether it is seeded and whether you may fetch it",
        )
