"""From a challenge to the leaves of a trace, with any kernel; and the replay of what somebody claims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from chain.baseline.draws import batch_words, episode_seed
from chain.baseline.net import Net
from chain.baseline.trace import Leaf, state_digest
from chain.errors import ChainError


class Trainer(Protocol):
    """A kernel: one network in training on one data set."""

    @property
    def net(self) -> Net: ...

    @property
    def count(self) -> int:
        """Samples that batches are drawn from."""

    def begin(self, seed: bytes) -> None:
        """Fresh weights of an episode's seed."""

    def step(self, rows: npt.NDArray[np.intp]) -> None:
        """One step on the samples of those rows."""

    def state(self) -> bytes:
        """Master weights as `state_digest` has them."""


def batches(net: Net, count: int, seed: bytes, segment: int) -> npt.NDArray[np.intp]:
    """Which samples each step of a segment takes: intp [steps, batch], each below `count`.

    A sample may come more than once. The remainder favours low rows by less than count / 2^32.
    """
    words = np.frombuffer(batch_words(net, seed, segment), "<u4")
    return (words % np.uint32(count)).astype(np.intp).reshape(net.steps, net.batch)


def train(trainer: Trainer, challenge: bytes, episode: int) -> Iterator[Leaf | None]:
    """Train an episode from its beginning: None after each step, and a leaf at the end of each segment.

    The caller decides how far: a lane stops when the window ends, and rests between steps.
    """
    seed = episode_seed(challenge, episode)
    trainer.begin(seed)
    for segment in range(trainer.net.segments):
        for rows in batches(trainer.net, trainer.count, seed, segment):
            trainer.step(rows)
            yield None
        yield Leaf(episode, segment, state_digest(challenge, episode, segment, trainer.state()))


def replay(trainer: Trainer, challenge: bytes, episode: int, first: int, last: int) -> tuple[Leaf, ...]:
    """The true leaves of segments `first` to `last` of an episode, trained anew from its beginning.

    What an auditor compares with a claim, and what a node executes to judge a fraud proof; it takes
    last + 1 segments of work. The trainer is left as it is after segment `last`.

    Raises:
        ChainError: segments that no episode has.
    """
    if not 0 <= first <= last < trainer.net.segments:
        raise ChainError(f"an episode has segments 0 to {trainer.net.segments - 1}, not {first} to {last}")
    leaves: list[Leaf] = []
    for leaf in train(trainer, challenge, episode):
        if leaf is not None:
            leaves.append(leaf)
            if leaf.segment == last:
                break
    return tuple(leaves[first:])


@dataclass(frozen=True, slots=True)
class Looked:
    """What a replay saw of a segment: its true leaf, and the state (`Trainer.state`) after a step inside."""

    leaf: Leaf
    state: bytes


def look(trainer: Trainer, challenge: bytes, episode: int, steps: Mapping[int, int]) -> tuple[Looked, ...]:
    """Look at some segments of an episode, trained anew from its beginning through the last of them.

    What auditors do: the state inside a segment shows that it was replayed, since no leaf tells it.

    Args:
        steps: by segment, after which of its steps, from 0, the state is taken.

    Returns:
        One for each of the segments, ascending.

    Raises:
        ChainError: segments or steps that no episode has.
    """
    net = trainer.net
    if not steps or not all(0 <= s < net.segments and 0 <= k < net.steps for s, k in steps.items()):
        raise ChainError(f"an episode has {net.segments} segments of {net.steps} steps, not {dict(steps)}")
    found: list[Looked] = []
    state, step = b"", 0
    for leaf in train(trainer, challenge, episode):
        if leaf is None:
            segment, within = divmod(step, net.steps)
            if steps.get(segment) == within:
                state = trainer.state()
            step += 1
        elif leaf.segment in steps:
            found.append(Looked(leaf, state))
            if leaf.segment == max(steps):
                break
    return tuple(found)
