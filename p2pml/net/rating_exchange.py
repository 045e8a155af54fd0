"""How a subject of an audit gives the leaves of its trace to whoever asks: `/p2pml/rating/1.0.0`.

A question is `[1, window, account, positions]`, the positions ascending; the answer is an array of leaves:
for each position the leaf and, unless it is the first of the trace, the one before it, by which the order is
judged; each once, by place, with its path. No leaves say that there is no such trace here. Both are byte
strings in the chain's canonical encoding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from chain import fields
from chain.codec import array, items, octets, pack, uint, unpack
from chain.crypto import PUBLIC_BYTES
from chain.errors import DecodeError
from chain.rating.items import ProvenLeaf
from p2pml.net.errors import Malformed
from p2pml.net.host import Host
from p2pml.net.limited import request_bytes, serve_limited

PROTOCOL = "/p2pml/rating/1.0.0"
VERSION = 1
MAX_POSITIONS = 64
"""Of one question; an audit draws 40 of a subject."""
MAX_QUESTION = 1024
MAX_ANSWER = 256 * 1024
"""Twice as many leaves as positions, each with a path of at most 64 hashes."""
PER_PEER = 2
ASK_S = 10.0


@dataclass(frozen=True, slots=True)
class Question:
    """What an auditor asks a subject for.

    Args:
        window: its first slot.
        account: 32 bytes, the subject's.
        positions: of leaves under the claim's `trace_root`, ascending.
    """

    window: int
    account: bytes
    positions: tuple[int, ...]

    def encode(self) -> bytes:
        return pack((VERSION, self.window, self.account, self.positions))

    @classmethod
    def decode(cls, data: bytes) -> Question:
        """Raises Malformed."""
        try:
            version, window, account, given = array(unpack(data, MAX_QUESTION), 4, "question")
            positions = tuple(uint(item, "position") for item in items(given, MAX_POSITIONS, "positions"))
            if uint(version, "version") != VERSION or list(positions) != sorted(set(positions)):
                raise DecodeError("another version, or positions that do not ascend")
            return cls(uint(window, "window"), octets(account, PUBLIC_BYTES, "account"), positions)
        except DecodeError as error:
            raise Malformed(f"not a question for leaves: {error}") from error


def encode_leaves(leaves: Sequence[ProvenLeaf]) -> bytes:
    """An answer."""
    return pack(tuple(fields.to_item(leaf) for leaf in leaves))


def decode_leaves(data: bytes) -> tuple[ProvenLeaf, ...]:
    """The leaves of an answer; whether they are those of the claim is for the asker to check.

    Raises:
        Malformed: not an answer.
    """
    try:
        given = items(unpack(data, MAX_ANSWER), 2 * MAX_POSITIONS, "leaves")
        return tuple(fields.from_item(ProvenLeaf, item) for item in given)
    except DecodeError as error:
        raise Malformed(f"not an answer with leaves: {error}") from error


def serve_leaves(host: Host, lookup: Callable[[Question], Sequence[ProvenLeaf]]) -> None:
    """Answer auditors.

    Args:
        lookup: gives the leaves of a question, none when there is no such trace; runs in a thread.
    """

    async def answer(_peer: str, request: bytes) -> bytes:
        question = Question.decode(request)
        return encode_leaves(await trio.to_thread.run_sync(lookup, question))

    serve_limited(host, PROTOCOL, answer, MAX_QUESTION, PER_PEER)


async def ask_leaves(host: Host, peer: str, question: Question) -> tuple[ProvenLeaf, ...]:
    """Ask a peer.

    Raises:
        RemoteError: whatever goes wrong on the way or at the peer.
    """
    answer = await request_bytes(host, peer, PROTOCOL, question.encode(), ASK_S, MAX_ANSWER)
    return decode_leaves(answer)
