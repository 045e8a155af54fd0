"""Names of peers by plain TCP, whom a stranger may have us dial, which of two links to one client ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from p2pml.net.piece_link import Link
from p2pml.net.plain_peer import (
    address_of,
    allowed_peers,
    block_of,
    host_name,
    ipv4_of,
    is_plain,
    plain_name,
)
from p2pml.net.twins import worse_of

OURS, THEIRS = b"a" * 20, b"b" * 20


def test_names_and_addresses() -> None:
    assert plain_name("192.0.2.7", 6881) == plain_name("::ffff:192.0.2.7", 6881) == "tcp:192.0.2.7:6881"
    assert plain_name("2001:DB8::1", 1) == "tcp:[2001:db8::1]:1"
    assert address_of("tcp:[2001:db8::1]:1") == ("2001:db8::1", 1)
    assert address_of("tcp:192.0.2.7:6881") == ("192.0.2.7", 6881)
    assert host_name("tcp:192.0.2.7:6881") == host_name("tcp:192.0.2.7") == "tcp:192.0.2.7"
    assert host_name("tcp:[2001:db8::1]:1") == host_name("tcp:[2001:db8::1]") == "tcp:[2001:db8::1]"
    assert is_plain("tcp:192.0.2.7:6881")
    assert not is_plain("12D3KooWabc")
    assert block_of("2001:db8::1") == block_of("2001:db8::2") == "2001:db8::/64"
    assert block_of("::ffff:192.0.2.7") == "192.0.2.7"


@pytest.mark.parametrize(
    ("ip", "public", "private"),
    [
        ("8.8.8.8", True, True),
        ("2600::1", True, True),
        ("127.0.0.1", False, True),
        ("10.1.2.3", False, True),
        ("192.168.0.1", False, True),
        ("169.254.169.254", False, True),
        ("fe80::1", False, True),
        ("::1", False, True),
        ("::ffff:127.0.0.1", False, True),
        ("64:ff9b::7f00:1", False, False),
        ("2002:7f00:1::", False, False),
        ("2001:0:7f00:1::", False, False),
        ("0.0.0.0", False, False),
        ("224.0.0.1", False, False),
        ("255.255.255.255", False, False),
        ("240.0.0.1", False, False),
        ("ff02::1", False, False),
        ("::", False, False),
    ],
)
def test_only_who_is_inside_names_addresses_inside(ip: str, public: bool, private: bool) -> None:
    assert allowed_peers([(ip, 6881)], local=False) == ([plain_name(ip, 6881)] if public else [])
    assert allowed_peers([(ip, 6881)], local=True) == ([plain_name(ip, 6881)] if private else [])
    assert allowed_peers([(ip, 0), (ip, 70000)], local=True) == []


@dataclass
class FakeLink:
    peer: str
    dialled: bool
    remote_id: bytes = THEIRS


def worse(new: FakeLink, old: FakeLink, ours: bytes = OURS, **ips: str) -> Any:
    def ip_of(peer: str) -> str | None:
        return address_of(peer)[0] if is_plain(peer) else ips.get(peer, "192.0.2.7")

    return worse_of(cast(Link, new), cast(Link, old), ours, ip_of)


def test_a_proved_peer_stays_before_its_tcp_link_in_either_order() -> None:
    proved, plain = FakeLink("12D3a", True), FakeLink("tcp:192.0.2.7:1", False)
    assert worse(plain, proved) is plain
    assert worse(proved, plain) is plain
    assert worse(proved, FakeLink("12D3b", True)) is None


def test_links_from_other_addresses_or_of_other_clients_are_left_alone() -> None:
    plain = FakeLink("tcp:192.0.2.7:1", False)
    assert worse(plain, FakeLink("tcp:192.0.2.8:1", False)) is None
    assert worse(plain, FakeLink("tcp:192.0.2.7:2", False, b"c" * 20)) is None
    assert worse(plain, FakeLink("tcp:192.0.2.7:2", False, b"")) is None
    assert worse(FakeLink("12D3a", True), plain, **{"12D3a": "192.0.2.9"}) is None
    assert worse(plain, plain) is None


def test_of_two_that_crossed_both_sides_keep_the_same_one() -> None:
    left = {"dialled": FakeLink("tcp:192.0.2.7:1", True), "came": FakeLink("tcp:192.0.2.7:2", False)}
    for new, old in (("dialled", "came"), ("came", "dialled")):
        assert worse(left[new], left[old], OURS) is left["came"]  # ours is smaller: what we dialled stays
        assert worse(left[new], left[old], b"z" * 20) is left["dialled"]
    older, newer = FakeLink("tcp:192.0.2.7:1", False), FakeLink("tcp:192.0.2.7:2", False)
    assert worse(newer, older) is newer


@pytest.mark.parametrize(
    ("peer", "ip"),
    [
        (plain_name("192.0.2.1", 7), "192.0.2.1"),
        (plain_name("::ffff:192.0.2.1", 7), "192.0.2.1"),
        (plain_name("2001:db8::1", 7), None),
        ("12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN", None),
    ],
)
def test_only_clients_at_an_ipv4_address_have_one(peer: str, ip: str | None) -> None:
    assert ipv4_of(peer) == ip
