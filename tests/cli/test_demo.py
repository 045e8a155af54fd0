"""`p2pml demo` as its user runs it: the whole way, and interrupted; nothing is left behind either way."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorflow") is None,
        reason="TENSORFLOW IS NOT INSTALLED: the demo cannot train (install the extra `train`)",
    ),
]


def start_demo(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "p2pml", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        start_new_session=True,
    )


def processes_of(folder: Path) -> list[str]:
    """Command lines of the demo's processes, workers included: all inherit its TMPDIR."""
    found = []
    mark = f"TMPDIR={folder}".encode()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (path / "environ").read_bytes().split(b"\0"):
                found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


def assert_nothing_left(tmp_path: Path) -> None:
    deadline = time.monotonic() + 10
    while processes_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes_of(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == []


@pytest.mark.timeout(400)
def test_the_demo_trains_pays_and_cleans_up(tmp_path: Path) -> None:
    demo = start_demo(tmp_path, "--nodes", "3", "--rounds", "3", "--json")
    out, err = demo.communicate(timeout=380)
    assert demo.returncode == 0, err
    assert "Traceback" not in err
    answer = json.loads(out)
    job, books = answer["job"], answer["books"]
    assert (job["state"], job["round"]) == ("done", 3)
    assert job["accuracy"] > 0.8
    assert books["rounds"] == 3
    assert books["last_accuracy"] == pytest.approx(job["accuracy"], abs=1e-5)
    assert books["adds_up"]
    assert books["explained"]
    by_name = {account["name"]: account for account in books["accounts"]}
    assert set(by_name) == {"node1", "node2", "node3"}
    assert by_name["node2"]["training"] > 0
    assert by_name["node3"]["training"] > 0
    assert by_name["node1"]["training"] == 0, "the requester pays"
    assert sum(account["blocks"] for account in books["accounts"]) == books["height"]
    assert "chain heads: node1 " in err
    assert "all 3 nodes agree on the head" in err
    assert_nothing_left(tmp_path)


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, "round 1/"),
        (signal.SIGTERM, "loading TensorFlow"),
        (signal.SIGKILL, "loading TensorFlow"),
    ],
)
def test_an_interrupted_demo_leaves_no_process_behind(
    tmp_path: Path, number: signal.Signals, moment: str
) -> None:
    demo = start_demo(tmp_path, "--nodes", "2")
    assert demo.stderr is not None
    for line in demo.stderr:
        if moment in line:
            break
    seen = " ".join(processes_of(tmp_path))
    assert "p2pml daemon" in seen, "the probe sees the daemons while they run"
    assert "p2pml.worker" in seen
    assert demo.poll() is None
    demo.send_signal(number)
    _, err = demo.communicate(timeout=60)
    if number is signal.SIGKILL:
        deadline = time.monotonic() + 20
        while processes_of(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert processes_of(tmp_path) == [], "the daemons end with their parent, however it ended"
        return
    assert demo.returncode == 130
    assert "Traceback" not in err
    assert_nothing_left(tmp_path)
