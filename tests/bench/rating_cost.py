"""What a rating window costs the chain and its auditors: `python -m tests.bench.rating_cost`. Prints JSON.

Bytes are of real encodings: of a claim of 2,000 segments on ten classes, audited by three, each auditor drawn
for three subjects on average. Capacity is what the blocks of each phase may hold. The audit's work is counted
over the part of every auditor of such a claim: a look trains its episode from the beginning.
"""

from __future__ import annotations

import json
from typing import Any

from chain.baseline.trace import Leaf, Trace
from chain.crypto import H
from chain.params import PRESETS
from chain.rating.auditing import AUDITORS, POSITIONS, part, positions
from chain.rating.auditor import Subject
from chain.rating.draws import EVALUATED
from chain.rating.entries import Window
from chain.rating.items import MARK_BYTES, MAX_RATING_ITEM_BYTES, AuditCommit, AuditReveal, Report
from tests.chain.rating_players import EPISODE, STUB_NET, StubBench

SEGMENTS = 2_000
COUNTS = (6, 100, 1_000)
SIGNATURE = bytes(64)
WINDOW = Window(64, 5, 4, bytes(32), bytes(32))


def sizes() -> dict[str, int]:
    """Encoded bytes of each item that a node without quarrels sends."""
    leaves = [Leaf(i // EPISODE, i % EPISODE, H("cost", i.to_bytes(4, "big"))) for i in range(SEGMENTS)]
    subject = Subject(bytes(32), Trace(STUB_NET, leaves))
    account = (bytes(32), WINDOW.start, WINDOW.draw)
    points = {
        "commit": subject.commit(WINDOW, 20_000),
        "reveal": subject.reveal(WINDOW, StubBench()),
        "audit commit": AuditCommit(*account, bytes(32)),
        "audit reveal": AuditReveal(*account, bytes(32), reports(AUDITORS)),
    }
    return {name: len(point.encoded) + len(SIGNATURE) + 1 for name, point in points.items()}


def reports(count: int) -> tuple[Report, ...]:
    """Of so many subjects."""
    return tuple(Report(bytes(32), bytes(-(-POSITIONS // AUDITORS) * MARK_BYTES)) for _ in range(count))


def most_subjects() -> int:
    """How many subjects the reports of one item may be about."""
    count = 1
    while (
        len(AuditReveal(bytes(32), 64, bytes(32), bytes(32), reports(count), SIGNATURE).encoded)
        <= MAX_RATING_ITEM_BYTES
    ):
        count += 1
    return count - 1


def audit_work() -> dict[str, Any]:
    """Segments that auditors train of one claim, over those that it claims; the mean of a hundred draws."""
    replayed = 0
    for seed in range(100):
        drawn = positions(H("cost-draw", seed.to_bytes(4, "big")), bytes(32), SEGMENTS)
        for place in range(AUDITORS):
            last: dict[int, int] = {}
            for position in part(drawn, place, AUDITORS):
                episode, segment = divmod(position, EPISODE)
                last[episode] = max(last.get(episode, 0), segment)
            replayed += sum(segment + 1 for segment in last.values())
    mean = replayed / 100 + EVALUATED * EPISODE
    return {"segments": SEGMENTS, "replayed": round(mean, 1), "share": round(mean / SEGMENTS, 4)}


def against(preset: str, found: dict[str, int], nodes: int) -> dict[str, Any]:
    """Blocks that the phases' items need at least, and the bytes of the fullest one over the limit."""
    params = PRESETS[preset]
    phases = {
        "commit": params.grace_slots,
        "reveal": params.reveal_slots,
        "audit commit": params.audit_commit_slots,
        "audit reveal": params.audit_reveal_slots,
    }
    per_block = min(params.max_rating_items, nodes)
    return {
        "bytes on chain": nodes * sum(found.values()),
        "blocks needed of blocks there are": {
            name: [-(-nodes // params.max_rating_items), slots] for name, slots in phases.items()
        },
        "fullest block over the limit": round(per_block * max(found.values()) / params.max_body_bytes, 4),
    }


def main() -> None:
    found = sizes()
    presets = [name for name, params in PRESETS.items() if params.window_every_epochs]
    told = {
        "bytes of an item": found,
        "bytes of a rating": sum(found.values()),
        "most subjects of one audit reveal": most_subjects(),
        "audit work": audit_work(),
        "blocks": {name: {str(n): against(name, found, n) for n in COUNTS} for name in presets},
    }
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
