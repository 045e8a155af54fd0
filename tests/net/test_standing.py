"""Scores, bans, back-off, the gate and the address book: cores without a network, and their file."""

from __future__ import annotations

import json
import logging
import random
from pathlib import Path

import pytest
import trio
import trio.testing

from p2pml.net import peer_file
from p2pml.net import scores as scores_module
from p2pml.net.address_book import KEPT_S, MAX_MET, MAX_PEERS, AddressBook, Known
from p2pml.net.backoff import Backoff
from p2pml.net.bans import FIRST_S, MAX_BANS, MOST_S, REMEMBERED_S, Ban, Bans
from p2pml.net.errors import Closed, Declined, Malformed, TimedOut
from p2pml.net.gate import MAX_BLOCKS, Bounds, Gate, Limits, Refused, blocks_of
from p2pml.net.scores import HALF_LIFE_S, THRESHOLD, Deed, Scores
from p2pml.net.standing import Standing

PEER = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
OTHER = "12D3KooWGC6TvWhfajpgX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5"


# -- scores ------------------------------------------------------------------------------------------------


def test_a_lie_is_enough_and_small_faults_add_up() -> None:
    scores = Scores()
    assert scores.report("liar", Deed.LIED, 0.0)
    verdicts = [scores.report("careless", Deed.INVALID, 0.0) for _ in range(15)]
    assert verdicts == [False] * 14 + [True]
    assert not scores.report("new", Deed.VIOLATION, 0.0)


def test_faults_fade_and_a_forgotten_peer_starts_afresh() -> None:
    scores = Scores()
    for _ in range(14):
        scores.report("p", Deed.INVALID, 0.0)
    assert scores.score("p", 0.0) == 98
    assert scores.score("p", HALF_LIFE_S) == pytest.approx(49)
    assert not scores.report("p", Deed.INVALID, HALF_LIFE_S)
    scores.forget("p")
    assert scores.score("p", HALF_LIFE_S) == 0


def test_no_amount_of_slowness_bans_a_peer_nor_tips_the_scale_by_itself() -> None:
    scores, rng, now = Scores(), random.Random(1), 0.0
    for _ in range(20_000):  # it fails ten times a second, for half an hour
        now += 0.1
        assert not scores.report("slow", rng.choice([Deed.TIMEOUT, Deed.REFUSED]), now)
    assert scores.score("slow", now) < THRESHOLD / 2
    assert not scores.report("slow", Deed.VIOLATION, now)
    assert scores.score("slow", now + 10 * HALF_LIFE_S) < 1


def test_good_deeds_help_a_little_and_buy_no_lie() -> None:
    scores = Scores()
    scores.useful("p", 1 << 40, 0.0)
    for _ in range(1000):
        scores.report("p", Deed.ANSWERED, 0.0)
    verdicts = [scores.report("p", Deed.INVALID, 0.0) for _ in range(18)]
    assert verdicts == [False] * 17 + [True]
    scores.useful("rich", 1 << 40, 0.0)
    assert scores.report("rich", Deed.LIED, 0.0)


# -- bans --------------------------------------------------------------------------------------------------


def test_bans_end_and_grow_and_are_forgiven_after_a_week() -> None:
    bans, now, lengths = Bans(), 1000.0, []
    for _ in range(6):
        ban = bans.ban("p", "why", now)
        lengths.append(ban.until - now)
        assert bans.get("p", ban.until - 1) == ban
        assert bans.get("p", ban.until) is None
        now = ban.until
    assert lengths == [FIRST_S, 4 * FIRST_S, 16 * FIRST_S, 64 * FIRST_S, MOST_S, MOST_S]
    assert bans.ban("p", "why", now + REMEMBERED_S).times == 1


def test_a_ban_by_hand_has_the_length_that_is_asked_for_and_can_be_undone() -> None:
    bans = Bans()
    bans.ban("p", "lied", 0.0)
    assert bans.ban("p", "by hand", 1.0, 5.0).until == 6.0
    assert [ban.peer for ban in bans.active(2.0)] == ["p"]
    assert bans.unban("p")
    assert not bans.unban("p")
    assert bans.ban("p", "again", 3.0).times == 1


def test_a_running_ban_is_not_shortened_by_the_next_misdeed() -> None:
    bans = Bans()
    bans.ban("p", "by hand", 0.0, 10 * MOST_S)
    assert bans.ban("p", "lied", 1.0).until == 10 * MOST_S


def test_bans_are_bounded() -> None:
    bans = Bans()
    for number in range(MAX_BANS + 5):
        bans.ban(f"p{number}", "why", number / 1e4)
    active = bans.active(1.0)
    assert len(active) == MAX_BANS
    assert active[0].peer == "p5"


# -- back-off ----------------------------------------------------------------------------------------------


def test_waits_double_up_to_the_most_and_end_with_a_success() -> None:
    rest: Backoff[str] = Backoff(first=1.0, most=6.0)
    assert [rest.failed("p", 10.0) - 10.0 for _ in range(5)] == [1, 2, 4, 6, 6]
    assert not rest.ready("p", 15.9)
    assert rest.ready("p", 16.0)
    assert rest.ready("other", 0.0)
    rest.worked("p")
    assert (rest.ready("p", 0.0), rest.failures("p")) == (True, 0)


def test_spread_waits_stay_within_a_quarter_and_the_table_is_bounded() -> None:
    rest: Backoff[int] = Backoff(first=8.0, rng=random.Random(3), keys=10)
    waits = [rest.failed(number, 0.0) for number in range(200)]
    assert all(6 <= wait <= 10 for wait in waits)
    assert max(waits) - min(waits) > 2
    assert rest.ready(0, 0.0)  # forgotten
    assert not rest.ready(199, 0.0)


# -- the gate ----------------------------------------------------------------------------------------------


def test_one_public_address_is_bounded_and_its_network_too() -> None:
    gate = Gate(Limits(address=Bounds(2, 2, 9, 1.0), network=Bounds(3, 3, 9, 1.0)))
    first, _ = gate.enter("9.9.9.1", 0.0), gate.enter("9.9.9.1", 0.0)
    with pytest.raises(Refused, match=r"2 connections of 9\.9\.9\.1"):
        gate.enter("9.9.9.1", 0.0)
    gate.enter("9.9.9.2", 0.0)
    with pytest.raises(Refused, match=r"9\.9\.9\.0/24"):
        gate.enter("9.9.9.3", 0.0)
    gate.enter("9.9.8.1", 0.0)
    gate.leave(first)
    gate.leave(first)
    assert gate.inbound == 3
    gate.enter("9.9.9.3", 0.0)


def test_half_open_connections_have_bounds_of_their_own() -> None:
    gate = Gate(Limits(half_open=3, address=Bounds(9, 1, 9, 1.0)))
    ticket = gate.enter("9.9.9.1", 0.0)
    with pytest.raises(Refused, match=r"1 handshakes of 9\.9\.9\.1"):
        gate.enter("9.9.9.1", 0.0)
    gate.established(ticket)
    gate.enter("9.9.9.1", 0.0)
    gate.enter("9.9.8.1", 0.0)
    gate.enter("9.9.7.1", 0.0)
    with pytest.raises(Refused, match="3 handshakes are under way"):
        gate.enter("9.9.6.1", 0.0)
    assert (gate.inbound, gate.half_open) == (4, 3)


def test_new_connections_of_a_block_are_paced() -> None:
    gate = Gate(Limits(address=Bounds(100, 100, 3, 0.5)))
    for _ in range(3):
        gate.leave(gate.enter("9.9.9.1", 0.0))
    with pytest.raises(Refused, match="more often"):
        gate.enter("9.9.9.1", 1.9)
    gate.leave(gate.enter("9.9.9.1", 2.0))
    with pytest.raises(Refused, match="more often"):
        gate.enter("9.9.9.1", 2.0)
    gate.enter("9.9.9.2", 2.0)


def test_addresses_that_come_and_go_leave_a_bounded_table() -> None:
    gate = Gate(Limits(inbound=10**6))
    for number in range(MAX_BLOCKS):
        gate.leave(gate.enter(f"9.{number >> 8}.{number & 255}.1", 0.0))
    assert len(gate._buckets) == MAX_BLOCKS
    assert (gate.inbound, gate.half_open, len(gate._open), len(gate._half_open)) == (0, 0, 0, 0)


def test_a_refused_connection_costs_the_others_of_its_block_nothing() -> None:
    gate = Gate(Limits(address=Bounds(1, 1, 50, 0.0), network=Bounds(9, 9, 3, 0.0)))
    gate.enter("9.9.9.1", 0.0)
    for _ in range(20):
        with pytest.raises(Refused):
            gate.enter("9.9.9.1", 0.0)
    gate.enter("9.9.9.2", 0.0)
    gate.enter("9.9.9.3", 0.0)


def test_laboratories_and_friends_share_an_address_yet_leave_room_for_others() -> None:
    limits = Limits()
    gate = Gate(limits)
    for _ in range(limits.local.connections):
        gate.established(gate.enter("10.1.2.3", 0.0))
    with pytest.raises(Refused, match=r"10\.1\.2\.0/24"):
        gate.enter("10.1.2.4", 0.0)
    gate.enter("9.9.9.1", 0.0)
    assert limits.local.half_open < limits.half_open
    for ip in ("127.0.0.1", "::1", "192.168.3.4", "198.18.0.7", "fe80::1%eth0", "fd00::1", None):
        assert all(bounds is limits.local for _, bounds in blocks_of(ip, limits)), ip


def test_the_host_as_a_whole_is_bounded() -> None:
    gate = Gate(Limits(inbound=2))
    gate.enter("9.9.9.1", 0.0)
    gate.enter("8.8.8.1", 0.0)
    with pytest.raises(Refused, match="2 inbound"):
        gate.enter("7.7.7.1", 0.0)


def test_addresses_of_one_ipv6_network_count_as_one_and_a_mapped_address_as_ipv4() -> None:
    limits = Limits()
    names = {ip: [name for name, _ in blocks_of(ip, limits)] for ip in ("2a01:4f8::1", "2a01:4f8::ffff")}
    assert names["2a01:4f8::1"] == names["2a01:4f8::ffff"] == ["2a01:4f8::/64"]
    assert [name for name, _ in blocks_of("::ffff:9.9.9.1", limits)] == ["9.9.9.1", "9.9.9.0/24"]


# -- the address book --------------------------------------------------------------------------------------


def test_the_book_is_bounded_and_keeps_the_newest_first() -> None:
    book = AddressBook()
    for i in range(20):
        book.learn("a", [f"/ip4/192.0.2.{i + 1}/tcp/1", "/ip4/0.0.0.0/tcp/1", "junk"], 0.0)
    assert book.get("a") == [f"/ip4/192.0.2.{i + 1}/tcp/1" for i in range(19, 11, -1)]
    book.learn("b", ["/ip4/192.0.2.99/tcp/1"], 0.0)
    for i in range(MAX_PEERS):
        book.learn(f"p{i}", ["/ip4/192.0.2.1/tcp/1"], 1.0)
    assert book.get("a") == book.get("b") == []
    assert book.get(f"p{MAX_PEERS - 1}") != []


def test_peers_that_were_met_are_not_displaced_by_names() -> None:
    book = AddressBook()
    book.learn("friend", ["/ip4/192.0.2.2/tcp/1", "/ip4/192.0.2.3/tcp/1"], 1.0)
    book.met("friend", 5.0, "/ip4/192.0.2.3/tcp/1")
    for i in range(2 * MAX_PEERS):
        book.learn(f"p{i}", ["/ip4/192.0.2.1/tcp/1"], 6.0)
    assert book.get("friend") == ["/ip4/192.0.2.3/tcp/1", "/ip4/192.0.2.2/tcp/1"]
    assert book.when("friend") == (5.0, 5.0)
    assert [entry.peer for entry in book.friends(6.0)] == ["friend"]
    assert book.friends(5.0 + KEPT_S) == []


def test_friends_are_bounded_and_the_latest_come_first() -> None:
    book = AddressBook()
    for i in range(MAX_MET + 10):
        book.met(f"p{i}", 1.0 + i, "/ip4/192.0.2.1/tcp/1")
    friends = book.friends(1000.0)
    assert (len(friends), friends[0].peer, friends[-1].peer) == (MAX_MET, f"p{MAX_MET + 9}", "p10")


def test_a_book_from_disk_leaves_out_what_is_old_wrong_or_from_the_future() -> None:
    now = 2 * KEPT_S
    book = AddressBook(
        [
            Known("old", ("/ip4/192.0.2.1/tcp/1",), now, now - KEPT_S),
            Known("never", ("/ip4/192.0.2.1/tcp/1",), now, 0.0),
            Known("wrong", ("/ip4/0.0.0.0/tcp/1", "junk"), now, now),
            Known("future", ("/ip4/192.0.2.1/tcp/1",), now, now + 10 * KEPT_S),
            Known("good", ("/ip4/192.0.2.1/tcp/1",), now, now - 1),
        ],
        now,
    )
    assert book.get("old") == book.get("never") == []
    assert [(entry.peer, entry.met) for entry in book.friends(now)] == [("future", now), ("good", now - 1)]
    crowd = [Known(f"p{i}", ("/ip4/192.0.2.1/tcp/1",), now, now - i) for i in range(MAX_MET + 5)]
    assert [entry.peer for entry in AddressBook(crowd, now).friends(now)] == [f"p{i}" for i in range(MAX_MET)]


def test_scores_are_kept_for_a_bounded_number_of_peers() -> None:
    scores = Scores()
    for number in range(scores_module.MAX_PEERS + 5):
        scores.report(f"p{number}", Deed.VIOLATION, 0.0)
    assert [scores.score(f"p{number}", 0.0) > 0 for number in (0, 4, 5, scores_module.MAX_PEERS + 4)] == [
        False, False, True, True,
    ]  # fmt: skip


# -- the file ----------------------------------------------------------------------------------------------


def test_the_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    assert peer_file.load(path) == ([], [])
    known = [Known(PEER, ("/ip4/192.0.2.1/tcp/1",), 5.0, 4.0)]
    bans = [Ban(OTHER, 99.0, "lied about é", 2)]
    peer_file.save(path, known, bans)
    assert peer_file.load(path) == (known, bans)
    assert [item.name for item in tmp_path.iterdir()] == ["peers.json"]


GOOD = {"version": 1, "peers": [], "bans": []}
DAMAGED = [
    b"",
    json.dumps(GOOD).encode() + b" " * peer_file.MAX_BYTES,
    b"{",
    b"\xff\xfe",
    b"[" * 100_000,
    b"[]",
    b"{}",
    json.dumps({**GOOD, "version": 2}).encode(),
    json.dumps({**GOOD, "peers": [7]}).encode(),
    json.dumps({**GOOD, "peers": [{"id": "x", "addresses": [], "seen": 1, "met": 1}]}).encode(),
    json.dumps({**GOOD, "peers": [{"id": PEER, "addresses": [1], "seen": 1, "met": 1}]}).encode(),
    json.dumps({**GOOD, "peers": [{"id": PEER, "addresses": [], "seen": 1, "met": float("inf")}]}).encode(),
    json.dumps({**GOOD, "bans": [{"id": PEER, "until": "1", "reason": "", "times": 1}]}).encode(),
    json.dumps({**GOOD, "bans": [{"id": PEER, "until": 1, "reason": "", "times": 0}]}).encode(),
]


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_file_is_set_aside_with_a_warning(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "peers.json"
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert peer_file.load(path) == ([], [])
    assert "set aside as peers.json.damaged" in caplog.text
    assert (tmp_path / "peers.json.damaged").read_bytes() == content
    assert not path.exists()


# -- together ----------------------------------------------------------------------------------------------


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_a_ban_settles_the_score(autojump_clock: object) -> None:
    standing = Standing([].append)
    standing.report(PEER, Deed.LIED, "a lie")
    assert standing.banned(PEER) is not None
    assert standing.score(PEER) == 0
    standing.unban(PEER)
    standing.report(PEER, Deed.INVALID, "a small fault")
    assert standing.banned(PEER) is None


async def test_bans_and_friends_outlive_the_process(tmp_path: Path, autojump_clock: object) -> None:
    path, clock, cut = tmp_path / "peers.json", Clock(), list[str]()
    first = Standing(cut.append, path, clock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first.run)
        first.book.met(OTHER, clock(), "/ip4/192.0.2.1/tcp/1")
        first.report(PEER, Deed.LIED, "wrong blocks")
        assert cut == [PEER]
        with trio.fail_after(10):
            while not path.exists():  # noqa: ASYNC110  (written in a thread, at once)
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    again = Standing(cut.append, path, clock)
    ban = again.banned(PEER)
    assert ban is not None
    assert (ban.reason, ban.times) == ("wrong blocks", 1)
    assert [entry.peer for entry in again.book.friends(clock())] == [OTHER]
    clock.now += FIRST_S
    assert again.banned(PEER) is None  # a fresh chance
    assert again.score(PEER) == 0
    again.report(PEER, Deed.LIED, "wrong blocks again")
    second = again.banned(PEER)
    assert second is not None
    assert second.until - clock() == 4 * FIRST_S


async def test_a_friend_met_last_is_saved_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    standing = Standing(lambda peer: None, path, Clock())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(standing.run)
        await trio.testing.wait_all_tasks_blocked()
        standing.book.met(OTHER, Clock.now, "/ip4/192.0.2.1/tcp/1")
        nursery.cancel_scope.cancel()
    assert [entry.peer for entry in peer_file.load(path)[0]] == [OTHER]


async def test_errors_are_weighed_by_their_kind_and_counted_once() -> None:
    standing = Standing(lambda peer: None)
    bad = Malformed("not a message")
    standing.note("p", bad)
    standing.note("p", bad)
    assert standing.score("p") == pytest.approx(Deed.VIOLATION.points, abs=0.1)
    for error in (TimedOut("late"), Closed("gone"), Declined("too much")):
        standing.note("q", error)
    assert 0 < standing.score("q") < Deed.VIOLATION.points
