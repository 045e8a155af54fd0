"""An update on its way to the disk: where it goes on, and that a power cut cannot take what has a receipt."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from chain.training_records import Commitment
from p2pml.formats import tensors
from p2pml.net.train import Commit, Update
from p2pml.node.update_spool import Upload

UPDATE = tensors.encode([np.zeros((2, 3), np.float32)])


def upload(folder: Path) -> Upload:
    zero = bytes(32)
    commitment = Commitment(zero, zero, 0, 0, zero, 10, zero, tensors.digest(UPDATE))
    return Upload(Commit(b"", bytes(64), len(UPDATE), 1.0, 0.5), commitment, folder / "u.part", 1.0)


def test_an_upload_goes_on_where_the_disk_says(tmp_path: Path) -> None:
    first = upload(tmp_path)
    assert (first.begin(), first.resumed) == (0, False)
    first.append(UPDATE[:10])
    second = upload(tmp_path)
    assert (second.begin(), second.resumed) == (10, True)
    assert second.follows(Update(0, 0, 10, UPDATE[10:]))
    assert not second.follows(Update(0, 0, 9, UPDATE[9:]))
    assert not second.follows(Update(0, 0, 10, UPDATE[10:] + b"x"))
    assert not second.follows(Update(0, 0, 10, b""))
    second.append(UPDATE[10:])
    path, norm = second.finish("float32", [(2, 3)])
    assert (path.read_bytes(), norm) == (UPDATE, 0.0)


def test_what_is_whole_and_was_never_accepted_is_asked_for_anew(tmp_path: Path) -> None:
    (tmp_path / "u.part").write_bytes(bytes(len(UPDATE)))
    again = upload(tmp_path)
    assert (again.begin(), again.resumed) == (0, False)
    assert not again.path.exists()


def test_an_update_is_synced_under_its_name_before_anybody_hears_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    sync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        steps.append(f"sync {Path(os.readlink(f'/proc/self/fd/{handle}')).name}")
        sync(handle)

    def replaced(source: Path, target: Path) -> None:
        steps.append(f"name {Path(target).name}")
        replace(source, target)

    whole = upload(tmp_path)
    whole.append(UPDATE)
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    whole.finish("float32", [(2, 3)])
    assert steps == ["sync u.part", "name u.update", f"sync {tmp_path.name}"]
