"""On which data sets everybody can reveal how well they did: whatever their matrices say, they fit."""

from __future__ import annotations

from itertools import pairwise

import pytest

from chain.errors import ParamsError
from chain.rating.draws import EVALUATED
from chain.rating.items import MAX_RATING_ITEM_BYTES, Evaluation, ProvenLeaf, Reveal
from chain.rating.steps import MAX_CLASSES, MAX_SEGMENTS, check_data

LEVELS = (0, 128, 256, 65_536)
"""From here on a count takes more bytes."""
HASHES = (MAX_SEGMENTS // 8 - 1).bit_length()


def largest(classes: int, tests: int) -> int:
    """Bytes of a reveal whose counts are the most expensive ones, of as many episodes as may be."""
    cells, rest = [0] * classes**2, (tests + 1) // 2
    for below, level in pairwise(LEVELS):
        raised = min(len(cells), rest // (level - below))
        cells[:raised] = [level] * raised
        rest -= raised * (level - below)
    cells[0] += rest
    matrix = tuple(tuple(cells[row : row + classes]) for row in range(0, len(cells), classes))
    leaf = ProvenLeaf(MAX_SEGMENTS // 8 - 1, 2**63, 7, bytes(32), (bytes(32),) * HASHES)
    shown = (Evaluation(leaf, matrix),) * EVALUATED
    return len(Reveal(bytes(32), 2**48, bytes(32), shown, bytes(64)).encoded)


def taken(classes: int, tests: int) -> bool:
    try:
        check_data(classes, tests)
    except ParamsError:
        return False
    return True


@pytest.mark.parametrize("classes", [2, 10, 37, 45, 50, 60, MAX_CLASSES])
def test_matrices_that_are_taken_fit_into_an_item(classes: int) -> None:
    sizes = [1, 10_000, 300_000, *range(700_000, 800_000, 4_000), 2_000_000, 2**24, 2**25]
    fitting = [tests for tests in sizes if taken(classes, tests)]
    assert fitting == sizes[: len(fitting)]
    assert max(largest(classes, tests) for tests in fitting) <= MAX_RATING_ITEM_BYTES
    assert 700_000 in fitting, "no data set of today is refused"
    assert not taken(classes, 2**25 + 2)


def test_more_classes_than_a_matrix_has_are_refused() -> None:
    with pytest.raises(ParamsError, match="65 classes are more than the 64 of a matrix"):
        check_data(MAX_CLASSES + 1, 10)
    largest_at_the_border = largest(MAX_CLASSES, 760_000)
    assert not taken(MAX_CLASSES, 760_000)
    assert largest_at_the_border > 0.98 * MAX_RATING_ITEM_BYTES, "what is refused is not far from too much"
