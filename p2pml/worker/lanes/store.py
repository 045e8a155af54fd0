"""Mixed samples in a folder: written once, mapped by every lane, so that they are in memory once."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from chain.baseline.dataset import Samples
from chain.baseline.net import Net


def write(folder: Path, net: Net, samples: Samples) -> None:
    """Write them into an existing folder."""
    np.save(folder / "x.npy", samples.x)
    np.save(folder / "y.npy", samples.y)
    (folder / "net.json").write_text(json.dumps(asdict(net)))


def read(folder: Path) -> tuple[Net, Samples]:
    """Map what `write` wrote. Raises OSError."""
    net = Net(**json.loads((folder / "net.json").read_text()))
    x = np.load(folder / "x.npy", mmap_mode="r")
    return net, Samples(np.asarray(x), np.load(folder / "y.npy"))
