"""The lab's report: one page that stands alone, and nothing that a node says becomes part of it unescaped."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

from p2pml.lab.run.checks import Result
from p2pml.lab.run.finality import TimeToFinality, time_to_finality
from p2pml.lab.run.page import render
from p2pml.lab.run.report import Job, NodeFacts, Rating, Report, Swarm
from p2pml.lab.run.timeline import Event, Sample

_EVIL = "<script>alert('x')</script>&\"<b onload=1>"
_VOID = {"meta", "br", "i"}


def _report(text: str, *, ok: bool = True) -> Report:
    samples = [
        Sample(
            t,
            "up",
            int(t),
            f"{t}",
            int(t) - 1,
            10**11,
            t / 2,
            10**8,
            int(t) * 10**5,
            5,
            False,
            10 * int(t),
            int(t) // 2,
        )
        for t in (1.0, 2.0, 3.0)
    ]
    return Report(
        scenario=text, text=text, backend="namespaces", described=text, shaping="nfqueue", link=text,
        machine=text, began=text, seconds=3.0, wire=True, failures=[] if ok else [text], skipped=[text],
        checks=[Result(text, ok, text)],
        nodes=[NodeFacts(text, text, text, True, True, text, 1, 2, 3, 1.0, 10**8, 10**6, 10, "fast")],
        jobs=[
            Job(
                text, text, text, text, 5, 2, [{"accuracy": 0.5, "loss": 1.0}],
                [{"name": text, "state": text, "reason": text, "samples": 1, "earned": 2}],
            )
        ],
        swarms=[Swarm(text, text, 10, False, {text: 4, "n2": 6})],
        finality=TimeToFinality(5, 1.5, 2.0),
        ratings=[Rating(text, 12, 0.5, 40, 940_000, None, 2, 3)],
        events=[Event(1.0, "node", text, text), Event(2.0, "node", "n1", f"killed {text}")],
        samples={text: samples, "n1": samples[:1], "n2": []},
    )  # fmt: skip


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.open: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open.pop() == tag


def test_the_page_is_well_formed_and_stands_alone() -> None:
    page = render(_report("plain"))
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.seen.isdisjoint({"script", "link", "img", "iframe", "object"})
    assert tags.attributes.isdisjoint({"src", "href", "onload"})
    assert not re.search(r"https?://|url\(|@import", page.replace('xmlns="http://www.w3.org/2000/svg"', ""))
    assert "all went well" in page
    assert "NFQUEUE stand-in" in page


def test_what_others_say_is_escaped() -> None:
    page = render(_report(_EVIL, ok=False))
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []
    assert {"script", "b"}.isdisjoint(tags.seen)
    assert "onload" not in tags.attributes
    assert "&lt;script&gt;" in page
    assert "1 failed" in page


def test_both_files_are_written(tmp_path: Path) -> None:
    data, page = _report("x", ok=False).write(tmp_path / "new" / "folder")
    told = json.loads(data.read_text())
    assert told["ok"] is False
    assert told["samples"]["n1"][0]["height"] == 1
    assert page.read_text().startswith("<!doctype html>")


def test_time_to_finality_is_from_a_nodes_head_to_its_final_block() -> None:
    def look(at: float, height: int, final: int) -> Sample:
        return Sample(at, "up", height, "x", final)

    steady = [look(0, 1, 0), look(2, 2, 1), look(4, 4, 1), look(9, 5, 4)]
    # Block 1 was there before anybody looked; 2 took 7 s, 3 and 4 took 5 s.
    silent = [Sample(1.0, "silent"), look(3, 7, 5), look(4, 7, 5)]
    found = time_to_finality({"n1": steady, "n2": silent})
    assert found is not None
    assert (found.blocks, found.median_s) == (3, 5)
    assert time_to_finality({"n2": silent}) is None


def test_empty_blocks_before_a_silence_do_not_wait_for_the_heartbeat() -> None:
    def look(at: float, height: int, final: int, settled: bool = False) -> Sample:
        return Sample(at, "up", height, "x", final, settled=settled)

    seen = [look(0, 0, 0), look(2, 1, 0), look(4, 2, 0), look(6, 3, 1, True), look(30, 3, 1, True)]
    heartbeat = [look(32, 4, 1), look(34, 5, 1), look(36, 6, 4, True)]
    # 4, 2 and 0 s after they came, and the same after the heartbeat.
    found = time_to_finality({"n1": [*seen, *heartbeat]})
    assert found is not None
    assert (found.blocks, found.median_s) == (6, 2)
