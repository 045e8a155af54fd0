from __future__ import annotations

import pytest

from p2pml.formats import SpecError
from p2pml.formats.optimizers import CLIENT, SERVER, Optimizer


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (Optimizer("lion", 0.1), "unknown optimizer 'lion'"),
        (Optimizer("yogi", 0.1), "unknown optimizer 'yogi'"),
        (Optimizer("sgd", 0.0), "lr is 0.0"),
        (Optimizer("sgd", -1.0), "lr is -1.0"),
        (Optimizer("sgd", float("nan")), "lr is nan"),
        (Optimizer("sgd", float("inf")), "lr is inf"),
        (Optimizer("sgd", 0.1, {"momentum": 0.9}), "no argument 'momentum'"),
        (Optimizer("sgdm", 0.1, {"momentum": 1.0}), "momentum is 1.0"),
        (Optimizer("adam", 0.1, {"beta_1": float("nan")}), "beta_1 is nan"),
    ],
)
def test_what_a_client_may_not_use(optimizer: Optimizer, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        optimizer.check(CLIENT)


def test_what_may_be_used() -> None:
    Optimizer("sgdm", 0.1, {"momentum": 0.9}).check(CLIENT)
    for name in SERVER:
        Optimizer(name, 1.0).check(SERVER)
