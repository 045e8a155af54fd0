"""docs/spec/lottery.md: a seed made of real VRF outputs, and the draw of one slot with it."""

from __future__ import annotations

from chain import lottery, vrf
from chain.crypto import H
from chain.producer import ranks_for
from tests.spec.example import DRAWN_SLOT, SEEDING, story
from tests.spec.markdown import hashed, table, values


def _table() -> str:
    told = story()
    weights = told.states[-1].table_at(DRAWN_SLOT)
    lines, low = [], 0
    for entry in weights.entries:
        lines.append(
            (
                f"`{entry.public.hex()}`",
                told.name(entry.public),
                entry.rating,
                f"{low}…{low + entry.rating - 1}",
            )
        )
        low += entry.rating
    shown = values(
        ("W", weights.total), "target = floor(2^256 / W)", ("target", lottery.target(weights.total))
    )
    return f"{table(('account', 'name', 'rating', 'rating units'), lines)}\n\n{shown}"


def _seed() -> str:
    told = story()
    genesis = told.world.genesis
    entries: list[tuple[str, object] | str] = [
        f"seed of epochs 0 to 2 = {hashed('seed-genesis', 'chain id', 'epoch as 8 bytes')}",
        ("chain id", genesis.chain_id),
        *[(f"seed of epoch {epoch}", lottery.genesis_seed(genesis.chain_id, epoch)) for epoch in range(3)],
        f"mix = {hashed('mix', 'mix before', 'VRF output')}, after each block of rank 0",
        ("mix at genesis", told.states[0].mix),
    ]
    for block, state in zip(told.blocks, told.states[1:], strict=True):
        beta = vrf.output(block.sealed.leaf0.vrf_proof)
        assert beta is not None
        assert block.sealed.rank == 0
        entries += [(f"output of slot {state.slot}", beta), (f"mix after slot {state.slot}", state.mix)]
    epoch = told.states[-1].epoch + SEEDING
    entries += [
        f"seed of a later epoch e = {hashed('seed', 'epoch as 8 bytes', 'mix at the end of epoch e − 2')}",
        (f"seed of epoch {epoch}", told.states[-1].seed(epoch)),
    ]
    return values(*entries)


def _draw() -> str:
    told = story()
    world, state = told.world, told.states[-1]
    seed, weights = state.seed_at(DRAWN_SLOT), state.table_at(DRAWN_SLOT)
    prefix = seed + DRAWN_SLOT.to_bytes(8, "big")
    entries: list[tuple[str, object] | str] = [
        f"draw r = {hashed('lead', 'seed', 'slot as 8 bytes', 'r as 1 byte', 'counter as 4 bytes')}",
        "unit r = draw r // target",
        ("slot", DRAWN_SLOT),
    ]
    for rank in range(world.genesis.params.ranks):
        digest = H("lead", prefix, rank.to_bytes(1, "big"), bytes(4))
        unit = int.from_bytes(digest, "big") // lottery.target(weights.total)
        winner = lottery.draw(seed, DRAWN_SLOT, rank, weights)
        assert weights.owner(unit) == winner
        uses = ranks_for(DRAWN_SLOT, world.by_public[winner.public].keypair, state) == (rank,)
        shown = told.name(winner.public) + ("" if uses else ", who has a lower rank already")
        entries += [(f"draw {rank}", digest), (f"unit {rank}", unit), (f"winner {rank}", shown)]
    return values(*entries)


def _vrf() -> str:
    told = story()
    world, state = told.world, told.states[-1]
    seed = state.seed_at(DRAWN_SLOT)
    winner = lottery.draw(seed, DRAWN_SLOT, 0, state.table_at(DRAWN_SLOT))
    alpha = lottery.alpha(world.genesis.chain_id, DRAWN_SLOT, seed)
    proof = vrf.prove(world.by_public[winner.public].vrf_seed, alpha)
    beta = vrf.verify(winner.vrf_public, alpha, proof)
    assert beta is not None
    return values(
        f"alpha = {hashed('alpha', 'chain id', 'slot as 8 bytes', 'seed')}",
        ("alpha", alpha),
        ("VRF key of winner 0", winner.vrf_public),
        "gamma (32 bytes) ‖ c (16) ‖ s (32), both numbers little-endian",
        ("proof", proof),
        "beta = SHA-512(03 03 ‖ 8 · gamma ‖ 00)",
        ("beta", beta),
    )


REGIONS = {"weight-table": _table, "seed": _seed, "draw": _draw, "vrf": _vrf}
