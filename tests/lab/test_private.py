"""`check: [private]`: what it finds in the nodes' homes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from p2pml.lab.run import private
from p2pml.lab.run.checks import Result
from p2pml.node.private_data import PrivateData
from p2pml.private_config import read_tables
from p2pml.scenario.spec import Private
from p2pml.training import dataset, models

ACCOUNT = "pml1" + "a" * 58
OWNED = Private(name="wards", requester="n1", owners=["n2", "n3"])
TRAINED = {"n2": {"samples": 749}, "n3": {"samples": 748}}


@pytest.fixture
async def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Three homes, of which two have what their nodes write when they are asked."""
    monkeypatch.setattr("chain.address.decode", lambda text: bytes(32))
    found = {name: tmp_path / name / "home" for name in ("n1", "n2", "n3")}
    found["n1"].mkdir(parents=True)
    (found["n1"] / "gone").symlink_to(tmp_path / "nothing")
    for name in OWNED.owners:
        table = private.give(OWNED, name, tmp_path / name / "data", ACCOUNT)
        data = PrivateData(read_tables([table]), found[name] / "private")
        model = models.build("softmax", {}, (8, 8), 10).to_json()
        path, samples = await data.shard("wards", bytes(32), model, models.Limits())
        assert (path.parent.parent, samples) == (found[name], TRAINED[name]["samples"])
    return found


def check(homes: dict[str, Path], peers: dict[str, Any] | None = None) -> Result:
    return private.stayed(OWNED, homes, peers or TRAINED)


async def test_data_that_stayed(homes: dict[str, Path]) -> None:
    found = check(homes)
    assert found.ok, found.text
    assert "n2 749, n3 748" in found.text


async def test_a_copy_elsewhere_is_found(homes: dict[str, Path]) -> None:
    shutil.copyfile(homes["n2"] / "private" / "wards.safetensors", homes["n3"] / "stolen")
    assert check(homes).text == "the private data of n2 lies in n2: private/wards.safetensors; n3: stolen"


async def test_a_part_within_a_larger_file_is_found(homes: dict[str, Path]) -> None:
    data = (homes["n3"] / "private" / "wards.safetensors").read_bytes()
    (homes["n1"] / "deep").mkdir()
    (homes["n1"] / "deep" / "log").write_bytes(b"before" + data[len(data) // 3 :] + b"after")
    assert not check(homes).ok


@pytest.mark.parametrize("peers", [{"n2": {"samples": 1}}, {**TRAINED, "n1": {"samples": 1}}])
async def test_others_than_the_owners(homes: dict[str, Path], peers: dict[str, Any]) -> None:
    found = check(homes, peers)
    assert "the owners are ['n2', 'n3']" in found.text
    assert not found.ok


def test_what_the_requester_evaluates_on_is_nobodys(tmp_path: Path) -> None:
    private.give_validation(tmp_path)
    digits = dataset.load(dataset.digits_path())
    kept = dataset.load(tmp_path / private.VALIDATION).train
    assert digits.test is not None
    assert (kept.y == digits.test.y).all()
    assert kept.scale == digits.train.scale
