"""How a job's updates become one: the rules by name, with their arguments and bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from p2pml.formats import SpecError

RULES: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "mean": (frozenset(), frozenset()),
    "median": (frozenset(), frozenset()),
    "trimmed_mean": (frozenset(), frozenset({"trim"})),
    "robust": (frozenset(), frozenset({"zero", "clip"})),
    "dp": (frozenset({"noise", "clip"}), frozenset({"delta"})),
    "compressed": (frozenset(), frozenset()),
}
"""Rules, with the arguments that each needs and those that it may have besides."""

TFF = frozenset({"robust", "dp", "compressed"})
"""Rules that are TensorFlow Federated's aggregation factories, run in a process of their own."""

TFF_BYTES = 1 << 29
"""Most bytes of a round's updates together, as float32, that a rule of `TFF` takes: 0.5 GiB. It needs about
ten times as much memory, and a minute."""


@dataclass(frozen=True, slots=True)
class Aggregation:
    """A rule with its arguments.

    Args:
        rule: a key of `RULES`.
        trim: share of the clients left out at either end, 0 to below 0.5; trimmed_mean.
        zero: an update with a value of a larger magnitude counts as zeros; robust.
        clip: an update with a larger L2 norm is scaled to this one; robust and dp.
        noise: standard deviation of the noise on the sum of the updates, in units of clip; dp.
        delta: at which ε is told; dp.
    """

    rule: str = "mean"
    trim: float = 0.1
    zero: float | None = None
    clip: float | None = None
    noise: float | None = None
    delta: float = 1e-5

    @property
    def by_tff(self) -> bool:
        """Whether TensorFlow Federated carries it out."""
        return self.rule in TFF

    def check(self, given: frozenset[str]) -> Aggregation:
        """Return itself if it has what its rule needs, in bounds.

        Args:
            given: the names of the arguments that somebody wrote.

        Raises:
            SpecError: naming what is wrong.
        """
        if self.rule not in RULES:
            raise SpecError(f"unknown rule {self.rule!r}; known: {', '.join(RULES)}")
        needed, possible = RULES[self.rule]
        if missing := sorted(needed - given):
            raise SpecError(f"rule {self.rule!r} needs {' and '.join(missing)}")
        if other := sorted(given - needed - possible):
            takes = ", ".join(sorted(needed | possible)) or "none"
            raise SpecError(f"rule {self.rule!r} has no argument {other[0]!r}; it takes {takes}")
        if self.rule == "robust" and not given:
            raise SpecError("rule 'robust' needs zero, clip or both: bounds that suit this model's updates")
        self._check_bounds()
        return self

    def _check_bounds(self) -> None:
        if not 0 <= self.trim < 0.5:
            raise SpecError(f"trim is {self.trim}; it must be from 0 to below 0.5")
        if not 0 < self.delta < 1:
            raise SpecError(f"delta is {self.delta}; it must be between 0 and 1")
        for name in ("zero", "clip", "noise"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and 0 < value <= 1e6):
                raise SpecError(f"{name} is {value}; it must be over 0 and at most 1e6")
