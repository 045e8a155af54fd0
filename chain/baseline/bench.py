"""A data set on which the claims of others are judged, with NumPy: what `chain.rating.court` and
`chain.rating.auditor` ask for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chain.baseline.dataset import Samples
from chain.baseline.episode import look, replay
from chain.baseline.kernel import NumpyTrainer
from chain.baseline.net import Net


@dataclass(frozen=True, slots=True, eq=False)
class NumpyBench:
    """A prepared data set. Each question trains a network of its own, so that threads may ask at a time."""

    net: Net
    train: Samples
    test: Samples

    @property
    def tests(self) -> int:
        """Test samples."""
        return len(self.test)

    def looks(
        self, challenge: bytes, episode: int, steps: Mapping[int, int]
    ) -> dict[int, tuple[bytes, bytes]]:
        """By segment of an episode: the digest of its true leaf, and the state after that step of it."""
        found = look(NumpyTrainer(self.net, self.train), challenge, episode, steps)
        return {seen.leaf.segment: (seen.leaf.digest, seen.state) for seen in found}

    def evaluate(
        self, challenge: bytes, episode: int, rows: Sequence[int]
    ) -> tuple[bytes, tuple[tuple[int, ...], ...]]:
        """The digest of an episode's last leaf, and how it does on these test samples: counts
        [true class][predicted class].
        """
        trainer, last = NumpyTrainer(self.net, self.train), self.net.segments - 1
        [leaf] = replay(trainer, challenge, episode, last, last)
        drawn = list(rows)
        return leaf.digest, trainer.confusion(Samples(self.test.x[drawn], self.test.y[drawn]))
