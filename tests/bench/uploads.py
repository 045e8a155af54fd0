"""How much memory a requester needs for a round, by the number of participants that upload.

    python -m tests.bench.uploads                 # 4, 16 and 64 uploads of 100 MB: some minutes, 7 GB of disk
    python -m tests.bench.uploads --smoke

Each number is measured in a fresh process, in which fake participants upload all at once: each has a session
of the requester's own (`p2pml.node.job_session`), which spools and checks; then the updates are aggregated
and the server's step is asked for. What is fake: the stream hands over messages in memory, the worker gives
back the weights that it got. Prints JSON: for each rule and number of uploaders the peak of memory in MiB.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import trio

from chain.codec import pack
from chain.crypto import Keypair
from chain.training_records import Receipt
from p2pml.formats import keras_json, tensors
from p2pml.formats.aggregation import Aggregation
from p2pml.formats.optimizers import Optimizer
from p2pml.net.train import CHUNK_BYTES, Commit, Done, Message, Pull, Update
from p2pml.node.aggregator import Aggregator
from p2pml.node.job_session import GlobalModel, PeerSession, Report
from p2pml.node.job_store import Receipted
from p2pml.node.terms import JobTerms
from p2pml.node.update_check import largest_norm
from p2pml.training import models
from p2pml.training import round as machine
from p2pml.worker.protocol import ServerStep, Stepped

REPO = Path(__file__).parents[2]
KEYS = Keypair.from_seed(bytes(32))
SAMPLES = 100


def peak_mib() -> float:
    """The most resident memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@dataclass
class FakeStream:
    """What a session has of a participant that commits at once and hands over its update when asked.

    Args:
        terms: of the job.
        client: that it trained; also the first value of its update, so that no two are the same.
        model: what it trained from.
        file: the update apart from that value.
    """

    terms: JobTerms
    client: int
    model: GlobalModel
    file: Path
    _pulled: trio.Event = field(default_factory=trio.Event)
    _left: Iterator[tuple[int, bytes]] | None = None

    @property
    def peer(self) -> str:
        return f"peer {self.client}"

    async def send(self, message: Message, deadline: float = 60.0) -> None:
        await trio.lowlevel.checkpoint()
        if isinstance(message, Pull):
            self._pulled.set()

    async def receive(self, most: int, deadline: float = 0.0) -> Message:
        await trio.lowlevel.checkpoint()
        if self._left is None:
            self._left = self._chunks()
            return self._commit()
        await self._pulled.wait()
        for offset, data in self._left:
            return Update(0, self.client, offset, data)
        return Done("that was it")

    def _chunks(self) -> Iterator[tuple[int, bytes]]:
        offset = 0
        with self.file.open("rb") as file:
            while data := file.read(CHUNK_BYTES):
                if offset == 0:
                    at = 8 + int.from_bytes(data[:8], "little")
                    data = data[:at] + np.float32(self.client).tobytes() + data[at + 4 :]
                yield offset, data
                offset += len(data)

    def _commit(self) -> Commit:
        digest = hashlib.sha256()
        for _, data in self._chunks():
            digest.update(data)
        commitment = self.terms.commitment(
            0, self.client, KEYS.public, SAMPLES, self.model.digest, digest.digest()
        )
        sig = KEYS.sign(commitment.signing_bytes())
        return Commit(pack(commitment.to_item()), sig, self.file.stat().st_size, 1.0, 0.5)


class FakeWorker:
    """Gives back the weights that it got: what it would compute is another process's memory."""

    async def call(self, request: Any, progress: Any = None) -> Any:
        await trio.lowlevel.checkpoint()
        assert isinstance(request, ServerStep)
        return Stepped(request.weights, b"")


class Trusting:
    """What a node thinks of its peers, where all are honest."""

    def useful(self, peer: str, size: int) -> None:
        """Nothing to remember."""


@dataclass
class FakeRound:
    """Has every update pulled and keeps a receipt of it."""

    nursery: trio.Nursery
    delivered: list[Receipted] = field(default_factory=list)

    def on_report(self, report: Report) -> None:
        match report.event:
            case machine.CommitReceived():
                self.nursery.start_soon(report.session.pull)
            case machine.UpdateReceived(peer, client):
                update = report.delivered
                assert update is not None
                receipt = Receipt.countersign(update.commitment, update.trainer_sig, KEYS)
                self.delivered.append(Receipted(client, peer, update.path, receipt, 1.0, 0.5))
            case machine.UpdateBad(_, _, reason):
                raise AssertionError(reason)


async def one_round(terms: JobTerms, rule: str, uploaders: int, folder: Path) -> dict[str, Any]:
    """A round's uploads and its aggregation: peaks of memory in MiB, and seconds."""
    weights = (folder / "model").read_bytes()
    model = GlobalModel(weights, tensors.digest(weights), largest_norm("auto", weights))
    spool, shapes = folder / f"spool-{rule}-{uploaders}", terms.shapes()
    spool.mkdir()
    base, begun = peak_mib(), time.monotonic()
    standing: Any = Trusting()
    async with trio.open_nursery() as nursery:
        current = FakeRound(nursery)
        known: dict[bytes, tuple[int, int]] = {}
        for client in range(uploaders):
            stream: Any = FakeStream(terms, client, model, folder / "update")
            session = PeerSession(
                stream, terms, KEYS, "requester", standing, shapes, spool, known, current.on_report, _ignore
            )
            session.account = KEYS.public
            session.expect(0, client, SAMPLES, model)
            nursery.start_soon(session.listen)
    assert len(current.delivered) == uploaders
    uploaded, spooled = peak_mib(), time.monotonic()
    worker: Any = FakeWorker()
    unused: Any = None
    aggregator = Aggregator(
        worker, Optimizer("sgd", 1.0), terms.model, folder, Aggregation(rule), terms.upload, unused, print
    )
    await aggregator.step(0, sorted(current.delivered, key=lambda item: item.client), model, b"")
    return {
        "with the model": round(base), "while uploading": round(uploaded), "peak": round(peak_mib()),
        "upload s": round(spooled - begun, 1), "aggregate s": round(time.monotonic() - spooled, 1),
    }  # fmt: skip


def _ignore(session: PeerSession) -> None:
    """Nobody looks."""


def prepare(folder: Path, hidden: list[int]) -> None:
    """The model's description, its weights and an update of it, on disk."""
    spec = models.build("mlp", {"hidden": hidden}, (8, 8), 10)
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal(shape, np.float32) for shape in spec.weight_shapes]
    (folder / "model.json").write_text(spec.to_json())
    (folder / "model").write_bytes(tensors.encode(arrays))
    (folder / "update").write_bytes(tensors.encode([np.float32(0.01) * array for array in arrays]))


def measure(folder: Path, rule: str, uploaders: int) -> None:
    """One measurement, in this process; prints it."""
    model = (folder / "model.json").read_text()
    assert keras_json.parse(model).params
    terms = JobTerms(bytes(32), bytes(32), KEYS.public, "bench", model, Optimizer("sgd", 0.1), 10, 1, 1, 1, 0)
    print(json.dumps(trio.run(one_round, terms, rule, uploaders, folder)))


def _in_a_fresh_process(folder: Path, rule: str, uploaders: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.uploads", "--measure", str(folder), rule, str(uploaders)]
    done = subprocess.run(command, cwd=REPO, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    print(f"{rule}, {uploaders} uploaders: {found}", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--uploaders", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--rules", nargs="+", default=["mean", "median", "trimmed_mean"])
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(Path(given.measure[0]), given.measure[1], int(given.measure[2]))
        return
    hidden = [6000, 4000]
    if given.smoke:
        hidden, given.uploaders, given.rules = [600, 400], [2, 4], ["mean"]
    found: dict[str, Any] = {"cpus": os.cpu_count()}
    with TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, hidden)
        found["model MiB"] = round((folder / "model").stat().st_size / 2**20, 1)
        for rule in given.rules:
            rows = {str(count): _in_a_fresh_process(folder, rule, count) for count in given.uploaders}
            peaks = [row["peak"] for row in rows.values()]
            found[rule] = {**rows, "largest over smallest peak": round(max(peaks) / min(peaks), 3)}
            _clear(folder)
    print(json.dumps(found, indent=2))


def _clear(folder: Path) -> None:
    for path in folder.glob("spool-*/*"):
        path.unlink()


if __name__ == "__main__":
    main()
