"""Giving way: by niceness, and where Linux shares the processor among sessions by the session's too."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from p2pml.worker import give_way

TELL = """
import os
from pathlib import Path
from p2pml.worker.give_way import AUTOGROUP, give_way
give_way(3)
print(os.getpriority(os.PRIO_PROCESS, 0), os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid())
print(AUTOGROUP.read_text().split()[-1] if AUTOGROUP.exists() else "none")
"""


def told(**session: bool) -> tuple[str, str]:
    """What a process says of itself that has given way by three."""
    ran = subprocess.run([sys.executable, "-c", TELL], check=True, capture_output=True, text=True, **session)  # type: ignore[call-overload]
    first, second = ran.stdout.splitlines()
    return first, second


def test_a_process_leaves_for_a_session_that_is_as_nice_as_it() -> None:
    level = min(19, os.getpriority(os.PRIO_PROCESS, 0) + 3)
    own, session = told()
    assert own == f"{level} True True"
    assert session in (str(level), "none")


def test_a_session_that_others_may_share_is_left_as_it_is() -> None:
    """The leader of a session cannot leave it: what is in it besides is not ours to slow down."""
    level = min(19, os.getpriority(os.PRIO_PROCESS, 0) + 3)
    own, session = told(start_new_session=True)
    assert own == f"{level} True True"
    assert session in ("0", "none")


class Refusing:
    """Stands in for the kernel's file: refuses so many times, then takes what is written."""

    def __init__(self, *refusals: type[OSError]) -> None:
        self.refusals, self.written = list(refusals), ""

    def exists(self) -> bool:
        return True

    def write_text(self, text: str, encoding: str) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.written = text


@pytest.mark.parametrize(
    ("refusals", "written"),
    [
        ([], "7"),
        ([BlockingIOError, BlockingIOError], "7"),  # another one's change was just before
        ([PermissionError], ""),
    ],
)
def test_a_change_too_soon_is_made_again(
    refusals: list[type[OSError]], written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Refusing(*refusals)
    monkeypatch.setattr(give_way, "AUTOGROUP", file)
    monkeypatch.setattr(give_way, "EVERY_S", 0.0)
    monkeypatch.setattr(os, "nice", lambda nice: nice)
    monkeypatch.setattr(os, "setsid", lambda: None)
    give_way.give_way(7)
    assert file.written == written
