"""Serving requests with a bound on what one peer may have in the works at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

from p2pml.net.errors import Declined, Malformed
from p2pml.net.host import Host
from p2pml.net.streams import Stream

REQUEST_S = 10.0
ANSWER_S = 30.0
_FRAME_BYTES = 16

Service = Callable[[str, bytes], Awaitable[bytes]]


def serve_limited(host: Host, protocol: str, service: Service, max_size: int, per_peer: int) -> None:
    """Answer requests that are byte strings, each by one byte string.

    Args:
        service: `await service(peer, request)`; raising a `RemoteError` refuses the request by a reset.
        max_size: bytes of the largest request accepted.
        per_peer: requests of one peer that may be under way, from the first byte of the request to the last
            of the answer; the next one is reset.
    """
    under_way: Counter[str] = Counter()

    async def handler(stream: Stream) -> None:
        peer = stream.peer
        if under_way[peer] >= per_peer:
            raise Declined(f"more than {per_peer} requests at a time")
        under_way[peer] += 1
        try:
            request = await stream.recv(max_size + _FRAME_BYTES, REQUEST_S)
            if not isinstance(request, bytes):
                raise Malformed(f"a request of {protocol} is a byte string")
            await stream.send(await service(peer, request), ANSWER_S)
        finally:
            under_way[peer] -= 1
            if not under_way[peer]:
                del under_way[peer]

    host.handle(protocol, handler)


async def request_bytes(
    host: Host, peer: str, protocol: str, request: bytes, within: float, limit: int
) -> bytes:
    """Ask a peer, on a stream of its own.

    Args:
        within: seconds for all of it.
        limit: bytes of the largest answer accepted.

    Raises:
        RemoteError: whatever goes wrong on the way or at the peer.
    """
    answer = await host.request(peer, protocol, request, within, limit + _FRAME_BYTES)
    if not isinstance(answer, bytes):
        raise Malformed(f"an answer of {protocol} is a byte string")
    return answer
