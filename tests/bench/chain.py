"""What the chain costs: checking and replaying blocks, their bytes on disk, a late node's sync, transactions
per second of real nodes.

    python -m tests.bench.chain                                 # all studies, about 4 minutes
    python -m tests.bench.chain --study verify replay disk      # on one core, no processes
    python -m tests.bench.chain --smoke                         # everything at its smallest

`verify` and `replay` take blocks as decoded from bytes, so nothing has been checked before; `replay` believes
seals and proofs in one row (a node's own database) and checks them in the other (`chain verify`). `sync`
starts two daemons, one with a chain of five-transaction blocks and one without. `tps` starts four and keeps
their pools filled; what counts is what stands in blocks. Prints JSON with the load before each study.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from tests.bench import chain_blocks, chain_nodes

STUDIES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "verify": chain_blocks.verify,
    "replay": chain_blocks.replay,
    "disk": chain_blocks.disk,
    "sync": chain_nodes.sync,
    "tps": chain_nodes.throughput,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", nargs="+", choices=tuple(STUDIES), default=list(STUDIES))
    parser.add_argument("--seconds", type=float, default=60.0, help="of load in `tps`")
    parser.add_argument(
        "--blocks", type=int, default=1_000, help="of five transactions, to sync and to replay"
    )
    parser.add_argument("--large", type=int, default=6, help="blocks of 2,000 transactions to replay")
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    if given.smoke:
        given.seconds, given.blocks, given.large = 8.0, 20, 1
    found: dict[str, Any] = {"cpus": os.cpu_count(), "python": sys.version.split()[0]}
    for name in given.study:
        load = round(os.getloadavg()[0], 2)
        found[name] = {**STUDIES[name](given), "load_before": load}
        print(f"{name}: {json.dumps(found[name])}", file=sys.stderr)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
