"""How a dataset is named by its users, and what they are told when a name does not do."""

from __future__ import annotations

from collections.abc import Sequence

from p2pml.errors import ExitCode, UserError
from p2pml.net.discovery import Found
from p2pml.node.dataset_info import DatasetInfo

Key = str | bytes
"""A dataset: its name, or its info-hash as 20 bytes or 40 hexadecimal digits."""


def infohash_of(key: Key) -> bytes | None:
    """The info-hash that a key spells; None for a name."""
    if isinstance(key, bytes):
        return key
    try:
        return bytes.fromhex(key) if len(key) == 40 else None
    except ValueError:
        return None


def shown(key: Key) -> str:
    """A key in a message for people."""
    return key.hex() if isinstance(key, bytes) else repr(key)


def ambiguous(key: Key, found: Sequence[Found]) -> UserError:
    """Several datasets have the name."""
    rows = ", ".join(
        f"{item.listing.infohash.hex()} ({item.listing.size} bytes, {len(item.providers)} providers)"
        for item in found
    )
    return UserError(
        f"{len(found)} different data sets are called {shown(key)}: {rows}",
        "ask its owner for the info-hash and use that",
    )


def stalled(info: DatasetInfo, timeout: float) -> UserError:
    """Nothing came for too long."""
    return UserError(
        f"nothing of {info.name} arrived for {timeout:g} s: {info.have} of {info.wanted} wanted pieces are "
        f"here, {info.peers} peers are connected for it",
        "check that somebody seeds it and that this node is allowed to fetch it; what is here stays",
        ExitCode.NETWORK,
    )
