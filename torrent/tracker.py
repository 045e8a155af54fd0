"""HTTP trackers without HTTP (BEP 3; compact answers, BEP 23; IPv6, BEP 7; tiers, BEP 12): which trackers a
torrent names, what they are asked, and what an answer says.
"""

from __future__ import annotations

import ipaddress
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from torrent import bencode
from torrent.bencode import Value
from torrent.errors import BencodeError, LocalError, RemoteError, TrackerError
from torrent.metainfo import Metainfo

MAX_TRACKERS = 20
MAX_URL = 1024
MAX_PEERS = 200
MAX_TEXT = 200
MAX_TRACKER_ID = 128
_URL = re.compile(r"https?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::([0-9]{1,5}))?(?:[/?][!-~]*)?")

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a tracker is told: counts in bytes of this run, ``key`` the same for all announcements of it.

    ``event``: ``started``, ``completed``, ``stopped``, or empty for the periodic one.
    """

    info_hash: bytes
    peer_id: bytes
    port: int
    uploaded: int
    downloaded: int
    left: int
    event: str
    key: str
    want: int = 50

    def url(self, tracker: str, tracker_id: bytes = b"") -> str:
        """The address to GET."""
        fields = {
            "info_hash": _percent(self.info_hash),
            "peer_id": _percent(self.peer_id),
            "port": str(self.port),
            "uploaded": str(self.uploaded),
            "downloaded": str(self.downloaded),
            "left": str(self.left),
            "compact": "1",
            "numwant": "0" if self.event == "stopped" else str(self.want),
            "key": self.key,
        }
        if self.event:
            fields["event"] = self.event
        if tracker_id:
            fields["trackerid"] = _percent(tracker_id)
        query = "&".join(f"{name}={value}" for name, value in fields.items())
        return f"{tracker}{'&' if '?' in tracker else '?'}{query}"


@dataclass(frozen=True, slots=True)
class Answer:
    """``interval`` in seconds, as the tracker says it; ``peers``: at most ``MAX_PEERS``, of any address."""

    interval: int
    peers: tuple[Address, ...]
    tracker_id: bytes = b""


def parse_answer(data: bytes) -> Answer:
    """Raises ``TrackerError``: it refuses, with its own words, or what it says is not an answer."""
    try:
        table = bencode.decode(data)
    except BencodeError as error:
        raise TrackerError(f"the answer is not bencoded: {error}") from error
    if not isinstance(table, dict):
        raise TrackerError("the answer is not a dictionary")
    if b"failure reason" in table:
        raise TrackerError(f"it refuses: {_text(table[b'failure reason'])}")
    interval, least = table.get(b"interval", 0), table.get(b"min interval", 0)
    if not isinstance(interval, int) or not isinstance(least, int):
        raise TrackerError("the interval is not a number")
    tracker_id = table.get(b"tracker id", b"")
    if not isinstance(tracker_id, bytes) or len(tracker_id) > MAX_TRACKER_ID:
        raise TrackerError("the tracker id is not a short string")
    peers = [*_peers(table.get(b"peers", b"")), *_compact(table.get(b"peers6", b""), 16)]
    return Answer(max(interval, least), tuple(dict.fromkeys(peers))[:MAX_PEERS], tracker_id)


def _peers(value: Value) -> list[Address]:
    return _listed(value) if isinstance(value, list) else _compact(value, 4)


def _compact(value: Value, width: int) -> list[Address]:
    size = width + 2
    if not isinstance(value, bytes) or len(value) % size:
        raise TrackerError(f"the peers are not rows of {size} bytes")
    rows = [value[at : at + size] for at in range(0, min(len(value), MAX_PEERS * size), size)]
    found = [(str(ipaddress.ip_address(row[:width])), int.from_bytes(row[width:], "big")) for row in rows]
    return [address for address in found if address[1]]


def _listed(rows: list[Value]) -> list[Address]:
    """The form of BEP 3; names of hosts are left out, since nobody asked to resolve a stranger's names."""
    found = []
    for row in rows[:MAX_PEERS]:
        ip, port = (row.get(b"ip"), row.get(b"port")) if isinstance(row, dict) else (None, None)
        if not isinstance(ip, bytes) or not isinstance(port, int):
            raise TrackerError("a peer has no address")
        try:
            address = str(ipaddress.ip_address(ip.decode("ascii")))
        except ValueError:
            continue
        if 0 < port < 65536:
            found.append((address, port))
    return found


def _text(value: Value) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else repr(value)
    return "".join(char if char.isprintable() else "?" for char in text[:MAX_TEXT])


def _percent(data: bytes) -> str:
    """Every byte as %XX, which no two parsers read differently."""
    return "".join(f"%{byte:02X}" for byte in data)


def is_tracker(url: str) -> bool:
    """Whether this is an HTTP address that can be announced to."""
    match = _URL.fullmatch(url) if len(url) <= MAX_URL else None
    return match is not None and (match[1] is None or 0 < int(match[1]) < 65536)


def trackers_of(raw: bytes) -> tuple[tuple[str, ...], ...]:
    """The HTTP trackers that a metainfo file names, by tier. What is none is left out; UDP ones too.

    Raises ``BencodeError``.
    """
    spans = bencode.scan(raw)
    tiers: list[tuple[str, ...]] = []
    count = 0
    named = bencode.decode(_slice(raw, spans, b"announce-list")) if b"announce-list" in spans else None
    if not isinstance(named, list) or not named:
        named = [[bencode.decode(_slice(raw, spans, b"announce"))]] if b"announce" in spans else []
    seen: set[str] = set()
    for tier in named:
        if not isinstance(tier, list):
            continue
        urls = []
        for item in tier:
            url = item.decode("utf-8", "replace") if isinstance(item, bytes) else ""
            if is_tracker(url) and url not in seen and count < MAX_TRACKERS:
                seen.add(url)
                urls.append(url)
                count += 1
        if urls:
            tiers.append(tuple(urls))
    return tuple(tiers)


def _slice(raw: bytes, spans: dict[bytes, tuple[int, int]], key: bytes) -> bytes:
    start, end = spans[key]
    return raw[start:end]


def with_trackers(metainfo: Metainfo, urls: Sequence[str]) -> Metainfo:
    """The same torrent with ``announce`` and ``announce-list``, each tracker a tier of its own; its info-hash
    stays. Raises ``LocalError`` for what is no tracker, or for too many.
    """
    if not urls:
        return metainfo
    if len(urls) > MAX_TRACKERS:
        raise LocalError(f"{len(urls)} trackers, more than {MAX_TRACKERS}")
    for url in urls:
        if not is_tracker(url):
            raise LocalError(f"{url!r} is no HTTP tracker")
    table = bencode.decode(metainfo.raw)
    if not isinstance(table, dict):  # it was parsed before
        raise LocalError("metainfo is not a dictionary")
    table[b"announce"] = urls[0].encode("ascii")
    table[b"announce-list"] = [[url.encode("ascii")] for url in urls]
    try:
        made = Metainfo.parse(bencode.encode(table))
    except RemoteError as error:
        raise LocalError(f"cannot add trackers: {error}") from error
    if made.info_hash != metainfo.info_hash:
        raise LocalError("the info-hash would change")
    return made


@dataclass(slots=True)
class Tiers:
    """The order in which trackers are tried (BEP 12): each tier shuffled once, who answers goes to its front.

    Attributes:
        ids: what trackers gave to be told again, by URL.
    """

    tiers: list[list[str]]
    ids: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def shuffled(cls, tiers: Sequence[Sequence[str]], rng: random.Random) -> Tiers:
        """Tiers to begin with."""
        return cls([rng.sample(list(tier), len(tier)) for tier in tiers])

    def order(self) -> list[str]:
        """Whom to try, first to last."""
        return [url for tier in self.tiers for url in tier]

    def answered(self, url: str, tracker_id: bytes) -> None:
        """It answered: the first to be tried in its tier from now on."""
        if tracker_id:
            self.ids[url] = tracker_id
        for tier in self.tiers:
            if url in tier:
                tier.remove(url)
                tier.insert(0, url)
