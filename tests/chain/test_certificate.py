"""Finality certificates: found in the blocks, checked by the table, and no fewer votes will do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from chain.certificate import Certificate, certify
from chain.errors import InvalidError, InvalidVote
from chain.state import State
from chain.types import Block
from chain.votes import Checkpoint, Link, Vote, sign_vote
from tests.chain.conftest import World
from tests.chain.snapshots import busy_world


@pytest.fixture(scope="module")
def world() -> World:
    return busy_world(20)


@pytest.fixture(scope="module")
def final(world: World) -> State:
    """The state after the last final block."""
    return world.chain.state(world.chain.canonical_id(world.chain.final_height))


@pytest.fixture(scope="module")
def certificate(world: World, final: State) -> Certificate:
    found = certify(final, after(world, final))
    assert found is not None
    return found


def after(world: World, state: State) -> list[Block]:
    found = [block for block in world.chain.ancestors(world.chain.head.id) if block.height > state.height]
    return found[::-1]


def test_the_votes_in_later_blocks_certify_a_final_block(
    world: World, final: State, certificate: Certificate
) -> None:
    certificate.check(final)
    assert Certificate.decode(certificate.encoded) == certificate
    assert {vote.link.target.id for vote in certificate.justifying} == {final.block_id}
    assert {vote.link.source.id for vote in certificate.finalizing} == {final.block_id}
    assert certify(final, after(world, final)[:1]) is None, "justified, not yet final"
    assert certify(world.state, []) is None


def test_it_is_for_no_other_block(world: World, final: State, certificate: Certificate) -> None:
    parent = world.chain.block(final.block_id)
    assert parent is not None
    with pytest.raises(InvalidVote, match="not for the block"):
        certificate.check(world.chain.state(parent.prev))


def moved(votes: tuple[Vote, ...], world: World, link: Link) -> tuple[Vote, ...]:
    """The same voters, for another link."""
    keys = {keys.public: keys.keypair for keys in world.validators}
    return tuple(
        sign_vote(keys[vote.voter], world.genesis.chain_id, vote.slot, link, vote.head) for vote in votes
    )


def too_few(it: Certificate, world: World) -> Certificate:
    return replace(it, finalizing=it.finalizing[:1])


def one_voter_many_times(it: Certificate, world: World) -> Certificate:
    vote = it.justifying[0]
    keypair = world.by_public[vote.voter].keypair
    again = (
        sign_vote(keypair, world.genesis.chain_id, vote.slot + i, vote.link, vote.head) for i in range(3)
    )
    return replace(it, justifying=tuple(again))


def unsigned(it: Certificate, world: World) -> Certificate:
    return replace(it, finalizing=tuple(replace(vote, signature=bytes(64)) for vote in it.finalizing))


def a_gap(it: Certificate, world: World) -> Certificate:
    link = it.finalizing[0].link
    far = Link(link.source, Checkpoint(link.target.number + 1, link.target.id))
    return replace(it, finalizing=moved(it.finalizing, world, far))


def backwards(it: Certificate, world: World) -> Certificate:
    link = it.justifying[0].link
    back = Link(Checkpoint(link.target.number, bytes(32)), link.target)
    return replace(it, justifying=moved(it.justifying, world, back))


def two_links(it: Certificate, world: World) -> Certificate:
    link = it.justifying[0].link
    other = moved(it.justifying[1:], world, Link(Checkpoint(0, bytes(32)), link.target))
    return replace(it, justifying=(it.justifying[0], *other))


def nothing(it: Certificate, world: World) -> Certificate:
    return Certificate((), it.finalizing)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (too_few, "two thirds"),
        (one_voter_many_times, "two thirds"),
        (unsigned, "signature"),
        (a_gap, "nothing final"),
        (backwards, "nothing final"),
        (two_links, "one link"),
        (nothing, "one link"),
    ],
)
def test_what_certifies_nothing(
    world: World,
    final: State,
    certificate: Certificate,
    make: Callable[[Certificate, World], Certificate],
    says: str,
) -> None:
    with pytest.raises(InvalidVote, match=says):
        make(certificate, world).check(final)


@pytest.mark.parametrize("data", [b"", b"\x90", b"\x92\x90\xc0", b"\x92\x90\x91\x90"])
def test_bytes_that_are_no_certificate(data: bytes) -> None:
    with pytest.raises(InvalidError):
        Certificate.decode(data)
