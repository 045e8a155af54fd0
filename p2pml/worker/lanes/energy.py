"""What the processors used, from Linux's powercap (RAPL) counters, where they are and may be read.

Only packages are counted; their parts (cores, graphics) are in them. The counters run over: with at most one
turn between two readings, which is tens of minutes at full power, the difference is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters of all packages: name to (microjoules, size of the counter)."""

    packages: dict[str, tuple[int, int]]


def read(folder: Path = POWERCAP) -> Reading | None:
    """The counters now; None where there are none, or where this user may not read them."""
    packages = {}
    try:
        for zone in sorted(folder.glob("intel-rapl:*")):
            if (zone / "name").read_text().startswith("package"):
                counter = int((zone / "energy_uj").read_text())
                packages[zone.name] = (counter, int((zone / "max_energy_range_uj").read_text()))
    except (OSError, ValueError):
        return None
    return Reading(packages) if packages else None


def joules(before: Reading | None, after: Reading | None) -> int | None:
    """Whole joules between two readings; None when the same packages were not read twice."""
    if before is None or after is None or before.packages.keys() != after.packages.keys():
        return None
    used = 0
    for name, (end, size) in after.packages.items():
        difference = end - before.packages[name][0]
        used += difference if difference >= 0 else difference + size
    return used // 1_000_000
