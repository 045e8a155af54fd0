"""What torrents and HTTP trackers say: strict, bounded, and never more than `TrackerError`."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

import pytest

from torrent import bencode
from torrent.bencode import Value
from torrent.client_id import client_name
from torrent.errors import LocalError, TrackerError
from torrent.hashing import PieceHasher
from torrent.metainfo import Metainfo, create, plan
from torrent.tracker import (
    MAX_PEERS,
    MAX_TRACKERS,
    Announcement,
    Tiers,
    is_tracker,
    parse_answer,
    trackers_of,
    with_trackers,
)


def row(ip: str, port: int) -> bytes:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    return socket.inet_pton(family, ip) + port.to_bytes(2, "big")


def answer(**table: Value) -> bytes:
    return bencode.encode({key.replace("_", " ").encode(): value for key, value in table.items()})


def torrent() -> Metainfo:
    hasher = PieceHasher(16384)
    hasher.update(b"x" * 100)
    return create("set", plan([(("set",), 100)], 16384), 16384, hasher.finish(), single_file=True)


def torrent_with(**table: Value) -> bytes:
    value = bencode.decode(torrent().raw)
    assert isinstance(value, dict)
    return bencode.encode(value | {key.replace("_", "-").encode(): item for key, item in table.items()})


def test_compact_ipv6_and_listed_peers() -> None:
    compact = answer(
        interval=900, peers=row("192.0.2.1", 6881) + row("192.0.2.2", 0), peers6=row("2001:db8::1", 1)
    )
    assert parse_answer(compact).peers == (("192.0.2.1", 6881), ("2001:db8::1", 1))
    assert parse_answer(compact).interval == 900
    rows: Value = [
        {b"ip": b"192.0.2.9", b"port": 7, b"peer id": bytes(20)},
        {b"ip": b"host.example", b"port": 7},
        {b"ip": b"192.0.2.9", b"port": 70000},
    ]
    assert parse_answer(answer(interval=1, min_interval=60, peers=rows)).peers == (("192.0.2.9", 7),)
    assert parse_answer(answer(interval=1, min_interval=60, peers=rows)).interval == 60
    many = b"".join(row(f"10.0.{number // 256}.{number % 256}", 1) for number in range(1000))
    assert len(parse_answer(answer(interval=1, peers=many)).peers) == MAX_PEERS


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"<html>", "not bencoded"),
        (b"d8:intervali1e5:peers0:8:intervali1ee", "not bencoded"),
        (b"le", "not a dictionary"),
        (answer(interval=b"x"), "interval"),
        (answer(peers=b"12345"), "rows of 6"),
        (answer(peers6=b"123456"), "rows of 18"),
        (answer(peers=7), "rows of 6"),
        (answer(peers=[b"x"]), "no address"),
        (answer(tracker_id=bytes(1000)), "tracker id"),
        (answer(failure_reason=b"no\x1b[31m " + b"x" * 1000), r"refuses: no\?\[31m x"),
    ],
)
def test_a_wrong_answer_is_the_trackers_fault(data: bytes, complaint: str) -> None:
    with pytest.raises(TrackerError, match=complaint) as caught:
        parse_answer(data)
    assert len(str(caught.value)) < 300


def test_noise_is_an_answer_or_the_trackers_fault() -> None:
    rng = random.Random(5)
    good = answer(interval=900, peers=row("192.0.2.1", 6881), peers6=row("2001:db8::1", 1), tracker_id=b"t")
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        with suppress(TrackerError):
            assert len(parse_answer(bytes(data)).peers) <= MAX_PEERS


def test_an_announcement_is_a_url_of_plain_signs() -> None:
    what = Announcement(b"\x00&=\xff" * 5, b"-PM0010-abcdefghijkl", 6881, 1, 2, 3, "started", "k")
    url = what.url("http://t.example/announce?pass=1", b"&")
    assert url.startswith("http://t.example/announce?pass=1&info_hash=%00%26%3D%FF%00")
    assert url.endswith("&event=started&trackerid=%26")
    assert is_tracker(url)
    assert "numwant=0" in Announcement(bytes(20), bytes(20), 1, 0, 0, 0, "stopped", "").url(
        "http://t.example/"
    )


def test_trackers_go_in_and_come_out_and_the_info_hash_stays() -> None:
    urls = ["http://one.example/announce", "https://[2001:db8::1]:8443/announce?k=1"]
    made = with_trackers(torrent(), urls)
    assert made.info_hash == torrent().info_hash
    assert trackers_of(made.raw) == ((urls[0],), (urls[1],))
    assert trackers_of(torrent().raw) == ()
    assert with_trackers(torrent(), []).raw == torrent().raw
    for wrong in ("udp://one.example:1/announce", "http://", "http://a b/", "http://a:99999/", "x" * 2000):
        with pytest.raises(LocalError, match="no HTTP tracker"):
            with_trackers(torrent(), [wrong])
    with pytest.raises(LocalError, match="more than"):
        with_trackers(torrent(), [f"http://{number}.example/" for number in range(MAX_TRACKERS + 1)])


def test_of_a_foreign_list_only_http_trackers_count_and_not_too_many() -> None:
    announce = b"http://a.example/announce"
    assert trackers_of(torrent_with(announce=announce)) == ((announce.decode(),),)
    tiers: Value = [
        [b"udp://u.example:1", announce, announce, 5],
        b"x",
        [b"http://b.example/\xff"],
        [b"http://c.example/"],
    ]
    found = trackers_of(torrent_with(announce=b"http://z.example/", announce_list=tiers))
    assert found == ((announce.decode(),), ("http://c.example/",))
    assert trackers_of(torrent_with(announce=7, announce_list=b"x")) == ()
    many: Value = [[b"http://%d.example/" % number for number in range(100)]]
    assert len(trackers_of(torrent_with(announce_list=many))[0]) == MAX_TRACKERS


def test_who_answers_goes_to_the_front_of_its_tier() -> None:
    tiers = Tiers.shuffled([["a", "b", "c"], ["d"]], random.Random(1))
    assert sorted(tiers.order()[:3]) == ["a", "b", "c"]
    tiers.answered("c", b"id")
    tiers.answered("d", b"")
    assert tiers.order()[0] == "c"
    assert tiers.order()[3] == "d"
    assert tiers.ids == {"c": b"id"}


def test_programs_by_their_peer_ids() -> None:
    assert client_name(b"-LT2110-abcdefghijkl") == "libtorrent 2.1.1.0"
    assert client_name(b"A2-1-36-0-abcdefghij") == "aria2 1.36.0"
    assert client_name(b"-ZZ0001-abcdefghijkl") == "ZZ 0.0.0.1"
    assert client_name(bytes(20)) == client_name(b"") == client_name(b"-\x1b[0001-abcdefghijk") == ""
