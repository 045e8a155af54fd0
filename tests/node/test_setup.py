"""A genesis whose parameters are a preset's, but for some."""

from __future__ import annotations

from pathlib import Path

import pytest

from chain.genesis import Genesis
from chain.params import DEMO
from p2pml.errors import UserError
from p2pml.home import Home
from p2pml.node.setup import make_genesis, make_keys


def test_parameters_may_be_other_than_the_presets(tmp_path: Path) -> None:
    make_keys(Home(tmp_path))
    text = make_genesis([tmp_path], "demo", "net", {}, 1, {"window_slots": 9})
    params = Genesis.from_json(text).params
    assert (params.window_slots, params.slot_ms) == (9, DEMO.slot_ms)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"window_slot": 9}, "there is no parameter 'window_slot'"),
        ({"window_slots": 90}, "a rating window takes"),
    ],
)
def test_parameters_that_cannot_be_are_refused(tmp_path: Path, changes: dict[str, int], says: str) -> None:
    make_keys(Home(tmp_path))
    with pytest.raises(UserError, match=says):
        make_genesis([tmp_path], "demo", "net", {}, 1, changes)
