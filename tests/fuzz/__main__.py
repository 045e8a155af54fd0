"""Fuzz for longer, by hand: every decoder, or those named.

python -m tests.fuzz --seconds 60                        # a minute each
python -m tests.fuzz --seconds 60 --seed 7 blocks shards # those two, other inputs
python -m tests.fuzz --replay 00ff… "noise records"      # one input again
"""

from __future__ import annotations

import argparse
import time

from tests.fuzz.registry import targets
from tests.fuzz.runner import Finding, fuzz, try_input


def main() -> int:
    known = targets()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="target", help="one of: " + ", ".join(known))
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--replay", metavar="HEX", help="try this input only")
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in known]
    if unknown:
        parser.error(f"no target is called {unknown[0]!r}; there are: {', '.join(known)}")
    findings = 0
    for name in given.names or known:
        try:
            if given.replay is not None:
                print(
                    f"{name}: {'taken' if try_input(known[name], bytes.fromhex(given.replay)) else 'refused'}"
                )
                continue
            tally = fuzz(known[name], given.seed, seconds=given.seconds)
            print(f"{name}: seed {given.seed}, {tally.inputs} inputs, {tally.taken} taken", flush=True)
        except Finding as finding:
            findings += 1
            print(f"FOUND {finding}", flush=True)
    return min(findings, 1)


if __name__ == "__main__":
    raise SystemExit(main())
