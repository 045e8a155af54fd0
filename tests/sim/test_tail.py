"""Withholding at the end of an epoch, on the draw alone."""

from __future__ import annotations

import pytest

from chain import lottery
from p2pml.sim.tail import best_reveal, bias

BETAS = [bytes([number]) * 64 for number in range(3)]
MIX = bytes(32)


def folded(*reveal: bool) -> bytes:
    mix = MIX
    for show, beta in zip(reveal, BETAS, strict=True):
        mix = lottery.next_mix(mix, beta) if show else mix
    return mix


def test_the_best_mix_is_found_whatever_it_takes() -> None:
    wanted = folded(False, True, False)
    assert best_reveal(MIX, BETAS, [1, 1, 1], lambda mix: 5 * (mix == wanted)) == (False, True, False)


def test_a_withheld_block_has_its_price() -> None:
    wanted = folded(False, True, False)
    assert best_reveal(MIX, BETAS, [1, 1, 1], lambda mix: 2 * (mix == wanted)) == (True, True, True)
    assert best_reveal(MIX, BETAS, [0, 1, 0], lambda mix: 2 * (mix == wanted)) == (False, True, False)


@pytest.mark.slow
def test_the_bias_is_small_and_grows_with_the_weight() -> None:
    found = [bias(1, weight, 1500) for weight in (0.1, 0.3)]
    gains = [each.blocks - each.weight for each in found]
    assert 0 < gains[0] < 0.006 < gains[1] < 0.03
    assert found[0].withheld < found[1].withheld < 0.01
