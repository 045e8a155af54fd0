"""A network's genesis by stream, for those who know its hash and a member's address.

`/p2pml/genesis/1.0.0`: `[1, chain_id]`, answered by the genesis file's bytes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from p2pml.net.errors import Declined, RemoteError, Unreachable
from p2pml.net.host import Host

PROTOCOL = "/p2pml/genesis/1.0.0"
VERSION = 1
MAX_BYTES = 4 * 1024 * 1024
FETCH_S = 30.0
_FRAME_BYTES = 16


def offer_genesis(host: Host, chain_id: bytes, content: bytes) -> None:
    """Give the genesis file to whoever asks for it by its id."""

    async def answer(_peer: str, message: Any) -> bytes:
        if message != [VERSION, chain_id]:
            raise Declined("not a question for this network's genesis")
        return content

    host.serve(PROTOCOL, answer, 128)


async def fetch_genesis(addresses: Sequence[str], chain_id: bytes) -> bytes:
    """Ask members of a network, one after the other, under a key that is used for this only.

    Args:
        addresses: `/ip4/…/tcp/…/p2p/<peer>`.
        chain_id: what to ask for. The answer still has to be checked against it.

    Raises:
        Unreachable: none of them gives it.
    """
    problems = []
    async with Host(os.urandom(32), port=None).running() as host:
        for address in addresses:
            try:
                peer = await host.connect(address)
                limit = MAX_BYTES + _FRAME_BYTES
                content = await host.request(peer, PROTOCOL, [VERSION, chain_id], FETCH_S, limit)
                if isinstance(content, bytes):
                    return content
                problems.append(f"{address}: not a file")
            except (RemoteError, ValueError) as error:
                problems.append(f"{address}: {error}")
    raise Unreachable("; ".join(problems) or "no address is given")
