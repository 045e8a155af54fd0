"""Seeded mutation fuzz of decoders: whatever a peer sends, only the package's own remote error may come out.

A target is a decoder with some valid inputs. Inputs are changed at random; those that the decoder still takes
join the pool, so that later ones start from unusual but valid forms. The same seed makes the same run.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

MAX_BYTES = 8192
"""Mutated inputs stay below this (or the size of the target's largest seed)."""
POOL = 400
"""Accepted mutants that are kept, besides the seeds."""
_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63, 2**64 - 1)

Feed = Callable[[bytes], Any]


@dataclass(frozen=True)
class Target:
    """A decoder.

    Attributes:
        name: unique.
        start: makes a fresh decoder; called with bytes it decodes them, or the next part of them, and may
            assert whatever must hold of the result.
        seeds: valid inputs, at least one.
        error: what it may raise.
        parts: whether the input may come in parts; then it is tried byte by byte too, and must end
            like the whole.
        tokens: byte strings worth inserting.
        runs: inputs of the bounded run, about a second of them.
    """

    name: str
    start: Callable[[], Feed]
    seeds: tuple[bytes, ...]
    error: type[Exception]
    parts: bool = False
    tokens: tuple[bytes, ...] = ()
    runs: int = 20_000


def decoder(
    name: str, decode: Feed, error: type[Exception], seeds: Iterable[bytes], **options: Any
) -> Target:
    """A target that decodes its input at once."""
    return Target(name, lambda: decode, tuple(seeds), error, **options)


@dataclass
class Tally:
    """What became of the inputs."""

    inputs: int = 0
    taken: int = 0
    pool: list[bytes] = field(default_factory=list)


class Finding(AssertionError):
    """An input that broke the rule."""


def fuzz(target: Target, seed: int = 1, runs: int | None = None, seconds: float | None = None) -> Tally:
    """Try mutants of the seeds.

    Args:
        seed: of the mutations.
        runs: how many; the target's own number when None.
        seconds: go on for so long instead.

    Raises:
        Finding: with the input in hexadecimal.
    """
    rng = random.Random(f"{target.name} {seed}")
    tally = Tally()
    until = None if seconds is None else time.monotonic() + seconds
    for each in target.seeds:
        if not try_input(target, each):
            raise Finding(f"{target.name} refuses its own seed {each.hex()}")
    limit = max(MAX_BYTES, *map(len, target.seeds))
    while (tally.inputs < (runs or target.runs)) if until is None else (time.monotonic() < until):
        data = mutated(rng, target, tally.pool)[:limit]
        tally.inputs += 1
        if try_input(target, data):
            tally.taken += 1
            if len(tally.pool) < POOL:
                tally.pool.append(data)
            else:
                tally.pool[rng.randrange(POOL)] = data
    return tally


def try_input(target: Target, data: bytes) -> bool:
    """Whether the target takes `data`; whole and byte by byte. Raises Finding."""
    try:
        whole = _taken(target, [data])
        if target.parts and _taken(target, [data[i : i + 1] for i in range(len(data))]) != whole:
            raise AssertionError("byte by byte it ends differently")
    except Exception as error:
        shown = f"{type(error).__name__}: {error}"
        raise Finding(f"{target.name}: {shown[:300]}\ninput: {data.hex()}") from error
    return whole


def _taken(target: Target, parts: Iterable[bytes]) -> bool:
    feed = target.start()
    try:
        for part in parts:
            feed(part)
    except target.error:
        return False
    return True


def mutated(rng: random.Random, target: Target, pool: list[bytes]) -> bytes:
    """A seed or an accepted mutant with one to eight changes."""
    base = pool if pool and rng.random() < 0.6 else target.seeds
    data = bytearray(rng.choice(base))
    for _ in range(1 + min(rng.getrandbits(3), rng.getrandbits(3))):
        _change(rng, data, target, pool)
    return bytes(data)


def _change(rng: random.Random, data: bytearray, target: Target, pool: list[bytes]) -> None:
    start = rng.randint(0, len(data))
    stop = min(len(data), start + rng.choice((1, 1, 2, 4, 8, 16, 64)))
    kind = rng.randrange(8)
    if kind == 0 and data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 1 and start < len(data):
        data[start] = rng.choice((rng.getrandbits(8), 0, 0xFF, 0x80, 0x7F))
    elif kind == 2:
        data[start:start] = rng.randbytes(rng.choice((1, 1, 2, 5, 33)))
    elif kind == 3:
        del data[start:stop]
    elif kind == 4:
        data[start:start] = data[start:stop] * rng.choice((1, 1, 3, 40))
    elif kind == 5:
        size = rng.choice((1, 2, 4, 8))
        value = rng.choice((*_EDGES, len(data), len(data) - 1, stop)) % (1 << 8 * size)
        data[start : start + size] = value.to_bytes(size, rng.choice(("big", "little")))
    elif kind == 6 and target.tokens:
        data[start : rng.choice((start, stop))] = rng.choice(target.tokens)
    else:
        other = rng.choice((*target.seeds, *pool[-20:]))
        cut = rng.randint(0, len(other))
        data[start:] = other[cut:]
