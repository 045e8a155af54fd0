"""docs/spec/finality.md: votes that become justified and final checkpoints, and the choice at a fork."""

from __future__ import annotations

from collections import defaultdict
from functools import cache

from chain.codec import pack
from chain.finality import epoch_of
from chain.forkchoice import Chain
from chain.types import Block
from chain.votes import Vote, sign_vote
from tests.chain.conftest import World
from tests.spec.block_regions import encoding
from tests.spec.example import RATINGS, VOTING, story
from tests.spec.markdown import hashed, table, values


def _vote() -> str:
    told = story()
    vote = told.votes_at(max(VOTING))[0]
    chain_id = told.world.genesis.chain_id
    shown = values(
        f"signed = {hashed('vote', 'chain id', 'the vote without its signature')}",
        ("chain id", chain_id),
        ("vote without signature", pack(vote.to_item()[:-1])),
        ("signed", vote.signing_bytes(chain_id)),
        ("voter", vote.voter),
        ("signature", vote.signature),
    )
    return f"{encoding('vote', vote, vote.encoded, Vote.decode)}\n\n{shown}"


def _slots() -> str:
    told = story()
    lines = []
    for block, state in zip(told.blocks, told.states[1:], strict=True):
        if state.slot > max(VOTING) + 2:
            break
        links: dict[tuple[int, int], list[str]] = defaultdict(list)
        weight: dict[tuple[int, int], int] = defaultdict(int)
        for vote in block.body.votes:
            link = (vote.link.source.number, vote.link.target.number)
            links[link].append(told.name(vote.voter))
            weight[link] += state.table(epoch_of(vote.link.target, told.world.genesis.params)).voice(
                vote.voter
            )
        lines.append(
            (
                state.slot,
                f"`{block.block_id.hex()[:8]}…`",
                "; ".join(f"{a} → {b} by {', '.join(sorted(who))}" for (a, b), who in links.items())
                or "none",
                "; ".join(str(weight[link]) for link in links) or "0",
                state.finality.highest.number,
                state.finality.final.number,
            )
        )
    voices = told.states[0].table(0).voices
    head = ("block of slot", "id", "votes in it", f"weight, of {voices}", "justified", "final")
    return table(head, lines)


@cache
def _forked() -> tuple[World, dict[str, Block]]:
    """a ← b and a ← c ← d ← e: all from slots of rank 0, nothing voted yet."""
    world = World(ratings=RATINGS, users=0)
    blocks: dict[str, Block] = {}
    for slot, (name, parent) in enumerate((("a", ""), ("b", "a"), ("c", "a"), ("d", "c"), ("e", "d")), 1):
        above = blocks[parent].block_id if parent else world.genesis.chain_id
        blocks[name] = world.build(slot=slot, parent=above)
        world.chain.on_block(blocks[name], world.time_of(blocks[name]))
    return world, blocks


def _fork() -> str:
    world, blocks = _forked()
    chain = Chain(world.genesis)
    for name in "abcd":
        world.give(blocks[name], chain)
    said = []

    def vote(voter: int, slot: int, name: str) -> None:
        state = chain.state(blocks[name].block_id)
        link = state.finality.next_link(slot, state.slot, state.block_id)
        assert link is not None
        keys = world.validators[voter].keypair
        given = sign_vote(keys, world.genesis.chain_id, slot, link, state.block_id)
        world.cast(given, chain=chain)

    vote(0, 4, "b")
    vote(1, 4, "d")
    said.append(("v0 votes for b, v1 for d", _weighed(chain, world, blocks)))
    late = blocks["e"].sealed.timestamp_ms
    chain.on_block(blocks["e"], late)
    said.append(("block e comes at the start of its slot: the boost", _weighed(chain, world, blocks, "e")))
    vote(2, 5, "b")
    said.append(("its slot is over, and v2 votes for b", _weighed(chain, world, blocks)))
    drawn = [f"```\n# {what}\n{tree}\n```" for what, tree in said]
    return "\n\n".join(drawn)


def _weighed(chain: Chain, world: World, blocks: dict[str, Block], boosted: str = "") -> str:
    """The tree with the weight of every subtree, and the head that the chain has chosen."""
    names = {block.block_id: name for name, block in blocks.items() if chain.has(block.block_id)}
    children: dict[str, list[str]] = defaultdict(list)
    for block_id, name in names.items():
        children[names.get(blocks[name].prev, "")].append(name)
        assert blocks[name].block_id == block_id
    weights = chain.state().table(0)
    own: dict[str, int] = defaultdict(int)
    for voter, head in chain.votes.heads():
        own[names[head]] += weights.voice(voter)
    if boosted:
        own[boosted] += weights.voices * world.genesis.params.boost_percent // 100

    def total(name: str) -> int:
        return own[name] + sum(map(total, children[name]))

    def lines(name: str, margin: str, deeper: str) -> list[str]:
        slot = world.genesis.slot_at(blocks[name].sealed.timestamp_ms)
        mark = "  ← head" if chain.head.id == blocks[name].block_id else ""
        found = [f"{margin}{name}  slot {slot}  weight {total(name)}{mark}"]
        for place, child in enumerate(children[name]):
            last = place == len(children[name]) - 1
            arm, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
            found += lines(child, deeper + arm, deeper + below)
        return found

    return "\n".join(lines("a", "", ""))


REGIONS = {"vote": _vote, "four-slots": _slots, "fork": _fork}
