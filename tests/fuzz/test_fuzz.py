"""Every decoder against a bounded number of mutated inputs; `python -m tests.fuzz --help` for longer runs."""

from __future__ import annotations

import pytest

from p2pml.net.errors import Malformed
from tests.fuzz.registry import targets
from tests.fuzz.runner import Feed, Finding, Target, decoder, fuzz

TARGETS = targets()


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_only_the_remote_error_escapes(name: str) -> None:
    tally = fuzz(TARGETS[name])
    assert 0 < tally.taken < tally.inputs == TARGETS[name].runs


def test_every_package_with_decoders_has_targets() -> None:
    kinds = {target.error.__module__.split(".errors")[0] for target in TARGETS.values()}
    assert kinds == {"chain", "torrent", "p2pml.net", "p2pml.formats", "p2pml.worker.protocol"}


def _greedy(data: bytes) -> None:
    if len(data) != data[0]:
        raise Malformed("length")


def _part_by_part() -> Feed:
    seen = bytearray()

    def feed(data: bytes) -> None:
        seen.extend(data)
        if len(data) == 1 and len(seen) > 6:  # a mistake that only shows when the bytes come one by one
            raise Malformed("too long")

    return feed


@pytest.mark.parametrize(
    ("target", "finding"),
    [
        (decoder("leaky", _greedy, Malformed, [b"\x02a"]), "leaky: IndexError: .*\ninput: $"),
        (
            Target("cut", _part_by_part, (b"123456",), Malformed, parts=True),
            "cut: AssertionError: byte by byte",
        ),
        (decoder("strict", _greedy, Malformed, [b"\x03a"]), "strict refuses its own seed 0361"),
    ],
    ids=lambda value: value.name if isinstance(value, Target) else "",
)
def test_the_runner_finds_what_it_looks_for(target: Target, finding: str) -> None:
    with pytest.raises(Finding, match=finding):
        fuzz(target)


def test_the_same_seed_makes_the_same_inputs() -> None:
    seen: list[list[bytes]] = []
    for seed in (5, 5, 6):
        inputs: list[bytes] = []
        fuzz(decoder("listener", inputs.append, Malformed, [b"seed"]), seed, runs=50)
        seen.append(inputs)
    assert seen[0] == seen[1] != seen[2]
