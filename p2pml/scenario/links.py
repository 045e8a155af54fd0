"""A host's access link, as data.

A link is symmetric in its rate and acts on arrival in the rest: what a host sends and what it receives passes
at no more than `rate`; what it receives comes `delay_ms` ± `jitter_ms` later and is lost with probability
`loss`. Two hosts with the same link therefore see a round trip of twice its delay, and each direction loses
`loss` of its packets.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

_RATE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmg]?)bit(?:/s)?\s*", re.IGNORECASE)
_SCALE = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}
MIN_RATE = 8_000
MAX_DELAY_MS = 60_000.0
# A router's buffer holds about this much of its line; less starves a single TCP flow, more is only delay.
_QUEUE_S = 0.1
_MIN_QUEUE = 32 * 1024


def parse_rate(value: object) -> int:
    """A rate in bit/s from a number of bit/s or from text such as `"10 Mbit"` (decimal prefixes).

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return int(value)
    if isinstance(value, str) and (match := _RATE.fullmatch(value)):
        return int(float(match[1]) * _SCALE[match[2].lower()])
    raise ValueError(f"rate must be a number of bit/s or text such as '10 Mbit', not {value!r}")


@dataclass(frozen=True, slots=True)
class Link:
    """One host's access link; the default is a link that does nothing.

    Args:
        rate: bit/s of IP packets (headers counted, Ethernet framing not) in each direction; None is no limit.
        delay_ms: one-way delay of arriving packets, ms.
        jitter_ms: the delay varies uniformly by plus or minus this much, ms; at most `delay_ms`.
        loss: fraction of arriving packets that is lost, 0 to 1.
        queue_bytes: how much may wait for the rate before packets are dropped; None is 100 ms of the rate.

    Raises:
        ValueError: a value is out of range.
    """

    rate: int | None = None
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0
    queue_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.rate is not None and self.rate < MIN_RATE:
            raise ValueError(f"rate {self.rate} bit/s is below {MIN_RATE}")
        if not 0 <= self.delay_ms <= MAX_DELAY_MS:
            raise ValueError(f"delay_ms {self.delay_ms} is not within 0 to {MAX_DELAY_MS:.0f}")
        if not 0 <= self.jitter_ms <= self.delay_ms:
            raise ValueError(f"jitter_ms {self.jitter_ms} is not within 0 to delay_ms ({self.delay_ms})")
        if not 0 <= self.loss <= 1:
            raise ValueError(f"loss {self.loss} is a fraction from 0 to 1, not a percentage")
        if self.queue_bytes is not None and self.queue_bytes < 1600:
            raise ValueError(f"queue_bytes {self.queue_bytes} holds less than one packet")

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Link:
        """A link from a scenario file's mapping; the keys are this class's fields.

        Raises:
            ValueError: an unknown key or a value of the wrong kind or range.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"unknown link setting {unknown[0]!r}; known are {', '.join(sorted(known))}")
        checked: dict[str, float | int | None] = {}
        for key, value in values.items():
            if key == "rate":
                checked[key] = None if value is None else parse_rate(value)
            elif key == "queue_bytes" and value is None:
                checked[key] = None
            elif isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"link setting {key} must be a number, not {value!r}")
            else:
                checked[key] = int(value) if key == "queue_bytes" else float(value)
        return cls(**checked)  # type: ignore[arg-type]

    @property
    def delays(self) -> bool:
        """Whether arriving packets are delayed or lost at all."""
        return self.delay_ms > 0 or self.loss > 0

    @property
    def queue(self) -> int:
        """Bytes that may wait for the rate."""
        if self.queue_bytes is not None:
            return self.queue_bytes
        return max(_MIN_QUEUE, int((self.rate or 0) / 8 * _QUEUE_S))

    def __str__(self) -> str:
        rate = "no rate limit" if self.rate is None else f"{self.rate / 1e6:g} Mbit/s"
        return f"{rate}, {self.delay_ms:g} ms ± {self.jitter_ms:g} ms, {self.loss:.2%} lost"


UNSHAPED = Link()
