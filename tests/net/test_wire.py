"""Messages and addresses: what peers send is plain values within bounds, or refused."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pml.net import addresses, wire
from p2pml.net.errors import Malformed

PEER = "12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq"
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(0, 100), inner),
    max_leaves=20,
)  # fmt: skip


@given(plain)
def test_plain_values_come_back(value: object) -> None:
    framed = wire.frame(value)
    assert int.from_bytes(framed[:4], "big") == len(framed) - 4
    assert wire.decode(framed[4:]) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    try:
        wire.decode(data)
    except Malformed:
        return
    assert data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        wire.encode(1) + b"\x00",
        msgpack.packb(msgpack.ExtType(5, b"x")),
        msgpack.packb(msgpack.Timestamp(1)),
        msgpack.packb({1.5: 1}),
        msgpack.packb({b"k": 1}),
        b"\x91" * 5000 + b"\x00",
        b"\xdd\xff\xff\xff\xff",
        b"\xa1\xff",
    ],
    ids=["empty", "trailing", "ext", "timestamp", "float key", "bytes key", "deep", "long", "not utf-8"],
)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        wire.decode(data)


def test_what_has_no_form_on_the_wire_is_our_mistake() -> None:
    with pytest.raises(TypeError):
        wire.encode(object())


@pytest.mark.parametrize(
    ("location", "good"),
    [
        ("/ip4/127.0.0.1/tcp/9470", True),
        ("/ip6/::1/tcp/1", True),
        ("/dns4/node.example.org/tcp/9470", True),
        ("/ip4/0.0.0.0/tcp/9470", False),
        ("/ip4/127.0.0.1/tcp/0", False),
        ("/ip4/127.0.0.1/udp/9470/quic-v1", False),
        ("/ip4/127.0.0.1/tcp/9470/ws", True),
        ("/ip4/127.0.0.1/tcp/9470/wss", False),
        ("/ip4/300.0.0.1/tcp/9470", False),
        ("", False),
        ("x" * 5000, False),
    ],
)
def test_only_tcp_and_websocket_addresses_of_hosts_are_dialled(location: str, good: bool) -> None:
    assert addresses.dialable(location) == good


def test_an_address_is_split_into_place_and_peer() -> None:
    assert addresses.split(f"/ip4/192.0.2.7/tcp/9470/p2p/{PEER}") == ("/ip4/192.0.2.7/tcp/9470", PEER)
    for bad in ("", PEER, "/ip4/192.0.2.7/tcp/9470", f"/p2p/{PEER}", f"/ip4/1.2.3.4/p2p/{PEER}"):
        with pytest.raises(ValueError, match=r"TCP address|/p2p/"):
            addresses.split(bad)


def test_a_wildcard_is_told_as_this_machines_own_addresses() -> None:
    told = addresses.expand(["/ip4/0.0.0.0/tcp/9470"])
    assert "/ip4/127.0.0.1/tcp/9470" in told
    assert all(addresses.dialable(location) for location in told)
    assert addresses.expand(["/ip4/192.0.2.1/tcp/5"]) == ["/ip4/192.0.2.1/tcp/5"]
