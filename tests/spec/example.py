"""The chain that the pages' examples are from: three validators with fixed keys and a few slots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from chain import transactions
from chain.errors import DecodeError
from chain.params import DEMO, TOKEN
from chain.producer import ProposerKeys
from chain.state import State, genesis_state
from chain.training_records import settle_receipts
from chain.transactions import (
    DatasetRecord,
    JobCancel,
    JobClaim,
    JobOpen,
    JobSettle,
    Register,
    Transfer,
    Tx,
)
from chain.transition import apply_block
from chain.types import Block
from chain.votes import Vote
from tests.chain.conftest import JobWorld, World, seed32
from tests.chain.rating_window import BRIEF, Windows

RATINGS = (50, 30, 20)
VOTING = {1: (0, 1, 2), 2: (0, 1), 3: (0,), 4: (0, 1, 2)}
"""Who votes in which slot of the example: indexes of validators."""
LATER = (5, 6, *(DEMO.slots_per_epoch + slot for slot in (1, 2, 3)))
"""Slots after them in which a block comes and everybody votes; the last three are in epoch 1."""
SEEDING = 2
"""From an epoch to the one whose seed its mix makes."""
DRAWN_SLOT = (1 + SEEDING) * DEMO.slots_per_epoch + 2
"""A slot of epoch 3, whose seed is made of the outputs of the blocks before."""


@dataclass(frozen=True)
class Story:
    """The example's chain.

    Args:
        world: as it is at the end.
        blocks: from height 1 on.
        states: after each block, the genesis first.
    """

    world: World
    blocks: tuple[Block, ...]
    states: tuple[State, ...]

    def votes_at(self, slot: int) -> tuple[Vote, ...]:
        """The votes of a slot that some block holds."""
        votes = {vote for block in self.blocks for vote in block.body.votes if vote.slot == slot}
        return tuple(sorted(votes, key=lambda vote: vote.voter))

    def name(self, public: bytes) -> str:
        """v0, v1, v2: the name of a validator."""
        return next(f.name for f in self.world.genesis.validators if f.public == public)


@cache
def story() -> Story:
    """Blocks in the slots of VOTING and LATER; user 0 pays user 1 five tokens in each of the first four."""
    world = World(ratings=RATINGS, users=3)
    blocks: list[Block] = []
    states = [world.state]
    for slot in (*VOTING, *LATER):
        txs = [world.transfer(0, 1, 5 * TOKEN, until=100)] if slot in VOTING else []
        blocks.append(world.mine(*txs, slot=slot))
        states.append(world.state)
        world.cast(*(world.vote(voter) for voter in VOTING.get(slot, (0, 1, 2))))
    return Story(world, tuple(blocks), tuple(states))


def replayed(height: int) -> State:
    """The state after that many blocks, computed anew from the genesis: nothing is remembered."""
    told = story()
    state = genesis_state(replace(told.world.genesis))
    for block in told.blocks[:height]:
        state = apply_block(state, block)
    return state


@cache
def job_story() -> tuple[JobWorld, tuple[Tx, ...]]:
    """A job with one recorded and settled round, a dataset and a newcomer; one transaction of each type."""
    jobs = JobWorld(World(ratings=RATINGS, users=3))
    world = jobs.world
    receipts = [jobs.receipt(0, client) for client in range(2)]
    settled = settle_receipts(receipts)
    newcomer = ProposerKeys.from_seeds(seed32(3001), seed32(3501))
    register = Register(newcomer.public, newcomer.vrf_public, "newcomer", world.genesis.params.bond, 1)
    consent = newcomer.keypair.sign(register.signing_bytes(world.genesis.chain_id, world.users[1].public))
    known: dict[type, Any] = {
        Transfer: Transfer(world.users[2].public, 5 * TOKEN, "for the data"),
        Register: replace(register, consent=consent),
        DatasetRecord: DatasetRecord("digits", b"\x09" * 20, 60_000, "CC0-1.0", True),
        JobOpen: JobOpen(b"\x09" * 20, jobs.model, 3, 100, 50 * TOKEN, 200),
        JobSettle: JobSettle(jobs.id, settled[:1], final=False),
        JobClaim: JobClaim(jobs.id, settled[1:]),
        JobCancel: JobCancel(jobs.id),
    }
    txs = tuple(
        world.tx(world.users[1], known.get(kind) or _payload(kind), nonce=nonce, until=100)
        for nonce, (_, kind) in enumerate(sorted(transactions._PAYLOADS.items()))
    )
    world.mine(
        world.tx(world.users[1], known[DatasetRecord]),
        records=[jobs.record(0, receipts)],
    )
    world.mine(world.tx(jobs.requester, known[JobSettle]))
    return jobs, txs


@dataclass(frozen=True)
class WindowStory:
    """A rating window on a chain of its own, with shorter phases than a preset's.

    Args:
        world: as it is after the window.
        blocks: from height 1 on.
        announced, drawn, spotted: the states with the block that has announced the window, made its draw, and
            drawn spots.
    """

    world: World
    blocks: tuple[Block, ...]
    announced: State
    drawn: State
    spotted: State


@cache
def window_story() -> WindowStory:
    """Everybody takes part, v1 and v2 with more segments than v0; nobody looks for what is wrong."""
    windows = Windows(World(ratings=RATINGS, users=3, params=BRIEF))
    windows.announce()
    announced = windows.world.state
    windows.commit(0, 1, 2, segments=lambda who: 20 + 10 * who)
    windows.draw()
    drawn = windows.world.state
    windows.reveal(0, 1, 2)
    for slot in range(windows.borders.reveal_end, windows.borders.audit_reveal_end):
        windows.go(slot, windows.owed(slot))
    windows.go(windows.borders.audit_reveal_end)
    spotted = windows.world.state
    windows.end()
    chain = windows.world.chain
    blocks = tuple(reversed(list(chain.ancestors(chain.head.id))))
    return WindowStory(windows.world, blocks, announced, drawn, spotted)


def sample(kind: type, known: Mapping[str, Any] | None = None) -> Any:
    """An object of a dataclass: fields as `known` has them, else their defaults, else made of their types."""
    hints, given = get_type_hints(kind), dict(known or {})
    for each in fields(kind):
        if each.name not in given and each.default is MISSING:
            given[each.name] = _value(each.name, hints[each.name])
    return kind(**{each.name: given[each.name] for each in fields(kind) if each.name in given})


def _payload(kind: type) -> Any:
    """A payload of a type that has no example here."""
    found = sample(kind)
    try:
        kind.from_item(found.to_item())  # type: ignore[attr-defined]
    except DecodeError as error:
        raise SystemExit(f"give an example of {kind.__name__} in tests/spec/example.py: {error}") from None
    return found


def _value(name: str, hint: Any) -> Any:
    """Of a union the alternative that is simple: an id stands for what it names."""
    simple = {bytes: seed32(7), int: 1, str: "example", bool: True}
    if hint in simple:
        return simple[hint]
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        return (_value(name, inner),) if inner in simple else ()
    if get_origin(hint) in (Union, UnionType):
        return next((simple[each] for each in get_args(hint) if each in simple), None)
    return sample(hint) if is_dataclass(hint) and isinstance(hint, type) else None
