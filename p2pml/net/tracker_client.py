"""One announcement to one HTTP tracker, of which a stranger's torrent gave the address.

Its name is resolved first and the address that is then connected to is the one that was looked at. A tracker
inside a private network is asked only at a path that ends in `/announce`, so that a torrent cannot make this
node call other services there. Redirects are not followed; answers are bounded.
"""

from __future__ import annotations

from dataclasses import dataclass

import httpx
import trio

from p2pml.net.gate import is_local
from p2pml.net.plain_peer import allowed_peers, may_be_dialled, plain_ip
from torrent.errors import TrackerError
from torrent.tracker import Announcement, parse_answer

ANSWER_S = 20.0
MAX_ANSWER = 256 * 1024
_HEADERS = {"User-Agent": "p2pml", "Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Heard:
    """`interval` in seconds, as the tracker wants it; `peers`: names of those that may be dialled."""

    interval: int
    peers: tuple[str, ...]
    tracker_id: bytes


async def announce(tracker: str, what: Announcement, tracker_id: bytes = b"") -> Heard:
    """Tell a tracker about this node's part in a swarm, and hear who else is there.

    Raises:
        TrackerError: it cannot be reached, refuses, or says nothing that can be understood.
    """
    with trio.move_on_after(ANSWER_S):
        try:
            ip, data = await _get(what.url(tracker, tracker_id), tracker)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise TrackerError(f"it cannot be reached: {type(error).__name__} {error}".rstrip()) from error
        answer = parse_answer(data)
        return Heard(answer.interval, tuple(allowed_peers(answer.peers, is_local(ip))), answer.tracker_id)
    raise TrackerError(f"no answer within {ANSWER_S:g} s")


async def _get(address: str, tracker: str) -> tuple[str, bytes]:
    url = httpx.URL(address)
    ip = await _resolve(url)
    if is_local(ip) and not httpx.URL(tracker).path.endswith("/announce"):
        raise TrackerError("a tracker in a private network is asked only at a path that ends in /announce")
    headers = {**_HEADERS, "Host": url.netloc.decode("ascii")}
    names = {"sni_hostname": url.host} if url.scheme == "https" else {}
    async with (
        httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=ANSWER_S) as client,
        client.stream("GET", url.copy_with(host=ip), headers=headers, extensions=names) as response,
    ):
        if response.status_code != 200:
            raise TrackerError(f"it answers with HTTP status {response.status_code}")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise TrackerError("its answer is compressed, which was not asked for")
        return ip, await _read(response)


async def _read(response: httpx.Response) -> bytes:
    """The body. Too long a one is broken off by a cancellation, which httpx's generators end well with."""
    data = bytearray()
    with trio.CancelScope() as scope:
        async for part in response.aiter_raw():
            data += part
            if len(data) > MAX_ANSWER:
                scope.cancel()
    if len(data) > MAX_ANSWER:
        raise TrackerError(f"its answer is longer than {MAX_ANSWER} bytes")
    return bytes(data)


async def _resolve(url: httpx.URL) -> str:
    """The address to connect to."""
    found = await trio.socket.getaddrinfo(url.host, url.port or 0, type=trio.socket.SOCK_STREAM)
    ips = [plain_ip(str(row[4][0])) for row in found]
    ip = next((ip for ip in ips if may_be_dialled(ip, local=True)), None)
    if ip is None:
        raise TrackerError(f"{url.host} has no address that can be dialled")
    return ip
