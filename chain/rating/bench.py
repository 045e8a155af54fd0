"""What auditors and courts ask of a data set: episodes, trained anew on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

Counts = tuple[tuple[int, ...], ...]
"""[true class][predicted class]."""


class Bench(Protocol):
    """A data set, and a kernel to replay episodes on it; several threads ask at a time."""

    @property
    def tests(self) -> int:
        """Test samples."""

    def looks(
        self, challenge: bytes, episode: int, steps: Mapping[int, int]
    ) -> Mapping[int, tuple[bytes, bytes]]:
        """Train an episode from its beginning, once.

        Args:
            steps: by segment, a step of it.

        Returns:
            By segment, the digest of its true leaf and the state after that step, as
            `chain.baseline.trace.state_digest` has it.
        """

    def evaluate(self, challenge: bytes, episode: int, rows: Sequence[int]) -> tuple[bytes, Counts]:
        """Train a whole episode: the digest of its last leaf, and how it does on these test samples."""
