"""What happens to a swarm and what it wants done: the seam between ``torrent.swarm`` and the node.

The node's pump, for each torrent:

1. ``PeerConnected`` once a stream to a peer is open (either side may have dialled; the swarm sends its own
   handshake in both cases). An accepting node reads 68 bytes, decodes them with ``messages.Handshake.decode``
   to find the swarm, and then gives those same 68 bytes to the swarm as the first ``BytesReceived``.
2. ``BytesReceived`` for whatever arrives, any cut; never stop reading.
3. For each ``Send``: write the bytes in order, then report ``BytesSent`` with their number. The swarm reads
   no further blocks for a peer while too much is unsent, so uploads stop when this is forgotten.
4. For each ``ReadBlock``: answer ``BlockRead`` or ``BlockReadFailed``.
5. For each ``VerifyAndWrite``: hash in a thread (``Metainfo.verify_piece``); answer ``PieceFailed`` when it
   differs; else write, make durable, answer ``PieceVerified``; ``WriteFailed`` on a local disk error (nobody
   is blamed, requests stop until ``Resumed``).
6. For each ``Disconnect``: close the stream. The swarm has already forgotten the peer; a ``PeerDisconnected``
   that comes anyway is ignored, like every event of a peer that is not known.
7. After each ``receive`` or ``tick``, arm one timer at ``deadline()`` and call ``tick`` when it fires.
"""

from __future__ import annotations

from dataclasses import dataclass

from torrent.priorities import Priorities

Buffer = bytes | bytearray


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """A stream to ``peer`` (a stable name: the libp2p PeerId) is open; at most one at a time per peer.

    ``ipv4``: its address ("192.0.2.1"), where it has one of its own, for BEP 6's allowed-fast set.
    """

    peer: str
    ipv4: str | None = None


@dataclass(frozen=True, slots=True)
class PeerDisconnected:
    peer: str


@dataclass(frozen=True, slots=True)
class BytesReceived:
    peer: str
    data: bytes


@dataclass(frozen=True, slots=True)
class BytesSent:
    """``count`` bytes of earlier ``Send`` effects have been handed to the stream."""

    peer: str
    count: int


@dataclass(frozen=True, slots=True)
class BlockRead:
    peer: str
    index: int
    begin: int
    data: bytes


@dataclass(frozen=True, slots=True)
class BlockReadFailed:
    """The store could not read the block (``length`` bytes); the peer's request is dropped."""

    peer: str
    index: int
    begin: int
    length: int


@dataclass(frozen=True, slots=True)
class PieceVerified:
    """The piece's hash was right and its bytes are durable."""

    index: int


@dataclass(frozen=True, slots=True)
class PieceFailed:
    """The piece's hash was wrong: whoever sent it is to blame."""

    index: int


@dataclass(frozen=True, slots=True)
class WriteFailed:
    """The piece's hash was right but it could not be stored: nobody's fault but the disk's."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class PieceLost:
    """A piece counted as present is gone or damaged on disk (recheck): it is to be fetched again."""

    index: int


@dataclass(frozen=True, slots=True)
class SetWanted:
    """From now on fetch these files only (indexes into ``Metainfo.files``); ``None``: all of them."""

    files: frozenset[int] | None


@dataclass(frozen=True, slots=True)
class SetPriorities:
    """From now on fetch by these priorities."""

    priorities: Priorities


@dataclass(frozen=True, slots=True)
class Resumed:
    """The disk has room again: requests may go on after ``WriteFailed``."""


Event = (
    PeerConnected
    | PeerDisconnected
    | BytesReceived
    | BytesSent
    | BlockRead
    | BlockReadFailed
    | PieceVerified
    | PieceFailed
    | WriteFailed
    | PieceLost
    | SetWanted
    | SetPriorities
    | Resumed
)


@dataclass(frozen=True, slots=True)
class Send:
    peer: str
    data: bytes


@dataclass(frozen=True, slots=True)
class ReadBlock:
    """Read a range of a piece that is present; ``begin`` and ``length`` in bytes inside the piece."""

    peer: str
    index: int
    begin: int
    length: int


@dataclass(frozen=True, slots=True)
class VerifyAndWrite:
    """A whole piece has arrived. ``data`` is not touched by the swarm any more until the answer."""

    index: int
    data: Buffer


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close the stream. ``banned``: it sent false data; refuse it for this torrent from now on."""

    peer: str
    reason: str
    banned: bool = False


@dataclass(frozen=True, slots=True)
class Completed:
    """Every wanted piece is present now (once for each time that becomes true)."""


@dataclass(frozen=True, slots=True)
class Halted:
    """Requests stopped after ``WriteFailed``; uploads go on."""

    reason: str


@dataclass(frozen=True, slots=True)
class Credit:
    """``peer`` gave ``count`` payload bytes of a piece whose hash was right."""

    peer: str
    count: int


Effect = Send | ReadBlock | VerifyAndWrite | Disconnect | Completed | Halted | Credit


@dataclass(frozen=True, slots=True)
class PeerStats:
    """One connection: verified payload bytes are in ``SwarmStats.sources``; rates in bytes per second.

    ``client``: what the peer calls itself, printable; ``upload_only``: it says that it fetches nothing.
    """

    peer: str
    pieces: int
    down_rate: float
    up_rate: float
    am_choking: bool
    am_interested: bool
    peer_choking: bool
    peer_interested: bool
    snubbed: bool
    outstanding: int
    client: str = ""
    upload_only: bool = False


@dataclass(frozen=True, slots=True)
class SwarmStats:
    """``have``, ``wanted``, ``missing``, ``total`` in pieces; ``copies`` of the whole, here and among the
    connected peers; ``sources`` and ``served`` in payload bytes by peer.

    ``sources`` counts verified pieces only; ``wasted`` is payload that was not needed or failed its hash.
    """

    have: int
    wanted: int
    missing: int
    total: int
    copies: float
    sources: dict[str, int]
    served: dict[str, int]
    wasted: int
    down_rate: float
    up_rate: float
    peers: tuple[PeerStats, ...]
