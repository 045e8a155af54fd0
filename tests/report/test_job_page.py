"""A job's page: what it says is what the record says, and nothing of it becomes markup."""

from __future__ import annotations

import re
from typing import Any

from p2pml.report.job_page import LAST_LINES, render
from tests.report.markup import stands_alone

_EVIL = "<script>alert('x')</script>&\"<b onload=1>"


def _job(text: str = "digits") -> dict[str, Any]:
    history = [
        {"round": 1, "accuracy": 0.5, "loss": 1.0, "seconds": 2.0, "samples": 300, "clients": 3},
        {"round": 2, "accuracy": 0.75, "loss": 0.25, "seconds": 4.0, "samples": 200, "clients": 2},
    ]
    return {
        "id": "0123456789abcdef", "name": text, "state": "done", "end": "done", "reason": text,
        "rounds": 9, "history": history, "budget": 10**9, "spent": 5 * 10**8, "price": 10**5,
        "chain_job": "ab" * 32, "output": text,
        "peers": [
            {"peer": text, "name": text, "state": "left", "reason": text, "clients": [0, 2],
             "samples": 400, "earned": 4 * 10**8},
            {"peer": "12D3", "name": "", "state": "waiting", "reason": "", "clients": [1],
             "samples": 100, "earned": 10**8},
        ],
    }  # fmt: skip


def _log(text: str, count: int = 2) -> list[dict[str, Any]]:
    return [{"number": i + 1, "at": float(i), "text": f"{text} {i}"} for i in range(count)]


def _cells(page: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", page)
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows]


def test_rounds_shares_and_payments_are_there() -> None:
    page = render(_job(), "name: digits", _log("begun"))
    stands_alone(page)
    rows = _cells(page)
    assert ["2", "75.00%", "0.25", "4.0", "200", "2"] in rows
    assert [row[:3] + row[4:] for row in rows if row[:1] == ["12D3"]] == [
        ["12D3", "waiting", "1", "100", "20.0%", "1.0000"]
    ]
    assert "10.0000 tokens, 5.0000 of them earned" in page
    assert "<dd>2 of 9</dd>" in page
    assert "name: digits" in page
    assert "1970-01-01 00:00:01 UTC  begun 1" in page


def test_accuracy_and_loss_are_drawn_by_rounds_samples_and_seconds() -> None:
    page = render(_job(), "", [])
    for label in ("rounds", "samples trained on", "seconds in rounds"):
        assert page.count(f">{label}</text>") == 2
    # The last x is the sum: 500 samples, 6 seconds; a path from the first point's share of it to the end.
    starts = re.findall(r'<path d="M([\d.]+) [\d.]+L([\d.]+) ', page)
    assert starts == [("503.0", "946.0"), ("591.6", "946.0"), ("355.3", "946.0")] * 2


def test_what_others_say_is_escaped() -> None:
    page = render(_job(_EVIL), _EVIL, _log(_EVIL))
    stands_alone(page)
    assert page.count("&lt;script&gt;") >= 7


def test_a_job_without_rounds_has_a_page_too() -> None:
    job = {**_job(), "history": [], "peers": [], "state": "failed", "end": "no-trainers", "output": ""}
    page = render(job, "", [])
    stands_alone(page)
    assert '<span class="verdict bad">no-trainers</span>' in page
    assert "nothing was seen" in page
    assert "nobody" in page


def test_of_a_long_log_the_end_is_shown() -> None:
    page = render(_job(), "", _log("line", LAST_LINES + 10))
    assert "line 9\n" not in page
    assert "line 10\n" in page
    assert f"line {LAST_LINES + 9}<" in page
