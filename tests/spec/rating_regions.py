"""docs/spec/rating.md: borders, the items' bytes, a window's draws and what it gave."""

from __future__ import annotations

from typing import Any

from chain.codec import unpack
from chain.params import PRESETS
from chain.rating.closing import Reason
from chain.rating.draws import evaluated, split
from chain.rating.items import (
    KINDS,
    Accusation,
    Answer,
    Challenge,
    Charge,
    Commit,
    Point,
    Reveal,
    point_from_item,
    sign,
)
from chain.rating.schedule import schedule, training_ms
from tests.chain.rating_window import Work, proven
from tests.spec.block_regions import encoding
from tests.spec.example import window_story
from tests.spec.fields import summary
from tests.spec.markdown import hashed, table, values


def _borders() -> str:
    lines = []
    for name, params in PRESETS.items():
        every = params.window_every_slots
        if every:
            found = schedule(params, every, params.window_slots)
            cells = (f"{getattr(found, border):,}" for border in found.__slots__)
            lines.append((name, f"{every:,}", *cells))
    heads = ("announce", "start", "train_end", "commit_end", "reveal_end", "audit_commit_end")
    return table(("preset", "every", *heads, "audit_reveal_end", "end"), lines)


def _points() -> dict[type[Point], Point]:
    """One of each kind: those of the example's blocks, and others that v0 could have sent."""
    told = window_story()
    found: dict[type[Point], Any] = {}
    for block in told.blocks:
        for item in block.body.ratings:
            found.setdefault(type(item), item)
    window, keys = told.drawn.window(), told.world.validators[0].keypair
    work = Work(told.world, keys, window)
    of_window = (keys.public, window.start, window.draw)
    other = told.world.validators[1].public
    found[Challenge] = Challenge(*of_window, other, (4, 7))
    found[Answer] = Answer(*of_window, other, (proven(work.leaves, 2), proven(work.leaves, 3)))
    found[Accusation] = Accusation(*of_window, Charge.SEGMENT, other, (proven(work.leaves, 3),), 0, b"")
    for kind in (Challenge, Answer, Accusation):
        found[kind] = sign(found[kind], keys, told.world.genesis.chain_id)
    return found


def _items() -> str:
    found = _points()
    shown = []
    for number, kind in sorted(KINDS.items()):
        point = found[kind]
        text = encoding(
            kind.__name__, point, point.encoded, lambda raw: point_from_item(unpack(raw, len(raw)))
        )
        tag = hashed(kind.TAG, "chain id", "the item without its signature")
        shown.append(f"### {kind.__name__} (kind {number})\n\n{summary(kind)}.\n\n{text}\n\nSigned is {tag}.")
    chain_id = values(("chain id", window_story().world.genesis.chain_id))
    return "\n\n".join((*shown, f"All are of this chain:\n\n{chain_id}"))


def _draws() -> str:
    """The draws of the example's window, and what they draw for one validator."""
    told = window_story()
    window, drawn = told.spotted.window(), told.drawn
    public = told.world.validators[2].public
    claim = told.spotted.claim(public, window.start)
    assert claim is not None
    parents = {state.block_id: state for state in (told.announced, drawn, told.spotted)}
    mixes = [told.world.chain.state(told.world.chain.block(block).prev).mix for block in parents]
    return values(
        ("start", window.start),
        ("mix", window.mix),
        f"draw = {hashed('rating-draw', 'mix of the parent', 'u64 start')}",
        ("mix of the draw's parent", mixes[1]),
        ("draw", window.draw),
        f"spot = {hashed('rating-spot', 'mix of the parent', 'u64 start')}",
        ("mix of the spot's parent", mixes[2]),
        ("spot", window.spot),
        ("v2", public),
        ("episodes that it claims", claim.episodes),
        ("evaluated", " ".join(map(str, evaluated(window.draw, public, claim.episodes)))),
        ("of 20 test samples", " ".join(map(str, split(window.draw, 20)))),
    )


def _outcomes() -> str:
    """What the example's window gave."""
    told = window_story()
    lines = []
    for number, keys in enumerate(told.world.validators):
        [got] = told.world.state.standing(keys.public).outcomes
        validator = told.world.state.validator(keys.public)
        assert validator is not None
        reason = Reason(got.reason).name
        factors = (f"{got.quality:,}", f"{got.quality_factor:,}", f"{got.energy_factor:,}")
        audits = f"{got.missed} of {got.duties}"
        lines.append((f"v{number}", got.segments, *factors, reason, got.rating, audits, validator.rating))
    head = ("validator", "segments", "quality", "Qf", "Ef", "reason", "outcome", "audits missed", "rating")
    return table(head, lines)


def _reveal() -> str:
    """The matrices of v0, from which the quality above follows."""
    reveal = _points()[Reveal]
    commit = _points()[Commit]
    assert isinstance(reveal, Reveal)
    assert isinstance(commit, Commit)
    return values(
        ("v0's matrices", " ".join(str(list(map(list, each.confusion))) for each in reveal.evaluations)),
        ("v0's energy in joules", commit.joules),
        (
            "window in ms",
            training_ms(window_story().world.genesis.params, window_story().spotted.window().slots),
        ),
    )


REGIONS = {
    "rating-borders": _borders,
    "rating-items": _items,
    "rating-draws": _draws,
    "rating-outcomes": lambda: f"{_outcomes()}\n\n{_reveal()}",
}
