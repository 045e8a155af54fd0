"""What the demo trains on: the handwritten digits that come with p2pml, as a tar, and the job's spec."""

from __future__ import annotations

import tarfile
from importlib import resources
from pathlib import Path

DATASET_NAME = "digits.tar"
TOKENS = 20
"""The job's budget."""

_SPEC = """\
# The demo's job: a small network on 8x8 handwritten digits, trained by every node that is willing.
version: 1
name: digits
seed: 1
model: {{builder: mlp, args: {{hidden: [64]}}}}
data:
  train: {dataset}
  partition: {{kind: iid}}
train: {{algorithm: fedavg, optimizer: sgd, lr: 0.1, batch: 16, epochs: 5}}
rounds: {{max: {rounds}}}
peers: {{min: {least}, max: 8, quorum: 0.6, stall: 60s, join: 180s}}
reward: {{budget: {budget}}}
output: {{dir: {output}}}
"""


def write_dataset(folder: Path) -> Path:
    """Write the digits as `digits.tar`, the same bytes every time, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    source = resources.files("p2pml") / "data"
    path = folder / DATASET_NAME
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive, resources.as_file(source) as files:
        for name in ("digits.npz", "README.md"):
            archive.add(files / name, arcname=f"digits/{name}", filter=_anonymous)
    return path


def make_spec(rounds: int, trainers: int, output: Path) -> str:
    """The demo's job spec for that many rounds and at most so many trainers."""
    return _SPEC.format(
        dataset=DATASET_NAME, rounds=rounds, least=max(1, min(2, trainers)), budget=TOKENS, output=output
    )


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member
