"""`p2pml job result`: where the model is, and a copy of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from p2pml.errors import ExitCode, UserError
from p2pml.job_output import RESULT_FILES, copy_files, result_files


@pytest.fixture
def answer(tmp_path: Path) -> dict[str, Any]:
    folder = tmp_path / "runs" / "job-1"
    folder.mkdir(parents=True)
    for name in RESULT_FILES:
        (folder / name).write_text(f"the {name}")
    return {"id": "0123456789abcdef", "state": "done", "output": str(folder), "fix": ""}


def test_the_files_and_a_copy_of_them(answer: dict[str, Any], tmp_path: Path) -> None:
    files = result_files(answer)
    assert [path.parent for path in files] == [Path(answer["output"])] * len(RESULT_FILES)
    copies = copy_files(files, tmp_path / "a" / "b")
    assert [path.read_text() for path in copies] == [f"the {name}" for name in RESULT_FILES]
    (tmp_path / "a" / "b" / "model.json").write_text("mine")
    with pytest.raises(UserError, match="there already") as caught:
        copy_files(files, tmp_path / "a" / "b")
    assert caught.value.code == ExitCode.USAGE
    assert (tmp_path / "a" / "b" / "model.json").read_text() == "mine"


def test_a_result_of_before_there_were_pages_is_complete(answer: dict[str, Any], tmp_path: Path) -> None:
    (Path(answer["output"]) / "report.html").unlink()
    names = [name for name in RESULT_FILES if name != "report.html"]
    files = result_files(answer)
    assert [path.name for path in files] == names
    assert [path.name for path in copy_files(files, tmp_path / "copies")] == names
    (Path(answer["output"]) / "report.json").unlink()
    with pytest.raises(UserError, match=r"report\.json is gone"):
        result_files(answer)


def test_a_job_without_a_result_says_why(answer: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="has no result: it is running") as caught:
        result_files({**answer, "state": "running", "output": ""})
    assert "p2pml job watch 0123456789ab" in caught.value.fix
    with pytest.raises(UserError, match="it is suspended") as caught:
        result_files({**answer, "state": "suspended", "output": "", "fix": "make room"})
    assert caught.value.fix == "make room"
    (Path(answer["output"]) / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors is gone"):
        result_files(answer)


def test_a_copy_that_cannot_be_made(answer: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be copied to"):
        copy_files(result_files(answer), tmp_path / "file" / "folder")
