"""To be run in a process of its own: `python -m tests.chain.replay_program FILE [reversed]`, or with
`build SEED BLOCKS` instead of a file.

Prints the state root after each block of FILE, whose first line is the genesis and whose other lines are
blocks in hexadecimal; or after each block of a history that it builds itself. With `reversed`, dictionaries
of which only the content should count are filled in the opposite order.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from chain import rewards
from chain.finality import Finality
from chain.genesis import Genesis
from chain.state import State, genesis_state
from chain.tables import Tables
from chain.transition import apply_block
from chain.types import Block
from tests.chain.traffic import history


def backwards(mapping: Mapping[Any, Any]) -> dict[Any, Any]:
    return dict(reversed(list(mapping.items())))


def reverse_dictionaries() -> None:
    """What changes in a block, its ratings, the votes behind a link, the rewards: the other way round."""
    init, rated, counted, shares = State.__init__, Tables.rated, Finality.counted, rewards.voter_rewards

    def other_init(self: State, genesis: Genesis, *, own: dict[bytes, Any], **rest: Any) -> None:
        init(self, genesis, own=backwards(own), **rest)

    def other_counted(self: Finality, *given: Any) -> Finality:
        found = counted(self, *given)
        return replace(found, tallies=backwards(found.tallies))

    replaced: list[tuple[Any, str, Callable[..., Any]]] = [
        (State, "__init__", other_init),
        (Tables, "rated", lambda self, slot, entries: rated(self, slot, backwards(entries))),
        (Finality, "counted", other_counted),
        (rewards, "voter_rewards", lambda *given: backwards(shares(*given))),
    ]
    for owner, name, function in replaced:
        setattr(owner, name, function)


def write(path: Path, genesis: Genesis, blocks: Iterable[Block]) -> None:
    """What `replayed` reads."""
    lines = [genesis.to_json().encode().hex(), *(block.encode().hex() for block in blocks)]
    path.write_text("\n".join(lines))


def replayed(path: Path) -> list[str]:
    """The root after the genesis and after each block."""
    first, *lines = path.read_text().split()
    state = genesis_state(Genesis.from_json(bytes.fromhex(first)))
    roots = [state.root().hex()]
    for line in lines:
        state = apply_block(state, Block.decode(bytes.fromhex(line)))
        roots.append(state.root().hex())
    return roots


def roots_of(blocks: list[Block], world: Any) -> list[str]:
    """The same from a chain in memory."""
    states = [genesis_state(world.genesis), *(world.chain.state(block.block_id) for block in blocks)]
    return [state.root().hex() for state in states]


if __name__ == "__main__":
    if "reversed" in sys.argv:
        reverse_dictionaries()
    if sys.argv[1] == "build":
        built, made, _ = history(int(sys.argv[2]), int(sys.argv[3]))
        print("\n".join(roots_of(made, built)))
    else:
        print("\n".join(replayed(Path(sys.argv[1]))))
