"""docs/spec/rating-audits.md: the draws of an audit, with the weights of the example."""

from __future__ import annotations

from chain.rating.auditing import auditors, mark, mark_step, part, positions, spots
from chain.rating.phases import NET
from tests.spec.example import story
from tests.spec.markdown import values

DRAW, SPOT, SUBJECT = b"\xd1" * 32, b"\x5b" * 32, b"\x3a" * 32
WINDOW, SEGMENTS, STATE = 64, 100, bytes(range(0xA0, 0xA8))


def _draws() -> str:
    table = story().states[0].table_at(0)
    chosen = auditors(DRAW, WINDOW, SUBJECT, table)
    mine = part(positions(DRAW, SUBJECT, SEGMENTS), 0, len(chosen))
    again = spots(SPOT, chosen[0], SUBJECT, len(mine))
    return values(
        "the weight table is the example's; the subject is not in it and claims 100 segments",
        ("draw", DRAW),
        ("spot", SPOT),
        ("window", WINDOW),
        ("subject", SUBJECT),
        *((f"auditor {seat}", public) for seat, public in enumerate(chosen)),
        ("positions of auditor 0", " ".join(map(str, mine))),
        ("step at its first position", mark_step(DRAW, SUBJECT, mine[0], NET.steps)),
        "were the weights after that step these bytes:",
        ("state", STATE),
        ("mark of auditor 0 at its first position", mark(chosen[0], SUBJECT, mine[0], STATE)),
        ("spots in the report of auditor 0", " ".join(map(str, again))),
    )


REGIONS = {"audit-draws": _draws}
