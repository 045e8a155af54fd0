"""Who has what: bounded tables, honest answers only, and nothing about private datasets for strangers."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio

from p2pml.net import wire
from p2pml.net.dialer import Dialer
from p2pml.net.discovery import (
    PROTOCOL,
    TOPIC,
    Discovery,
    Holding,
    _parse_announcement,
    _parse_answer,
    _validate,
)
from p2pml.net.errors import Malformed, RemoteError
from p2pml.net.gossip import Gossip, Verdict
from p2pml.net.host import Host
from p2pml.net.provider_table import EXPIRY_S, MAX_DATASETS, MAX_PER_PEER, Listing, ProviderTable, shown_name
from torrent.hashing import piece_hash
from torrent.metainfo import Metainfo, create, plan


def listing(number: int, name: str = "") -> Listing:
    return Listing(name or f"set-{number}", number.to_bytes(20, "big"), number)


def small_torrent(name: str) -> Metainfo:
    data = name.encode() * 100
    return create(name, plan([((name,), len(data))], 16384), 16384, piece_hash(data), single_file=True)


def holding(name: str, allowed: frozenset[str] | None = None, pieces: int = 1) -> Holding:
    metainfo = small_torrent(name)
    row = Listing(name, metainfo.info_hash, metainfo.content_length)
    return Holding(row, metainfo.raw, pieces, allowed)


def test_providers_expire_and_the_freshest_comes_first() -> None:
    table = ProviderTable()
    assert table.add(listing(1), "a", 0.0)
    assert table.add(listing(1), "b", 50.0)
    assert not table.add(listing(1), "b", 60.0)
    assert table.providers(listing(1).infohash, 90.0) == ("b", "a")
    assert table.providers(listing(1).infohash, EXPIRY_S + 1) == ("b",)
    table.expire(EXPIRY_S + 61)
    assert list(table.everything(0.0)) == []


def test_a_single_peer_cannot_fill_the_table() -> None:
    table = ProviderTable()
    for number in range(MAX_PER_PEER + 50):
        table.add(listing(number), "greedy", 1.0)
    assert len(list(table.everything(1.0))) == MAX_PER_PEER
    assert table.add(listing(10_000), "modest", 1.0)


def test_a_full_table_drops_what_was_heard_of_longest_ago() -> None:
    table = ProviderTable()
    for number in range(MAX_DATASETS + 1):
        table.add(listing(number), f"peer-{number // 100}", float(number) / 1000)
    assert len(list(table.everything(5.0))) == MAX_DATASETS
    assert table.providers(listing(0).infohash, 5.0) == ()
    assert table.providers(listing(MAX_DATASETS).infohash, 5.0)


def test_a_dataset_has_the_name_that_was_heard_first() -> None:
    table = ProviderTable()
    table.add(listing(1, "right"), "a", 0.0)
    table.add(listing(1, "wrong"), "b", 0.0)
    assert [row.name for row, _ in table.lookup("right", 1.0)] == ["right"]
    assert list(table.lookup("wrong", 1.0)) == []


@pytest.mark.parametrize(
    ("name", "infohash", "size"),
    [
        ("", bytes(20), 1),
        ("x" * 201, bytes(20), 1),
        ("a\x1b[0m", bytes(20), 1),
        ("a", bytes(19), 1),
        ("a", bytes(20), -1),
        ("a", bytes(20), 1 << 49),
        ("a", bytes(20), True),
    ],
)
def test_a_listing_out_of_bounds_is_refused(name: str, infohash: bytes, size: int) -> None:
    with pytest.raises(ValueError):
        Listing(name, infohash, size)
    assert _validate(wire.encode([1, [[name, infohash, size]]])) is Verdict.REJECT


def test_a_name_is_shown_without_what_a_terminal_would_obey() -> None:
    assert shown_name("a\x1b[2Jb\n") == "a?[2Jb?"
    assert len(shown_name("x" * 500)) == 200


def test_random_announcements_are_parsed_or_refused() -> None:
    chance = random.Random(3)
    good = wire.encode([1, [["name", bytes(20), 5]]])
    assert _parse_announcement(good) == [Listing("name", bytes(20), 5)]
    for _ in range(500):
        data = bytearray(good)
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            _parse_announcement(bytes(data))
        except RemoteError:
            assert _validate(bytes(data)) is Verdict.REJECT


def test_failed_dials_wait_twice_as_long_each_time() -> None:
    dialer = Dialer()
    assert dialer.add("a")
    assert not dialer.add("a")
    assert dialer.ready(0.0, frozenset(), 5) == ["a"]
    dialer.failed("a", 0.0)
    assert dialer.ready(0.5, frozenset(), 5) == []
    assert dialer.ready(1.0, frozenset(), 5) == ["a"]
    dialer.failed("a", 1.0)
    assert dialer.next_time(frozenset()) == 3.0
    dialer.retry_now()
    assert dialer.ready(1.0, frozenset(), 5) == ["a"]
    dialer.worked("a", 1.0)
    dialer.failed("a", 10.0)
    assert dialer.next_time(frozenset()) == 11.0


def test_a_banned_peer_is_not_dialled_again_whoever_names_it() -> None:
    dialer = Dialer()
    dialer.add("liar")
    dialer.ban("liar")
    assert not dialer.add("liar")
    assert dialer.is_banned("liar")
    assert dialer.ready(100.0, frozenset(), 5) == []


@asynccontextmanager
async def discoveries(holdings: Sequence[list[Holding]]) -> AsyncIterator[list[tuple[Host, Discovery]]]:
    """Hosts that are connected to the first one, with what each of them holds."""
    async with trio.open_nursery() as nursery:
        nodes = []
        for number, held in enumerate(holdings):
            host = Host(hashlib.sha256(f"discovery-test {number}".encode()).digest())
            gossip = Gossip(host, b"\x05" * 32, heartbeat=0.2)
            discovery = Discovery(host, gossip, lambda held=held: held)
            await nursery.start(host.run)
            await nursery.start(gossip.run)
            if nodes:
                await host.connect(nodes[0][0].addrs()[0])
            nodes.append((host, discovery))
        for _, discovery in nodes:
            await nursery.start(discovery.run)
        yield nodes
        nursery.cancel_scope.cancel()


async def given(asker: Discovery, wanted: Holding, hosts: Sequence[Host]) -> bytes | None:
    """The metainfo file that one of the hosts gives."""
    answer = await asker.metainfo(wanted.listing.infohash, [host.peer_id for host in hosts])
    return None if answer is None else answer[0].raw


@pytest.mark.slow
async def test_only_who_has_the_metainfo_can_vouch_for_a_provider_of_a_private_dataset() -> None:
    async with discoveries([[], [], []]) as ((owner, owning), (friend, friends), (intruder, intruding)):
        secret = holding("secret", frozenset({friend.peer_id}))
        owning._holdings = lambda: [secret]
        # It learned the info-hash, and claims to have the dataset in the hope to be served.
        intruding._holdings = lambda: [Holding(secret.listing, b"not the metainfo", 1)]
        intruding.announce()
        await friend.connect(intruder.addrs()[0])
        with trio.fail_after(10):
            while not friends.providers(secret.listing.infohash):  # noqa: ASYNC110
                await trio.sleep(0.05)
        assert intruder.peer_id in friends.providers(secret.listing.infohash)
        assert await friends.vouched(secret.listing.infohash) == (owner.peer_id,)


@pytest.mark.slow
async def test_found_by_asking_and_by_gossip_with_every_provider() -> None:
    one = holding("digits")
    async with discoveries([[one], [one], []]) as ((first, _), (second, _), (_, asker)):
        found = await asker.find("digits")
        assert [item.listing for item in found] == [one.listing]
        assert first.peer_id in found[0].providers
        with trio.fail_after(10):
            while len(asker.providers(one.listing.infohash)) < 2:  # noqa: ASYNC110 - gossip wakes nobody here
                await trio.sleep(0.05)
        assert set(asker.providers(one.listing.infohash)) == {first.peer_id, second.peer_id}
        assert await asker.find(b"\x01" * 20) == []
        assert await given(asker, one, [first]) == one.metainfo


@pytest.mark.slow
async def test_a_private_dataset_does_not_exist_for_strangers() -> None:
    async with discoveries([[], [], []]) as ((owner, discovery), (friend, friends), (_, strangers)):
        secret = holding("secret", frozenset({friend.peer_id}))
        discovery._holdings = lambda: [secret]
        discovery.announce()
        assert [item.providers for item in await friends.find("secret")] == [(owner.peer_id,)]
        assert await strangers.find("secret") == []
        assert await strangers.find(secret.listing.infohash) == []
        assert await given(strangers, secret, [owner]) is None
        assert await given(friends, secret, [owner]) == secret.metainfo
        await trio.sleep(0.5)
        assert strangers.listings() == []


@pytest.mark.slow
async def test_a_peer_that_hands_out_another_torrent_is_not_believed() -> None:
    right, wrong = holding("digits"), holding("malware")
    async with discoveries([[right], [], []]) as ((first, _), (liar, lying), (_, asker)):
        lying._holdings = lambda: [Holding(right.listing, wrong.metainfo, 1)]
        assert await given(asker, right, [liar, first]) == right.metainfo
        assert await given(asker, right, [liar]) is None


@pytest.mark.slow
async def test_questions_that_are_none_are_refused_and_the_host_lives_on() -> None:
    async with discoveries([[holding("digits")], []]) as ((first, _), (second, asker)):
        for message in (None, 7, [], ["find"], ["find", 5], ["metainfo", "text"], ["rm", "-rf"], [[]] * 50):
            with pytest.raises(RemoteError):
                await second.request(first.peer_id, PROTOCOL, message)
        assert len(await asker.find("digits")) == 1
        assert TOPIC == "datasets"


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer",
    [None, [1], [["digits", bytes(20), 1, [["p", ["x"] * 17]]]], [["other", bytes(20), 1, []]], [[]] * 17],
)
async def test_answers_that_are_none_count_for_nothing(answer: object) -> None:
    async with discoveries([[holding("digits")], [], []]) as ((first, _), (liar, _), (_, asker)):

        async def lie(peer: str, message: object) -> object:
            return answer

        liar.serve(PROTOCOL, lie)
        found = await asker.find("digits", [liar.peer_id])
        assert [item.providers for item in found] == [(first.peer_id,)]


def test_a_provider_that_is_no_peer_id_is_malformed() -> None:
    """It would be dialled by the swarm, whose end a name that is none would be."""
    peer = Host(b"\x07" * 32).peer_id
    rows = _parse_answer([["digits", bytes(20), 1, [[peer, []]]]], "digits")
    assert rows == [(Listing("digits", bytes(20), 1), [(peer, [])])]
    for bogus in ("", "p", "0OIl" * 12, f"{peer} ", peer * 2):
        with pytest.raises(Malformed):
            _parse_answer([["digits", bytes(20), 1, [[bogus, []]]]], "digits")


def test_an_answer_about_something_else_is_malformed() -> None:
    with pytest.raises(Malformed):
        _parse_answer([["other", bytes(20), 1, []]], "digits")
