"""The tree of blocks and which tip is the head.

From the highest justified checkpoint the votes decide (`chain.ghost`). Where they are equal, as without any,
the heaviest chain wins: a block weighs W >> rank, so a slot filled by its first choice counts twice as much
as one filled by the next; then lower rank, the hash of the VRF output, the id. Only what does not descend
from the last final block can no longer be built on: while nothing becomes final everything is kept, so two
halves of a network that were parted for however long find one head again.
`Chain` has one owner; it does no IO and is told the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chain.content import has_content
from chain.crypto import H
from chain.errors import (
    FutureBlock,
    InvalidBlock,
    InvalidError,
    InvalidVote,
    StaleBlock,
    UnknownParent,
    UnknownVoter,
)
from chain.evidence import Evidence, TwoVotes
from chain.finality import epoch_of
from chain.genesis import Genesis
from chain.ghost import LatestVotes, Subtree
from chain.header import SealedHeader
from chain.orphans import Orphans
from chain.rating.accusing import Case
from chain.rating.court import Court
from chain.recent import Recent
from chain.state import State, genesis_state
from chain.transition import apply_body, check_sealed, slot_of
from chain.tree import BlockTree, Head, Node
from chain.types import Block
from chain.votes import Checkpoint, Vote

KEEP = 256
_BOOST = b"boost"
"""Stands for a voter beside the accounts, which are of 32 bytes."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A valid block has joined the tree, on the best branch or not; store it."""

    block: Block
    state: State


@dataclass(frozen=True, slots=True)
class HeadChanged:
    """Another tip is best now.

    Args:
        old, new: the heads.
        reverted: blocks that are no longer on the best branch, newest first.
        applied: blocks that are now on it, oldest first.
    """

    old: Head
    new: Head
    reverted: tuple[Block, ...]
    applied: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Unjudged:
    """A block that is valid if its rulings are right: let the court judge these cases, and offer it again.

    It is not kept here meanwhile.
    """

    block: Block
    cases: tuple[Case, ...]


Outcome = Accepted | HeadChanged | Unjudged


@dataclass(frozen=True, slots=True)
class Start:
    """A final block that a chain begins with in place of the genesis.

    Args:
        state: after the block.
        sealed: its header.
        below: ids of its ancestors, ascending up to its parent, as far as they are known.
    """

    state: State
    sealed: SealedHeader
    below: tuple[bytes, ...] = ()


class Chain:
    """All blocks from the last final one on, those of the last `keep` heights, and the choice among them.

    Args:
        genesis: the founding document.
        keep: how many blocks below the head stay in memory even if they are final, at least 1.
        outputs: VRF outputs of sealed headers that were checked, by a hash of all their bytes. A header names
            its parent and with it the parent's whole state, so the result is the same for everybody: many
            chains of one process (the simulator) may share one memory. None: a memory of its own.
        start: begin with this block, which is believed to be final, and not with the genesis.
    """

    def __init__(
        self,
        genesis: Genesis,
        keep: int = KEEP,
        outputs: Recent[bytes, bytes] | None = None,
        start: Start | None = None,
    ) -> None:
        self.genesis = genesis
        self._keep = max(1, keep)
        state = genesis_state(genesis) if start is None else start.state
        sealed = None if start is None else start.sealed
        head = Head(state.block_id, state.height, state.slot, state.weight, sealed)
        self._best = Node(None, state, head, (-state.weight, 0, b"", head.id), state.slot)
        self._tree = BlockTree(self._best, () if start is None else start.below)
        self._votes = LatestVotes()
        if start is not None:
            self._silence_convicted(state)
        self._subtree = Subtree(head.id, self._best.preference)
        # The least number that the block has as a checkpoint: if it is justified with a greater one, the
        # votes for that are in blocks to come. Lower numbers are its ancestors', and settled.
        number = -(-state.slot // genesis.params.checkpoint_slots)
        self._justified = self._final = Checkpoint(number, head.id)
        self._voice = state.table(epoch_of(self._justified, genesis.params))
        self._boosted: tuple[int, bytes] = (0, b"")
        self._orphans = Orphans()
        self._bad: Recent[bytes, bool] = Recent(4096)
        self._outputs: Recent[bytes, bytes] = Recent(1024) if outputs is None else outputs

    # -- looking ---------------------------------------------------------------------------------------

    @property
    def head(self) -> Head:
        """The best tip."""
        return self._best.head

    @property
    def final_height(self) -> int:
        """The height of the last final block, which will never be reverted."""
        return self._tree.final_height

    @property
    def justified(self) -> Checkpoint:
        """The highest justified checkpoint of any branch; the head descends from it."""
        return self._justified

    @property
    def votes(self) -> LatestVotes:
        """What the voters said lately."""
        return self._votes

    def evidence(self) -> tuple[Evidence, ...]:
        """What convicts validators, as far as this node has seen it; some may be punished already."""
        pairs = self._votes.convicted.values()
        return (*(TwoVotes(one, other) for one, other in pairs), *self._tree.equivocations.values())

    def state(self, block_id: bytes | None = None) -> State:
        """The state after a kept block, after the head by default. Raises UnknownBlock."""
        return self._best.state if block_id is None else self._tree.node(block_id).state

    def content_slot(self, block_id: bytes | None = None) -> int:
        """Slot of the latest block with content up to a kept block, the head by default; 0 if there is none.

        See `chain.content`. Raises UnknownBlock.
        """
        return (self._best if block_id is None else self._tree.node(block_id)).content_slot

    def has(self, block_id: bytes) -> bool:
        """Whether the block is in the kept part of the tree or on the best branch below it."""
        return block_id in self._tree.nodes or block_id in self._tree.height_of

    def block(self, block_id: bytes) -> Block | None:
        """A kept block; None for the genesis and for what is not kept."""
        node = self._tree.nodes.get(block_id)
        return node.block if node else None

    def header(self, block_id: bytes) -> Head:
        """Height, slot and weight of a kept block. Raises UnknownBlock."""
        return self._tree.node(block_id).head

    def ancestors(self, block_id: bytes) -> Iterator[Block]:
        """The block and its kept ancestors, newest first. Raises UnknownBlock."""
        return self._tree.ancestors(block_id)

    def canonical_id(self, height: int) -> bytes | None:
        """The id at that height of the best branch, however deep; None where it is not known."""
        return self._tree.canonical(height)

    def is_canonical(self, block_id: bytes) -> bool:
        """Whether the block is on the best branch."""
        return block_id in self._tree.height_of

    def height_of(self, block_id: bytes) -> int | None:
        """The height of a block on the best branch."""
        return self._tree.height_of.get(block_id)

    def locator(self) -> tuple[bytes, ...]:
        """Ids of the best branch from the head down, dense at first, then ever sparser, the lowest last."""
        heights: list[int] = []
        height, step, lowest = self.head.height, 1, self._tree.known_from
        while height > lowest:
            heights.append(height)
            if len(heights) >= 10:
                step *= 2
            height -= step
        found = (self._tree.canonical(height) for height in [*heights, lowest])
        return tuple(block_id for block_id in found if block_id is not None)

    def common_height(self, locator: Sequence[bytes]) -> int | None:
        """The height of the first of these ids that is on the best branch; None if none is."""
        return next((self._tree.height_of[i] for i in locator if i in self._tree.height_of), None)

    def missing_parents(self) -> tuple[bytes, ...]:
        """Ids of blocks that orphans wait for."""
        return self._orphans.parents()

    def sealed_by(self, proposer: bytes, timestamp_ms: int) -> int:
        """How many kept blocks a proposer sealed for one slot; more than one is equivocation."""
        return self._tree.sealed_by(proposer, timestamp_ms)

    def validator_sealed(self, sealed: SealedHeader) -> bool:
        """Whether a validator of today sealed this header: all that can be said without its parent."""
        known = self._best.state.tables.knows(sealed.proposer)
        return known and sealed.path_ok() and sealed.seal_ok(self.genesis.chain_id)

    # -- blocks ----------------------------------------------------------------------------------------

    def ready_at_ms(self, sealed: SealedHeader) -> int:
        """The time from which a block is looked at: its rank's turn in its slot, less the clock skew."""
        params = self.genesis.params
        return sealed.timestamp_ms + sealed.rank * params.rank_step_ms - params.skew_ms

    def check_header(self, sealed: SealedHeader, now_ms: int) -> None:
        """Check a sealed header alone, as gossip must before it passes a block on.

        Raises InvalidBlock, UnknownParent, StaleBlock or FutureBlock. `on_block` reuses the result.
        """
        self._check_time(sealed, now_ms)
        self._check_depth(sealed)
        parent = self._tree.nodes.get(sealed.prev)
        if parent is None:
            raise UnknownParent(sealed.prev)
        self._output(parent.state, sealed, verify_seals=True)

    def on_block(
        self, block: Block, now_ms: int, *, verify_seals: bool = True, court: Court | None = None
    ) -> tuple[Outcome, ...]:
        """Take a block into the tree; orphans that waited for it follow.

        Args:
            block: as decoded.
            now_ms: Unix time in milliseconds.
            verify_seals: False believes signature and VRF proof: for blocks read from the own database.
            court: knows which rulings are right; without it they are believed.

        Returns:
            Accepted and Unjudged per new block, then at most one HeadChanged; nothing for a known block.

        Raises:
            InvalidBlock: it breaks a rule; these bytes are not looked at again.
            UnknownParent: it is kept as an orphan until the parent comes.
            StaleBlock: it forks off below what is kept.
            FutureBlock: it is not kept; offer it again at `ready_at_ms`.
        """
        if self.has(block.block_id):
            return ()
        if block.fingerprint in self._bad:
            raise InvalidBlock("these bytes were found bad before")
        self._check_time(block.sealed, now_ms)
        self._check_depth(block.sealed)
        if block.prev not in self._tree.nodes:
            self._adopt(block)
            raise UnknownParent(block.prev)
        old = self._best
        taken = [self._insert(block, verify_seals, court)]
        waiting = [block.block_id] if isinstance(taken[0], Accepted) else []
        while waiting:
            for orphan in self._orphans.release(waiting.pop()):
                try:
                    taken.append(self._insert(orphan, True, court))
                except InvalidError:
                    continue  # remembered as bad; its sender is not the one who is talking to us now
                if isinstance(taken[-1], Accepted):
                    waiting.append(orphan.block_id)
        for outcome in taken:
            if isinstance(outcome, Accepted):
                self._boost(outcome.block, now_ms)
        self._choose(now_ms)
        return (*taken, *self._settle(old))

    def check_vote(self, vote: Vote, now_ms: int) -> None:
        """Whether a vote may be taken and passed on. Raises InvalidVote; UnknownVoter if that is no lie.

        Its head need not be known here. It is early before its slot, but for the skew of clocks.
        """
        params = self.genesis.params
        if now_ms < self.genesis.slot_start_ms(vote.slot) - params.skew_ms:
            raise InvalidVote("the vote is from the future")
        if vote.link.target.number != vote.slot // params.checkpoint_slots:
            raise InvalidVote("the vote's target is not the checkpoint of its slot")
        if vote.link.source.number >= vote.link.target.number:
            raise InvalidVote("a link leads upwards")
        table = self._best.state.table(epoch_of(vote.link.target, params))
        if not table.voice(vote.voter) and not self._voice.voice(vote.voter):
            raise UnknownVoter("this account has no vote here")
        if not vote.signed_for(self.genesis.chain_id):
            raise InvalidVote("the signature does not hold")

    def on_vote(self, vote: Vote, now_ms: int) -> tuple[HeadChanged, ...]:
        """Take a vote into account.

        Returns:
            At most one HeadChanged.

        Raises:
            InvalidVote: see `check_vote`.
        """
        self.check_vote(vote, now_ms)
        if not self._votes.add(vote):
            return ()
        self._hear(vote.voter)
        old = self._best
        self._choose(now_ms)
        return self._settle(old)

    def _check_time(self, sealed: SealedHeader, now_ms: int) -> None:
        slot_of(self._best.state, sealed.timestamp_ms)
        ready = self.ready_at_ms(sealed)
        if now_ms < ready:
            raise FutureBlock(ready)

    def _check_depth(self, sealed: SealedHeader) -> None:
        if sealed.height <= self._tree.final_height:
            raise StaleBlock(f"the block forks off below the final height {self._tree.final_height}")
        if sealed.prev not in self._tree.nodes and sealed.prev in self._tree.height_of:
            raise StaleBlock(f"the block forks off below height {self._tree.lowest}")

    def _adopt(self, block: Block) -> None:
        """Keep an orphan if a validator really sealed it; otherwise anybody could fill the pool."""
        if not self.validator_sealed(block.sealed):
            self._bad.put(block.fingerprint, True)
            raise InvalidBlock("an orphan that no validator sealed")
        self._orphans.add(block)

    def _output(self, parent: State, sealed: SealedHeader, *, verify_seals: bool) -> bytes:
        key = H("sealed", sealed.encoded)
        beta = self._outputs.get(key)
        if beta is None:
            beta = check_sealed(parent, sealed, verify_seals=verify_seals)
            self._outputs.put(key, beta)
        return beta

    def _insert(self, block: Block, verify_seals: bool, court: Court | None) -> Accepted | Unjudged:
        parent = self._tree.nodes[block.prev]
        try:
            beta = self._output(parent.state, block.sealed, verify_seals=verify_seals)
            state = apply_body(parent.state, block, beta, verify_votes=verify_seals)
            unknown = court.open_cases(parent.state, state.slot, block.body) if court else ()
        except InvalidError:
            self._bad.put(block.fingerprint, True)
            raise
        if unknown:
            return Unjudged(block, unknown)
        head = Head(block.block_id, state.height, state.slot, state.weight, block.sealed)
        content_slot = state.slot if has_content(parent.state, block) else parent.content_slot
        preference = (-state.weight, block.sealed.rank, H("tie", beta), head.id)
        node = Node(block, state, head, preference, content_slot)
        self._tree.add(block, node)
        self._grow(node, block.prev)
        for vote in block.body.votes:
            if self._votes.add(vote):
                self._hear(vote.voter)
        convicted = [evidence.offender for evidence in block.body.evidence]
        for public in (*convicted, *(ruling.loser for ruling in block.body.rulings)):
            self._votes.silence(public)
            self._hear(public)
        if state.finality.highest.number > self._justified.number:
            self._justify(state.finality.highest)
        if state.finality.final.number > self._final.number:
            self._final = state.finality.final
        return Accepted(block, state)

    def _silence_convicted(self, state: State) -> None:
        """Whom evidence in blocks that are not here has barred has no say, as if the blocks were here."""
        for validator in state.validators():
            if validator.barred_until > state.finality.epochs:
                self._votes.silence(validator.public)

    def _boost(self, block: Block, now_ms: int) -> None:
        """The first timely block of a slot's first choice is helped for the rest of its slot.

        Late votes for another branch, saved up by their voters, cannot outweigh it then.
        """
        slot = self._tree.nodes[block.block_id].head.slot
        half = self.genesis.slot_start_ms(slot) + self.genesis.params.slot_ms // 2
        if block.sealed.rank == 0 and now_ms < half and self._boosted[0] < slot:
            self._boosted = (slot, block.block_id)

    def _justify(self, point: Checkpoint) -> None:
        """Begin the choice at another checkpoint, and weigh the votes by its table."""
        self._justified = point
        root = self._tree.node(point.id)
        self._subtree = Subtree(point.id, root.preference)
        below = [point.id]
        while below:
            parent = below.pop()
            for kid in self._tree.children.get(parent, ()):
                self._grow(self._tree.nodes[kid], parent)
                below.append(kid)
        self._voice = root.state.table(epoch_of(point, self.genesis.params))
        for voter, _ in self._votes.heads():
            self._hear(voter)

    def _grow(self, node: Node, parent: bytes) -> None:
        """Let the choice reach a block, unless the justified checkpoint would be another one on its branch.

        That is so for a block of a skipped slot that comes late: on top of the checkpoint's block, but not
        after the checkpoint. Who signed a link from the checkpoint could never vote there.
        """
        after = node.head.slot > self._justified.number * self.genesis.params.checkpoint_slots
        if after or parent != self._justified.id:
            self._subtree.grow(node.head.id, parent, node.preference)

    def _hear(self, voter: bytes) -> None:
        """A voter has said something new, or is not listened to any more."""
        support = self._voice.voice(voter) if self._votes.counts(voter) else 0
        self._subtree.back(voter, self._votes.head_of(voter), support)

    def _choose(self, now_ms: int) -> None:
        """Find the best tip."""
        slot, block_id = self._boosted
        lasts = slot == self.genesis.slot_at(now_ms)
        boost = self._voice.voices * self.genesis.params.boost_percent // 100 if lasts else 0
        self._subtree.back(_BOOST, block_id, boost)
        self._best = self._tree.nodes[self._subtree.tip()]

    def _settle(self, old: Node) -> tuple[HeadChanged, ...]:
        """After the choice: switch branches, and forget what cannot be built on any more."""
        changed: tuple[HeadChanged, ...] = ()
        if self._best is not old:
            changed = (HeadChanged(old.head, self._best.head, *self._tree.switch(old, self._best)),)
        self._tree.finalize(self._tree.height_of.get(self._final.id, 0))
        self._tree.prune(self.head.height - self._keep)
        return changed
