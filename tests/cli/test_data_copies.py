"""`p2pml data get --to`: a publisher chooses the names, so nothing of the user's may be in their way."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import pytest

from p2pml.cli.data_copies import copy_out
from p2pml.errors import ExitCode, UserError

NAMES = ("new", ".bashrc", ".ssh/authorized_keys")


@pytest.fixture
def answer(tmp_path: Path) -> dict[str, Any]:
    files = []
    for index, name in enumerate(NAMES):
        location = tmp_path / "pieces" / name
        location.parent.mkdir(parents=True, exist_ok=True)
        location.write_text(f"a stranger's {name}")
        files.append({"index": index, "path": name, "location": str(location)})
    return {"files": files}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def _refused(answer: dict[str, Any], home: Path, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        copy_out(answer, None, home)
    assert caught.value.code == ExitCode.USAGE
    assert "--to" in caught.value.fix


def test_what_is_chosen_is_copied_and_once_more_without_complaint(answer: dict[str, Any], home: Path) -> None:
    copy_out(answer, [0, 2], home / "a" / "b")
    assert _files(home) == {"a/b/new", "a/b/.ssh/authorized_keys"}
    before = (home / "a" / "b" / "new").stat()
    copy_out(answer, None, home / "a" / "b")
    assert (home / "a" / "b" / "new").stat() == before, "what is there already is not written again"
    for item in answer["files"]:
        copy = home / "a" / "b" / item["path"]
        assert copy.read_bytes() == Path(item["location"]).read_bytes()
        assert copy.stat().st_mode == Path(item["location"]).stat().st_mode


def test_a_file_of_the_users_is_not_replaced_and_nothing_is_written(
    answer: dict[str, Any], home: Path
) -> None:
    (home / ".bashrc").write_text("mine")
    _refused(answer, home, r"\.bashrc is there already")
    assert (home / ".bashrc").read_text() == "mine"
    assert _files(home) == {".bashrc"}


def test_nor_is_one_behind_a_link_nor_the_link(answer: dict[str, Any], home: Path, tmp_path: Path) -> None:
    for aim in (tmp_path / "mine", tmp_path / "dangling"):
        (tmp_path / "mine").write_text("mine")
        (home / ".bashrc").symlink_to(aim)
        _refused(answer, home, r"\.bashrc is there already")
        assert (tmp_path / "mine").read_text() == "mine"
        assert not (tmp_path / "dangling").exists()
        (home / ".bashrc").unlink()


def test_a_linked_folder_does_not_lead_out(answer: dict[str, Any], home: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (home / ".ssh").symlink_to(elsewhere)
    _refused(answer, home, "authorized_keys would lie outside")
    assert _files(elsewhere) == set()
    (tmp_path / "link").symlink_to(home)
    (home / ".ssh").unlink()
    copy_out(answer, None, tmp_path / "link")  # the folder that the user names may be a link
    assert _files(home) == set(NAMES)


def test_folders_and_files_in_each_others_places_are_refused(answer: dict[str, Any], home: Path) -> None:
    (home / ".bashrc").mkdir()
    _refused(answer, home, r"\.bashrc is there already")
    (home / ".bashrc").rmdir()
    (home / ".ssh").write_text("mine")
    _refused(answer, home, r"\.ssh is there already")
    assert (home / ".ssh").read_text() == "mine"


def test_a_copy_that_fails_midway_leaves_nothing_and_can_be_repeated(
    answer: dict[str, Any], home: Path
) -> None:
    large = Path(answer["files"][2]["location"])
    os.truncate(large, 32 << 20)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 20, hard))
    try:
        with pytest.raises(UserError, match="authorized_keys cannot be written: File too large"):
            copy_out(answer, None, home)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert _files(home) == {"new", ".bashrc"}
    copy_out(answer, None, home)
    assert _files(home) == set(NAMES)


@pytest.mark.parametrize("path", ["../climbed", "{parent}/climbed"])
def test_a_path_that_leads_out_is_refused(answer: dict[str, Any], home: Path, path: str) -> None:
    answer["files"][0]["path"] = path.format(parent=home.parent)
    _refused(answer, home, "climbed would lie outside")
    assert not (home.parent / "climbed").exists()
