"""What a node tells about itself: plain records that the HTTP API serves as JSON.

Amounts are whole base units (10^8 per token). Hashes and ids are hexadecimal, accounts in their address form,
times milliseconds since 1970 unless a field says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from p2pml.errors import ExitCode, UserError


class NotFound(UserError):
    """What was asked for does not exist here."""

    def __init__(self, cause: str, fix: str = "") -> None:
        super().__init__(cause, fix, ExitCode.FAILURE)


@dataclass(frozen=True, slots=True)
class HeadView:
    """The newest block of the chain that this node follows; height -1 before the first block.

    `final_height` is that of the last block which can never be reverted.
    """

    id: str
    height: int
    slot: int
    final_height: int


@dataclass(frozen=True, slots=True)
class RatingProgressView:
    """A rating window that is planned or under way: it starts at slot `start`, the present `phase` ends at
    `ends_ms`. `segments` is what this node has trained in it so far, null where it does not; `committed`
    whether its claim is in a block.
    """

    start: int
    phase: str
    ends_ms: int
    segments: int | None
    committed: bool


@dataclass(frozen=True, slots=True)
class StatusView:
    """`transport`: fast or stock. `worker`: starting, ready, busy, or off (`worker_reason` says why);
    it stands still while `worker_rests` has a reason, see `WorkerView`.

    `slot` is the slot of this moment, `epoch` its epoch; `behind` counts the blocks that the best peer is
    ahead. `clock_ms` is the clock of `clock_peers` peers, their median, less this machine's; null before any
    has told the time.
    Beyond `clock_limit_ms` this node neither proposes nor votes. `heartbeat_slot` is when the next block is
    due although nothing waits for one; null while something waits to be included or to become final.
    Blocks below height `lowest_body` are not here. `rating_window` is null while no window is near;
    `rating_problem` says why this node could take no part in one now.
    """

    version: str
    name: str
    pid: int
    uptime_s: float
    peer_id: str
    addresses: list[str]
    account: str
    network: str
    chain_id: str
    transport: str
    head: HeadView
    slot: int
    slot_ms: int
    behind: int
    peers: int
    trainer: bool
    worker: str
    worker_reason: str
    balance: int
    rating: int
    datasets: int
    jobs_running: int
    clock_ms: int | None = None
    clock_peers: int = 0
    clock_limit_ms: int = 0
    heartbeat_slot: int | None = None
    lowest_body: int = 1
    rating_window: RatingProgressView | None = None
    epoch: int = 0
    rating_problem: str = ""
    worker_rests: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CheckpointView:
    """A final block as others may begin at it. `text`: `HEIGHT:BLOCK_ID:STATE_ROOT`."""

    height: int
    id: str
    state_root: str
    text: str


@dataclass(frozen=True, slots=True)
class PeerView:
    peer_id: str
    name: str
    account: str
    rating: int
    trainer: bool
    busy: bool
    height: int
    connected: bool
    addresses: list[str]


@dataclass(frozen=True, slots=True)
class ReachView:
    """Whether one peer could open connections to this node.

    `ip` is where it sees this node; `reached` says for each location of ours there whether it got through.
    """

    peer_id: str
    name: str
    ip: str
    reached: dict[str, bool]


@dataclass(frozen=True, slots=True)
class TransactionView:
    """`height` and `block` are null while the transaction waits for a block."""

    id: str
    type: str
    sender: str
    nonce: int
    fee: int
    valid_until_slot: int
    payload: dict[str, Any]
    height: int | None = None
    block: str | None = None


@dataclass(frozen=True, slots=True)
class AccountView:
    """`balance` can be spent now, `vesting` (rewards) is wholly free in `vesting_epochs` finalized epochs;
    `next_nonce` counts this node's waiting transactions too, `proposed` blocks by this account.
    """

    address: str
    balance: int
    nonce: int
    next_nonce: int
    rating: int
    proposed: int
    vesting: int = 0
    vesting_epochs: int = 0
    transactions: list[TransactionView] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RoundView:
    """One training round on the chain; accuracy and loss in parts per million."""

    job: str
    round: int
    samples: int
    receipts: int
    accuracy_ppm: int
    loss_ppm: int
    model_in: str
    model_out: str


@dataclass(frozen=True, slots=True)
class BlockView:
    """`votes` counts the votes in the block, `voters` are the addresses that cast them; `final` is whether
    the block can never be reverted.
    """

    id: str
    height: int
    slot: int
    timestamp_ms: int
    previous: str
    proposer: str
    proposer_name: str
    rank: int
    target: str
    state_root: str
    transactions: list[TransactionView]
    rounds: list[RoundView]
    votes: int = 0
    voters: list[str] = field(default_factory=list)
    final: bool = False


@dataclass(frozen=True, slots=True)
class ValidatorView:
    """`rating` is the weight in the epoch's table: with the selection `rating` a rating, with `richest` base
    units. `share` is its part of all weights: of the votes, and with `rating` the probability of being drawn
    at rank 0 of a slot; with `richest` the heaviest always has it. `bond` and `vesting` are base units that
    evidence would take, `barred_epochs` finalized epochs without a rating, `expires_epochs` finalized epochs
    after which the rating ends, 0 where it does not.
    """

    address: str
    name: str
    rating: int
    share: float
    bond: int = 0
    vesting: int = 0
    barred_epochs: int = 0
    expires_epochs: int = 0
    selection: str = "rating"


@dataclass(frozen=True, slots=True)
class SupplyView:
    """The chain's books; when they add up, `balances + escrow + bonds + vesting` is
    `genesis + issued - burned`.
    """

    genesis: int
    issued: int
    burned: int
    balances: int
    escrow: int
    bonds: int
    vesting: int
    adds_up: bool


@dataclass(frozen=True, slots=True)
class SubmittedView:
    """A transaction that this node took and passes on."""

    id: str


@dataclass(frozen=True, slots=True)
class RefusedView:
    """A transaction that was not taken: its place in the batch, counted from 0, and why."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class BatchView:
    """What became of a batch: ids of the transactions that this node took, in order, and the others."""

    ids: list[str]
    refused: list[RefusedView]


@dataclass(frozen=True, slots=True)
class RangeView:
    """Bytes `begin` to `end` (exclusive) of a file, and their priority."""

    begin: int
    end: int
    priority: int


@dataclass(frozen=True, slots=True)
class FileView:
    """`path` is its name in the data set, `location` where it is on this machine; `priority` from 0, not
    wanted, to 7, except for `ranges` of it.
    """

    index: int
    path: str
    size: int
    complete: bool
    location: str
    priority: int = 4
    ranges: list[RangeView] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class LinkView:
    """A connected peer of a data set: how many pieces it has, bytes per second from and to it.

    `peer` is `tcp:<ip>:<port>` for an ordinary BitTorrent client; `client`: the program that it says it is.
    """

    peer: str
    pieces: int
    rate_down: float
    rate_up: float
    client: str = ""


@dataclass(frozen=True, slots=True)
class DatasetView:
    """`have` of `pieces` are on disk and verified, `wanted` is how many this node asks for, `missing` how
    many of these are not here yet.

    `sources` and `sent` are verified bytes received and sent by peer id; `rate_down` and `rate_up` are bytes
    per second. `in_place`: seeded from the user's own files. `problem` is empty when all is well.
    `copies`: of the whole, here and among the connected peers; the integer part are those of the rarest
    piece, the fraction is the share of the pieces that have more. `eta_s`: seconds until nothing is missing,
    null when nothing comes in.
    `infohash_v2` is empty for a v1 torrent. `piece_map`: up to 64 runs of pieces, `#` all here, `+` some,
    `.` none, `-` none and none wanted. `links`: the peers that are connected for it.
    """

    infohash: str
    name: str
    size: int
    private: bool
    in_place: bool
    complete: bool
    have: int
    pieces: int
    wanted: int
    peers: int
    rate_down: float
    rate_up: float
    sources: dict[str, int]
    sent: dict[str, int]
    files: list[FileView]
    folder: str
    torrent_file: str
    problem: str = ""
    infohash_v2: str = ""
    paused: bool = False
    piece_map: str = ""
    links: list[LinkView] = field(default_factory=list)
    missing: int = 0
    copies: float = 0.0
    eta_s: float | None = None


@dataclass(frozen=True, slots=True)
class StartedJobView:
    """A job that was taken on; events of it have ids greater than `events_after`."""

    id: str
    events_after: int


@dataclass(frozen=True, slots=True)
class QuotedPeerView:
    """A peer that would be invited now."""

    name: str
    peer: str
    rating: int
    busy: bool


@dataclass(frozen=True, slots=True)
class QuoteView:
    """What a job would take: amounts in base units, sizes in bytes.

    Args:
        peers: who would be invited now, in this order; `needed` of them at least.
        balance: of this node's account.
        settle_every: rounds between payments.
        fees: at most, of opening and settling.
        clients: logical clients; 0 where it depends on who joins and nobody is there.
        params: values of the model.
        samples: of the training data, without those held back.
        price: of one sample in one epoch.
        steps: most optimizer steps of one task.
        shards: to send before the first round, to all peers together.
        per_round: models down and updates up in one round, for all peers together.
        unknown: why the numbers of the data (params and after) are not known; empty when they are.
    """

    name: str
    rounds: int
    budget: int
    balance: int
    settle_every: int
    fees: int
    needed: int
    peers: list[QuotedPeerView]
    clients: int = 0
    params: int = 0
    samples: int = 0
    price: int = 0
    steps: int = 0
    shards: int = 0
    per_round: int = 0
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class EventView:
    id: int
    kind: str
    data: dict[str, Any]
