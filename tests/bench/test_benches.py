"""Each bench still runs, at its smallest, and prints what it promises; what a data set costs in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from p2pml.worker.tff.process import GUARD
from tests.bench.many_torrents import measure

pytestmark = pytest.mark.slow

REPO = Path(__file__).parents[2]
RATING = {"exactness": "same", "identities": "ratio", "cap": "ratio", "environments": "pairs"}
MOST_KIB = 700
"""Of memory for one data set of a thousand pieces: 200 beside an empty daemon stay under 300 MB."""


def bench(name: str, *options: str) -> dict[str, Any]:
    """What a bench prints."""
    command = [sys.executable, "-m", f"tests.bench.{name}", *options]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "options", "keys"),
    [
        ("blocks", ("--rounds", "1", "--mib", "4"), {"MiB per second", "ratio"}),
        (
            "gossip",
            ("--hosts", "4", "--messages", "3", "--every", "0.1", "--burst", "20", "--only", "after"),
            {"after 1KB", "after 64KB"},
        ),
        ("chain", ("--smoke",), {"verify", "replay", "disk", "sync", "tps"}),
        ("faults", ("--smoke",), {"ratio", "pairs"}),
        ("idle", ("--quick",), {"demo"}),
        ("picker", ("--quick", "--sizes", "1000"), {"pieces"}),
        *(("rating", ("--study", study, "--smoke"), {"cores", key}) for study, key in RATING.items()),
        ("rating_cost", (), {"bytes of an item", "audit work", "blocks"}),
        ("rating_crowd", ("--nodes", "5", "--segments", "40"), {"items", "segments trained", "transitions"}),
        ("rating_fraud", ("--runs", "1", "--only", "honest"), {"about", "kinds"}),
        ("rating_segment", ("--rounds", "1"), {"nets"}),
        ("robust", ("--smoke",), {"accuracy"}),
        ("simulator", ("--quick",), {"anchor", "chain", "swarm"}),
        ("swarm", ("--only", "endgame", "--seeds", "1"), {"seeds", "endgame"}),
        ("sync", ("--smoke",), {"blocks per second", "of executing"}),
        ("tff_kills", ("--smoke",), {"kills"}),
        (
            "transport",
            ("--rounds", "1", "--seconds", "0.1", "--sizes", "65536"),
            {"speed", "processor", "runs"},
        ),
        ("uploads", ("--smoke",), {"model MiB", "mean"}),
    ],
)
def test_a_bench_runs(name: str, options: tuple[str, ...], keys: set[str]) -> None:
    if name == "tff_kills" and subprocess.run([*GUARD, "true"], capture_output=True).returncode:
        pytest.skip("KILLS OF TFF NOT CHECKED: this system lets no user make namespaces (unshare)")
    found = bench(name, *options)
    assert keys <= found.keys()
    assert all(found[key] for key in keys)


@pytest.mark.long
def test_the_bench_of_the_data_layer() -> None:
    found = bench("data", "--quick", "--kinds", "libp2p", "rc4")
    assert found["speed"].keys() == found["speed over rc4"].keys() == {"libp2p", "rc4"}
    assert min(found["speed"].values()) > 0
    told = bench("data", "--quick", "--profile", "--kinds", "plain")["plain"]
    assert told["seeder"]
    assert told["leecher"]


def test_a_data_set_costs_little_memory(tmp_path: Path) -> None:
    found = measure(tmp_path, torrents=30, mb=16, download_mb=32)
    assert found["KiB per torrent"] < MOST_KIB
    memory = found["memory"]
    assert memory["most during a download"] < memory["after a restart"] + 100
