"""The largest update that is accepted; what else is refused has its tests with the jobs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from p2pml.formats import tensors
from p2pml.node.update_check import BadUpdate, check, largest_norm


def test_the_bound_grows_with_the_model_and_is_the_owners_to_set() -> None:
    small, large = tensors.encode([np.full(4, 0.1)]), tensors.encode([np.full(100, 3.0)])
    assert largest_norm("auto", small) == 100
    assert largest_norm("auto", large) == pytest.approx(100 * 30)
    assert largest_norm(0.5, large) == 0.5


@pytest.mark.parametrize(("bound", "accepted"), [(5.0, True), (4.99, False)])
def test_the_norm_is_that_of_all_tensors_together(tmp_path: Path, bound: float, accepted: bool) -> None:
    data = tensors.encode([np.array([3.0]), np.array([0.0, -4.0])])
    path = tmp_path / "update"
    path.write_bytes(data)
    arguments = path, tensors.digest(data), "float32", [(1,), (2,)], bound
    if accepted:
        check(*arguments)
        return
    with pytest.raises(BadUpdate, match=r"its norm is 5, at most 4.99 is accepted") as caught:
        check(*arguments)
    assert caught.value.deed is None
