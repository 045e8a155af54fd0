"""Daemons killed at random moments while they write: chains that agree afterwards, transfers that resume."""

from __future__ import annotations

import filecmp
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KILLS = 10
SIZE = 250_000_000


@pytest.fixture(scope="module")
def cluster(start_cluster: Callable[..., Any]) -> Iterator[Any]:
    """Four founders without workers."""
    with start_cluster(4, workers=False, idle=False) as cluster:
        yield cluster


def wait_for_moment(cluster: Any, rng: random.Random) -> None:
    """When a block is sealed (a slot starts), when votes are cast (at its half), or at any time."""
    slot_s = cluster.genesis.params.slot_ms / 1000
    kind = rng.random()
    if kind < 0.8:
        busy = 0.0 if kind < 0.4 else slot_s / 2
        into_slot = (time.time() - cluster.genesis.time_ms / 1000 - busy) % slot_s
        time.sleep(slot_s - into_slot + rng.uniform(0, 0.25))
    else:
        time.sleep(rng.uniform(0, slot_s))


def test_daemons_killed_while_blocks_are_written_agree_afterwards(
    cluster: Any, p2pml: Callable[..., Any]
) -> None:
    rng = random.Random(11)
    before = cluster.wait_same_head()["height"]
    payer = cluster.nodes[0].home.root
    for number in range(KILLS):
        # Blocks with something in them: payments to the one that is killed next.
        victim = cluster.nodes[rng.randrange(1, 4) if number % 4 else 0]
        if cluster.nodes[0].is_running():
            p2pml("wallet", "send", victim.address, "1", "--no-wait", home=payer)
        wait_for_moment(cluster, rng)
        cluster.kill9(victim)
        victim.start()
        if number % 2:  # else the next kill may come while this one is still starting
            cluster.wait("no answer after a kill", lambda node=victim: node.get("/status"))
    top = cluster.wait("a node does not come back", lambda: max(cluster.heights()))
    cluster.wait("nothing becomes final any more", lambda: max(cluster.final_heights()) > top)
    assert top > before, "the chain went on meanwhile"
    cluster.wait_same_head(above=top)
    cluster.check_books()
    cluster.check_signatures()


def test_a_fetch_survives_kills(
    cluster: Any, p2pml: Callable[..., Any], p2pml_command: Callable[..., list[str]]
) -> None:
    seeder, fetcher = cluster.nodes[0], cluster.nodes[3]
    original = cluster.root / "set.bin"
    original.write_bytes(random.Random(7).randbytes(SIZE))
    infohash = p2pml("seed", str(original), "--json", home=seeder.home.root).json["infohash"]
    getting = p2pml_command("data", "get", "set.bin", home=fetcher.home.root)
    kept = 0
    for goal in (0.25, 0.6):
        with subprocess.Popen(getting, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as get:
            progress = cluster.wait("nothing arrives", lambda goal=goal: reached(fetcher, infohash, goal))
            assert progress["have"] >= kept, "a verified piece was lost"
            assert not progress["complete"], "too quick to be killed on the way"
            kept = progress["have"]
            cluster.kill9(fetcher)
            _, err = get.communicate(timeout=60)
        assert get.returncode == 3
        assert err.splitlines()[-2].startswith("error: ")
        assert "Traceback" not in err
        cluster.start(fetcher)
    target = cluster.root / "out"
    done = p2pml("data", "get", "set.bin", "--to", str(target), "--json", home=fetcher.home.root)
    assert done.code == 0, done.err
    assert done.json["complete"]
    assert filecmp.cmp(target / "set.bin", original, shallow=False)
    sent = seeder.get(f"/datasets/{infohash}")["sent"][fetcher.peer_id]
    assert SIZE <= sent < 1.5 * SIZE, "what was on disk was fetched again"


def reached(node: Any, infohash: str, share: float) -> dict[str, Any] | None:
    """The data set's record once that share of it is here."""
    found = next((item for item in node.get("/datasets") if item["infohash"] == infohash), None)
    return found if found is not None and found["have"] >= share * found["pieces"] else None
