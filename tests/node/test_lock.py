"""One daemon per home."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from p2pml.errors import UserError
from p2pml.node.lock import exclusive, holder

HOLD = """
import sys, time
from pathlib import Path
from p2pml.node.lock import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_is_told_who_holds_it_and_how_to_stop_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert holder(path) is None
    with exclusive(path):
        found = holder(path)
        assert found is not None
        assert found.pid == os.getpid()
        with pytest.raises(UserError, match=f"PID {os.getpid()} since 20") as caught, exclusive(path):
            pass
        assert "p2pml stop" in caught.value.fix
    assert holder(path) is None


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        found = holder(path)
        assert found is not None
        assert found.pid == process.pid
        process.send_signal(signal.SIGKILL)
    assert path.read_text(), "the file is left behind"
    assert holder(path) is None
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert holder(path) is None, "the next holder has not said yet who it is"
    with exclusive(path):
        pass
