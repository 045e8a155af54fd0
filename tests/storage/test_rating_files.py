"""Traces and audit notes on disk: what comes back, and what a damaged file does."""

from __future__ import annotations

from pathlib import Path

import pytest

from chain.baseline.trace import Leaf
from chain.rating.items import Report
from p2pml.storage.audit_notes import AuditNote, AuditNotes
from p2pml.storage.rating_traces import DamagedTrace, KeptTrace, RatingTraces

LEAVES = tuple(Leaf(number // 8, number % 8, bytes([number]) * 32) for number in range(20))


def kept(window: int = 64) -> KeptTrace:
    return KeptTrace(window, b"c" * 32, b"i" * 20, 7, LEAVES)


def test_a_trace_comes_back_and_goes_with_the_next_window(tmp_path: Path) -> None:
    traces = RatingTraces(tmp_path / "ratings")
    assert traces.read(64) is None
    traces.write(kept())
    assert RatingTraces(tmp_path / "ratings").read(64) == kept()
    traces.write(kept(128))
    traces.forget_before(128)
    assert traces.read(64) is None
    assert traces.read(128) == kept(128)


@pytest.mark.parametrize("cut", [1, 47, 48, 1000])
def test_a_trace_that_is_cut_off_is_none(tmp_path: Path, cut: int) -> None:
    traces = RatingTraces(tmp_path)
    traces.write(kept())
    path = tmp_path / "64.trace"
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(DamagedTrace, match=r"64\.trace"):
        traces.read(64)


def test_a_trace_of_another_window_is_none(tmp_path: Path) -> None:
    traces = RatingTraces(tmp_path)
    traces.write(kept())
    (tmp_path / "64.trace").rename(tmp_path / "128.trace")
    with pytest.raises(DamagedTrace):
        traces.read(128)


def test_an_audit_note_is_of_one_draw(tmp_path: Path) -> None:
    notes = AuditNotes(tmp_path / "ratings" / "audit.json")
    assert notes.read(64, b"d" * 32) is None
    note = AuditNote(64, b"d" * 32, b"s" * 32, (Report(b"a" * 32, b"m" * 16), Report(b"b" * 32, bytes(8))))
    notes.write(note)
    assert notes.read(64, b"d" * 32) == note
    assert notes.read(64, b"e" * 32) is None
    assert notes.read(65, b"d" * 32) is None
    (tmp_path / "ratings" / "audit.json").write_text('{"window": 64}')
    assert notes.read(64, b"d" * 32) is None
