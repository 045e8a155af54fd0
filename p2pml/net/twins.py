"""Two links of one swarm that lead to the same client: which one to end.

A node may be met as a libp2p peer and, named by a tracker, by TCP as well; two clients may dial each other at
once. Peer ids of BEP 3 are not proved, so only links from one address are compared: nobody ends another's.
"""

from __future__ import annotations

from collections.abc import Callable

from p2pml.net.piece_link import Link
from p2pml.net.plain_peer import is_plain


def worse_of(new: Link, old: Link, own_id: bytes, ip_of: Callable[[str], str | None]) -> Link | None:
    """Of two links the one to end; None when they lead to different clients.

    A link with a proved peer stays before one by plain TCP. Of two by TCP that crossed both sides keep the
    one that the smaller peer id opened; of two in one direction the older one stays.

    Args:
        new: whose handshake has just come.
        own_id: the peer id of BEP 3 of this side.
        ip_of: where a peer is connected from.
    """
    plain = is_plain(new.peer), is_plain(old.peer)
    if new is old or not any(plain) or not new.remote_id or new.remote_id != old.remote_id:
        return None
    where = ip_of(new.peer)
    if where is None or where != ip_of(old.peer):
        return None
    if not all(plain):
        return new if plain[0] else old
    if new.dialled == old.dialled:
        return new
    ours_first = own_id < new.remote_id
    return new if new.dialled != ours_first else old
