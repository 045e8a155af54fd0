"""One seeder to one leecher on loopback, each a process, on disk, hashed: ours beside libtorrent and aria2.

    libp2p       two nodes of ours over libp2p: noise, yamux
    plain        two nodes of ours over the plain BitTorrent port: no encryption
    libtorrent   two libtorrent sessions, encryption off
    rc4          the same, RC4 forced
    aria2        two aria2c that meet by a tracker; left out, and said so, where it is not installed

The kinds take turns within every round, so that a busy machine slows all of them alike. Prints the medians
over the rounds as JSON, with the machine's load before and after: MB/s, and the milliseconds of processor
time of each end per MB, which other programs disturb less.

    python -m tests.bench.data                              # 5 rounds of 512 MB
    python -m tests.bench.data --rounds 3 --mb 128 --kinds libp2p rc4
    python -m tests.bench.data --profile --kinds libp2p     # where the time of our two processes goes
    python -m tests.bench.data --quick                      # whether it works at all
"""

from __future__ import annotations

import argparse
import json
import os
import pstats
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from p2pml.storage.seeding import Making, make_torrent, scan
from tests.bench import data_ends
from tests.bench.data_ends import METAINFO, NAME, PAYLOAD
from tests.bench.transport import hottest
from tests.interop.clients import same_files, tracker_up

KINDS = ("libp2p", "plain", "libtorrent", "rc4", "aria2")
OURS = ("libp2p", "plain")
_TICK = os.sysconf("SC_CLK_TCK")


class Run(NamedTuple):
    """One transfer: MB/s, and ms of processor time per MB of each end."""

    speed: float
    seeder: float
    leecher: float


class End:
    """One end of a transfer, as a process.

    Args:
        root: the bench's folder.
        home: the end's own folder below it.
        tracker: for aria2.
        profile: where its profile goes.
    """

    def __init__(self, kind: str, root: Path, home: Path, seeds: bool, tracker: str, profile: Path | None):
        home.mkdir()
        if kind == "aria2":
            command = data_ends.aria2(root, home, tracker, seeds)
        else:
            command = [sys.executable, "-m", "tests.bench.data", "--end", kind, str(root), str(home)]
            command += [
                *(["--seeds"] if seeds else []),
                *([] if profile is None else ["--into", str(profile)]),
            ]
        self._kind = kind
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )

    def spent(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def heard(self) -> str:
        """The next line that it says."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise RuntimeError("one end of the transfer failed; its complaint is above")
        return line

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def wait(self) -> float:
        """Until it ends by itself; the seconds of processor time that it took in all."""
        _, status, usage = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        if self._process.returncode:
            raise RuntimeError(f"one end of the transfer ended with status {self._process.returncode}")
        return usage.ru_utime + usage.ru_stime

    def stop(self) -> None:
        if self._process.poll() is None and self._kind == "aria2":
            self._process.terminate()  # it does not look at its input
        self._process.communicate()


class Bench:
    """The payload, and a seeder of each kind that stays up.

    Args:
        root: an empty folder.
        mb: size of the payload, random bytes.
        hybrid: as `p2pml seed` makes it, with hashes of v1 and v2; else v1 only.
        profile: whether our ends leave profiles in `root`.
    """

    def __init__(self, root: Path, mb: int, kinds: Sequence[str], hybrid: bool, profile: bool) -> None:
        self.root, self.mb, self.profile = root, mb, profile
        self._stack = ExitStack()
        self._runs = 0
        self.seeders: dict[str, tuple[End, str]] = {}
        self.tracker = ""
        (root / PAYLOAD).mkdir()
        with (root / PAYLOAD / NAME).open("wb") as file:
            rng = random.Random(mb)
            for _ in range(mb):
                file.write(rng.randbytes(1_000_000))
        torrent = make_torrent(scan(root / PAYLOAD / NAME), Making(hybrid=hybrid))
        (root / METAINFO).write_bytes(torrent.metainfo.raw)
        if "aria2" in kinds:
            self.tracker = self._stack.enter_context(tracker_up()).url

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        for end, _address in self.seeders.values():
            end.stop()
        self._stack.close()

    def _profile(self, side: str) -> Path | None:
        return self.root / f"{side}.profile" if self.profile else None

    def _seeder(self, kind: str) -> tuple[End, str]:
        if kind not in self.seeders:
            home = self.root / f"seed-{kind}"
            end = End(kind, self.root, home, True, self.tracker, self._profile(f"{kind}-seeder"))
            self.seeders[kind] = end, "" if kind == "aria2" else end.heard()
            if kind == "aria2":
                time.sleep(1.0)  # it tells nobody when it is ready
        return self.seeders[kind]

    def run(self, kind: str) -> Run:
        """One transfer; what arrived is compared."""
        self._runs += 1
        seeder, address = self._seeder(kind)
        home = self.root / f"leech-{self._runs}"
        begin = time.perf_counter()
        leecher = End(kind, self.root, home, False, self.tracker, self._profile(f"{kind}-leecher"))
        if kind == "aria2":
            before, leeching = seeder.spent(), leecher.wait()
            seconds = time.perf_counter() - begin
        else:
            leecher.heard()
            before, began = seeder.spent(), leecher.spent()
            leecher.tell(address)
            seconds = float(leecher.heard())
            leeching = leecher.spent() - began
        seeding = seeder.spent() - before
        leecher.stop()
        (found,) = [path.parent for path in home.rglob(NAME) if path.is_file()]
        assert same_files(self.root / PAYLOAD, found), f"{kind}: what arrived is not what was sent"
        shutil.rmtree(home)
        return Run(self.mb / seconds, seeding * 1000 / self.mb, leeching * 1000 / self.mb)


@contextmanager
def bench(
    folder: Path | None, mb: int, kinds: Sequence[str], hybrid: bool, profile: bool = False
) -> Iterator[Bench]:
    """A `Bench` in a folder that is deleted afterwards, below `folder`."""
    with TemporaryDirectory(dir=folder) as name, Bench(Path(name), mb, kinds, hybrid, profile) as made:
        yield made


def measure(folder: Path | None, rounds: int, mb: int, kinds: Sequence[str], hybrid: bool) -> dict[str, Any]:
    load = os.getloadavg()
    runs: dict[str, list[Run]] = {kind: [] for kind in kinds}
    with bench(folder, mb, kinds, hybrid) as made:
        for _ in range(rounds):
            for kind in kinds:
                runs[kind].append(made.run(kind))
    speed = medians(runs, lambda run: run.speed)
    return {
        "units": "medians of the rounds: MB/s, and ms of processor time per MB",
        "mb": mb,
        "rounds": rounds,
        "torrent": "hybrid" if hybrid else "v1",
        "cpus": os.cpu_count(),
        "load": {"before": load, "after": os.getloadavg()},
        "speed": speed,
        "seeder": medians(runs, lambda run: run.seeder),
        "leecher": medians(runs, lambda run: run.leecher),
        "both": medians(runs, lambda run: run.seeder + run.leecher),
        "speed over rc4": ratios(runs, "rc4"),
        "speed over libtorrent": ratios(runs, "libtorrent"),
        "runs": {kind: [round(run.speed, 1) for run in each] for kind, each in runs.items()},
    }


def medians(runs: dict[str, list[Run]], of: Callable[[Run], float]) -> dict[str, float]:
    return {kind: round(statistics.median(map(of, each)), 2) for kind, each in runs.items()}


def ratios(runs: dict[str, list[Run]], anchor: str) -> dict[str, float]:
    """Of each kind, the median over the rounds of its speed over the anchor's in the same round."""
    if anchor not in runs:
        return {}
    return {
        kind: round(statistics.median(a.speed / b.speed for a, b in zip(each, runs[anchor], strict=True)), 2)
        for kind, each in runs.items()
    }


def profile(folder: Path | None, mb: int, kinds: Sequence[str], hybrid: bool) -> dict[str, Any]:
    """What the main threads of our ends do with their time; the profiler slows small functions most."""
    told: dict[str, Any] = {}
    for kind in kinds:
        with bench(folder, mb, [kind], hybrid, True) as made:
            run = made.run(kind)
            for end, _ in made.seeders.values():
                end.stop()
            told[kind] = {"speed": round(run.speed, 1)} | {
                side: hottest(pstats.Stats(str(made.root / f"{kind}-{side}.profile")))
                for side in ("seeder", "leecher")
            }
    return told


def present(kinds: Sequence[str]) -> list[str]:
    """The kinds that can run here."""
    if "aria2" in kinds and shutil.which("aria2c") is None:
        print("aria2 is left out: aria2c is not installed", file=sys.stderr)
        return [kind for kind in kinds if kind != "aria2"]
    return list(kinds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mb", type=int, default=512, help="millions of bytes")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--v1", action="store_true", help="a torrent without hashes of v2")
    parser.add_argument("--folder", type=Path, help="on the disk to be used; default: the temporary folder")
    parser.add_argument("--profile", action="store_true", help="print what our time is spent on instead")
    parser.add_argument("--quick", action="store_true", help="1 round of 8 MB")
    parser.add_argument("--end", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--seeds", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    rounds, mb = (1, 8) if given.quick else (given.rounds, given.mb)
    if given.end:
        kind, root, home = given.end
        data_ends.run(kind, Path(root), Path(home), given.seeds, given.into)
    elif given.profile:
        kinds = [kind for kind in given.kinds if kind in OURS]
        print(json.dumps(profile(given.folder, mb, kinds, not given.v1), indent=2))
    else:
        print(json.dumps(measure(given.folder, rounds, mb, present(given.kinds), not given.v1), indent=2))


if __name__ == "__main__":
    main()
