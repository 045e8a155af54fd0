"""Seven daemons whose stores are hit where it hurts: killed at every kind of write, damaged, and full.

Two of seven at a time at most: with two thirds of the rating up, blocks go on becoming final.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FAULTS = Path(__file__).with_name("faults")
PLACES = (
    *("BEGIN:1", "COMMIT:1", "BEGIN:5", "COMMIT:5", "COMMIT+:6", "blocks:3", "canonical:3"),
    *("txs:1", "touched:2", "fsync:3", "replace:4", "replaced:4"),
)
"""Before, in and after each write of a block and of a signature; the first two hit the start itself."""


@pytest.fixture(scope="module")
def cluster(start_cluster: Callable[..., Any]) -> Iterator[Any]:
    with start_cluster(7, workers=False, idle=False) as cluster:
        yield cluster


def settle(cluster: Any) -> None:
    """Everybody is up, blocks become final on every node, all agree, the books are exact, nobody lied."""
    top = cluster.wait("a node does not come back", lambda: max(cluster.heights()))
    assert len(cluster.running) == 7
    cluster.wait("nothing becomes final", lambda: min(cluster.final_heights()) > top or None)
    cluster.wait_same_head(above=top)
    cluster.check_books()
    cluster.check_signatures()


@pytest.mark.long
def test_daemons_killed_at_every_kind_of_write_agree_afterwards(
    cluster: Any, p2pml: Callable[..., Any]
) -> None:
    payer = cluster.nodes[0].home.root
    for number in range(0, len(PLACES), 2):
        pair = PLACES[number : number + 2]
        victims = [cluster.nodes[1 + (number + i) % 6] for i in range(len(pair))]
        for victim, place in zip(victims, pair, strict=True):
            victim.kill()
            victim.extra_env |= {"P2PML_KILL_AT": place, "PYTHONPATH": str(FAULTS)}
            victim.start()
        left = {victim.name: place for victim, place in zip(victims, pair, strict=True)}
        while left:
            # Blocks with something in them, whoever proposes.
            p2pml("wallet", "send", cluster.nodes[3].address, "1", "--no-wait", home=payer)
            for victim in victims:
                if victim.name in left and ended(victim):
                    code = victim.wait_stopped(1)
                    assert code == -signal.SIGKILL, f"{left[victim.name]}: {code} {victim.last_words()}"
                    del left[victim.name]
        for victim in victims:
            for name in ("P2PML_KILL_AT", "PYTHONPATH"):
                del victim.extra_env[name]
            victim.start()
    settle(cluster)


def ended(node: Any) -> bool:
    """Whether its process ends within a moment."""
    try:
        node.process.wait(0.5)
    except subprocess.TimeoutExpired:
        return False
    return True


def test_damaged_files_are_told_set_aside_and_fetched_again(cluster: Any) -> None:
    truncated, flipped, unsigned = cluster.nodes[1], cluster.nodes[2], cluster.nodes[3]
    cluster.kill9(truncated)
    wal = truncated.home.chain_db.with_name("chain.sqlite-wal")
    os.truncate(wal, wal.stat().st_size * 2 // 3)
    cluster.start(truncated)
    assert "damaged" not in truncated.last_words(50), "what is missing at the end is fetched, no more"

    cluster.kill9(flipped)
    with closing(sqlite3.connect(flipped.home.chain_db)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # into the file: frames of the WAL have checksums
    data = bytearray(flipped.home.chain_db.read_bytes())
    for page in range(4096, len(data), 4096):
        data[page + 2000] ^= 0x40
    flipped.home.chain_db.write_bytes(data)
    cluster.start(flipped)
    assert "is damaged" in flipped.last_words(50)
    assert "it is kept as chain.sqlite.damaged-1" in flipped.last_words(50)
    assert (flipped.home.root / "chain.sqlite.damaged-1").exists()

    cluster.kill9(unsigned)
    record = unsigned.home.chain_db.with_suffix(".signed")
    record.write_bytes(record.read_bytes()[:-1] + b"\x00")
    cluster.start(unsigned)
    assert "the record of what this validator signed is damaged" in unsigned.last_words(50)
    settle(cluster)


@contextmanager
def small_disk(home: Path) -> Iterator[Path]:
    """The home on a disk of its own, full but for 64 KiB; gives the file that fills it. Afterwards the home
    is where it was, with what it has by then. The logs stay on the large disk: a full one would cut the
    words that are judged.
    """
    kept, logs = home.with_name(home.name + "-kept"), home.with_name(home.name + "-logs")
    home.rename(kept)
    home.mkdir()
    size = f"size={(sum(path.stat().st_size for path in kept.rglob('*')) >> 10) + 2048}k"
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(home)], capture_output=True
    ).returncode:
        home.rmdir()
        kept.rename(home)
        pytest.skip("A FULL DISK UNDER A DAEMON WAS NOT TESTED: this process may not mount a tmpfs")
    try:
        shutil.copytree(kept, home, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sock", "logs"))
        shutil.copytree(kept / "logs", logs)
        (home / "logs").symlink_to(logs)
        space = os.statvfs(home)
        filler = home / "filler"
        filler.write_bytes(bytes(space.f_bavail * space.f_frsize - 65536))
        yield filler
        shutil.rmtree(kept)
        shutil.copytree(home, kept, ignore=shutil.ignore_patterns("*.sock"))
    finally:
        subprocess.run(["umount", "--lazy", str(home)], check=True)  # a failed test left its daemon
        home.rmdir()
        kept.rename(home)


def test_a_full_disk_ends_a_daemon_with_one_line_and_it_resumes(
    cluster: Any, p2pml: Callable[..., Any]
) -> None:
    victim, payer = cluster.nodes[4], cluster.nodes[0].home.root
    cluster.kill9(victim)
    with small_disk(victim.home.root) as filler:
        victim.start()
        for _ in range(120):
            p2pml("wallet", "send", victim.address, "1", "--no-wait", home=payer)
            if ended(victim):
                break
        code, words = victim.wait_stopped(1), victim.last_words(4)
        assert code == 1, words
        assert "error: " in words
        assert "full" in words or "No space left" in words
        assert "fix: check free space" in words
        assert "Traceback" not in words
        filler.unlink()
        cluster.start(victim)
        settle(cluster)
        cluster.kill9(victim)
    cluster.start(victim)
    settle(cluster)
