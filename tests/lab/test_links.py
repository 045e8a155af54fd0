"""Links as data, and the kernel commands that they become."""

from __future__ import annotations

import pytest

from p2pml.lab import rules
from p2pml.scenario.links import Link, parse_rate


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10 Mbit", 10_000_000),
        ("1.5mbit/s", 1_500_000),
        ("64kbit", 64_000),
        ("1 Gbit/s", 10**9),
        (9600, 9600),
    ],
)
def test_parse_rate(text: object, expected: int) -> None:
    assert parse_rate(text) == expected


@pytest.mark.parametrize("text", ["10 MB", "fast", True, None, float("nan"), "-1 Mbit", [1]])
def test_parse_rate_refuses(text: object) -> None:
    with pytest.raises(ValueError, match="rate must be"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"rate": 100}, "below"),
        ({"delay_ms": -1}, "delay_ms"),
        ({"delay_ms": 5, "jitter_ms": 6}, "jitter_ms"),
        ({"loss": 5}, "fraction"),
        ({"loss": "5%"}, "must be a number"),
        ({"queue_bytes": 100}, "packet"),
        ({"latency": 5}, "unknown link setting 'latency'"),
    ],
)
def test_bad_links_are_refused(values: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Link.from_mapping(values)


def test_from_mapping() -> None:
    link = Link.from_mapping({"rate": "5 Mbit", "delay_ms": 40, "loss": 0.02, "queue_bytes": None})
    assert link == Link(rate=5_000_000, delay_ms=40.0, loss=0.02)
    assert str(link) == "5 Mbit/s, 40 ms ± 0 ms, 2.00% lost"


def test_the_queue_holds_a_tenth_of_a_second() -> None:
    assert Link(rate=80_000_000).queue == 1_000_000
    assert Link(rate=8_000).queue == 32 * 1024
    assert Link(rate=8_000, queue_bytes=5_000).queue == 5_000


def test_rate_commands() -> None:
    assert rules.rate_commands("eth0", Link()) == ["qdisc replace dev eth0 root noqueue"]
    assert rules.rate_commands("eth0", Link(rate=10_000_000)) == [
        "qdisc replace dev eth0 root handle 2: stab overhead -14 linklayer ethernet "
        "tbf rate 10000000bit burst 12500b limit 137500b"
    ]


def test_netem_commands() -> None:
    assert rules.netem_commands("port1", Link()) == ["qdisc replace dev port1 root noqueue"]
    delay, child = rules.netem_commands("port1", Link(delay_ms=12.5, jitter_ms=2, loss=0.015))
    assert delay == (
        "qdisc replace dev port1 root handle 1: netem limit 200000 delay 12500us 2000us loss 1.5%"
    )
    assert child == "qdisc replace dev port1 parent 1:1 handle 3: pfifo limit 200000"
    lossy, bucket = rules.netem_commands("port1", Link(rate=10_000_000, loss=0.5))
    assert lossy == "qdisc replace dev port1 root handle 1: netem limit 200000 loss 50%"
    assert bucket.startswith("qdisc replace dev port1 parent 1:1 handle 4: stab")


def test_rules_fill_only_the_labs_own_chains() -> None:
    text = rules.hook_rules() + rules.host_rules("eth0", 7, ["198.18.0.3", "198.18.0.2"])
    lines = text.splitlines()
    assert [line for line in lines if line.startswith("-A ") and not line.startswith("-A P2PML-LAB")] == [
        "-A PREROUTING -j P2PML-LAB",
        "-A INPUT -j P2PML-LAB",
    ]
    assert lines[-7:] == [
        "-A P2PML-LAB -i eth0 -j NFQUEUE --queue-num 7",
        "COMMIT",
        "*filter",
        ":P2PML-LAB - [0:0]",
        "-A P2PML-LAB -i eth0 -s 198.18.0.2 -j DROP",
        "-A P2PML-LAB -i eth0 -s 198.18.0.3 -j DROP",
        "COMMIT",
    ]


def test_no_delay_means_no_queue() -> None:
    assert "NFQUEUE" not in rules.host_rules("eth0", None, [])
