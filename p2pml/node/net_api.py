"""A node's answers about its connections: `p2pml.api.facade.NetFacade` over the host."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from p2pml.errors import ExitCode, UserError
from p2pml.net.bans import Ban
from p2pml.net.connections import connections
from p2pml.net.errors import RemoteError
from p2pml.net.keepalive import ping
from p2pml.net.raw_host import is_peer_id
from p2pml.node.net_views import BanView, ConnectionView, PingView, UnbannedView
from p2pml.node.views import NotFound

if TYPE_CHECKING:
    from p2pml.node.node import Node

PING_S = 10.0


class NetApi:
    """See `p2pml.api.facade.NetFacade` for what each method promises."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def connections(self) -> list[ConnectionView]:
        node = self._node
        found = []
        for item in sorted(connections(node.host.raw), key=lambda item: item.peer):
            rtt, clock = node.host.rtt(item.peer), node.time.offset_of(item.peer)
            found.append(
                ConnectionView(
                    peer_id=item.peer,
                    name=node.name_of(item.peer),
                    direction="in" if item.inbound else "out",
                    relayed=item.relayed,
                    address=item.address,
                    rtt_ms=None if rtt is None else round(rtt * 1000, 1),
                    clock_ms=None if clock is None else round(clock * 1000),
                    score=round(node.host.standing.score(item.peer), 1),
                )
            )
        return found

    def bans(self) -> list[BanView]:
        return [self._ban_view(ban) for ban in self._node.host.standing.bans()]

    async def ping(self, peer: str) -> PingView:
        node, target = self._node, self._find(peer)
        try:
            rtt = await ping(node.host, target, PING_S)
        except RemoteError as error:
            raise UserError(
                f"{node.name_of(target) or target} does not answer: {error}",
                "see who is connected with `p2pml net peers`",
                ExitCode.NETWORK,
            ) from error
        return PingView(target, node.name_of(target), round(rtt * 1000, 2))

    def ban(self, peer: str, seconds: float | None, reason: str) -> BanView:
        node, target = self._node, self._find(peer)
        if target == node.host.peer_id:
            raise UserError("this is the node's own id", "name another peer", ExitCode.USAGE)
        return self._ban_view(node.host.standing.ban(target, reason or "by hand", seconds))

    def unban(self, peer: str) -> UnbannedView:
        target, standing = self._find(peer), self._node.host.standing
        if standing.banned(target) is None:
            raise NotFound(f"{target} is not banned", "`p2pml net bans` shows who is")
        standing.unban(target)
        return UnbannedView(target)

    def _ban_view(self, ban: Ban) -> BanView:
        left = ban.until - self._node.host.standing.wall()
        return BanView(
            peer_id=ban.peer,
            name=self._node.name_of(ban.peer),
            until=round(ban.until * 1000),
            left_s=max(math.ceil(left), 0),
            times=ban.times,
            reason=ban.reason,
        )

    def _find(self, text: str) -> str:
        """The id of the one peer that a text means: a whole id, or a name or a part of the id of a peer that
        is known.

        Raises:
            UserError: none, or several: names are the peers' own to choose.
        """
        if is_peer_id(text):
            return text
        node = self._node
        known = {*node.host.connected(), *(peer.peer_id for peer in node.presence.peers())}
        known |= {ban.peer for ban in node.host.standing.bans()}
        found = [
            peer
            for peer in sorted(known)
            if node.name_of(peer) == text
            or (len(text) >= 4 and (peer.startswith(text) or peer.endswith(text)))
        ]
        if len(found) == 1:
            return found[0]
        if not found:
            raise NotFound(f"no peer {text!r} is known", "`p2pml net peers` shows names and ids")
        raise UserError(f"{text!r} can mean {', '.join(found)}", "give the whole id", ExitCode.USAGE)
