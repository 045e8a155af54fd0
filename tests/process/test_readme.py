"""The README's walk-through, run as it is written: its own shell blocks, real daemons, real MNIST."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MNIST = Path(os.environ.get("P2PML_MNIST", ROOT.parent / "shared" / "data" / "mnist.npz"))

# What the walk-through must have brought about, in the same shell, before it stops its nodes.
CHECKS = """
HEIGHT='import json,sys; print(json.load(sys.stdin)["height"] - 3)'
DEEP=$(p2pml chain head --json --home net/n0 | python3 -c "$HEIGHT")
for i in 0 1 2 3 4 5; do p2pml chain show $DEEP --json --home net/n$i > block$i.json; done
p2pml job ls --json --home net/n0 > jobs.json
p2pml data info mnist.tar --json --home net/n5 > sources.json
for i in 0 1 2 3 4; do
  python3 -c 'import json,sys,urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())' \\
    http://127.0.0.1:$((9571 + 10 * i))/api/v1/supply > supply$i.json
done
"""


def walkthrough() -> str:
    """Every bash block after the marker in README.md."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("<!-- walkthrough -->")[1]
    return "\n".join(re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL))


def run_script(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run it in a process group of its own; whatever it leaves running is ended."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(
        ["bash", "-euc", script],
        cwd=folder,
        env=os.environ | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=800)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            raise AssertionError(f"the script is too slow: {output[-4000:]}") from error
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(process.args, process.returncode, output)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_walk_through_works_as_written(tmp_path: Path) -> None:
    if not MNIST.exists():
        pytest.skip(f"NOT TESTED: MNIST is not at {MNIST}; set P2PML_MNIST to an mnist.npz")
    shutil.copy(MNIST, tmp_path / "mnist.npz")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    script = walkthrough()
    before, stop = script.rsplit("for i in 0 1 2 3 4 5; do p2pml stop", 1)
    result = run_script(f"{before}{CHECKS}for i in 0 1 2 3 4 5; do p2pml stop{stop}", tmp_path)
    assert result.returncode == 0, result.stdout[-4000:]

    def load(name: str) -> object:
        return json.loads((tmp_path / name).read_text())

    [job] = load("jobs.json")  # type: ignore[misc]
    assert job["state"] == "done"
    assert job["accuracy"] >= 0.95
    blocks = [load(f"block{i}.json") for i in range(6)]
    assert len({block["id"] for block in blocks}) == 1  # type: ignore[index]
    for i in range(5):
        books = load(f"supply{i}.json")
        assert books["adds_up"]  # type: ignore[index]
        assert (
            books["balances"] + books["escrow"] + books["vesting"]
            == books["genesis"] + books["issued"] - books["burned"]  # type: ignore[index]
        )
    sources = load("sources.json")["sources"]  # type: ignore[index]
    assert len([count for count in sources.values() if count > 0]) >= 2, sources
