"""Invites as texts, and joining by them without a network."""

from __future__ import annotations

import base64
import hashlib
import random
import zlib
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest

from chain.genesis import Genesis
from p2pml.config import Config
from p2pml.errors import ExitCode, UserError
from p2pml.home import Home
from p2pml.node.invite import MAX_TEXT, PREFIX, Invite, SponsorTerms, check_genesis, worth_telling
from p2pml.node.joining import join
from p2pml.node.setup import make_genesis, make_keys

PEER = "12D3KooWLqJ8Ya9zE2cHGtJ8rJZ7J3N4oWpYvWQ8nF6cKk1v3bQm"
ADDRESSES = (f"/ip4/192.0.2.7/tcp/9470/p2p/{PEER}", f"/ip4/192.0.2.7/tcp/9480/ws/p2p/{PEER}")


@pytest.fixture(scope="module")
def genesis(tmp_path_factory: pytest.TempPathFactory) -> Genesis:
    return a_genesis(tmp_path_factory.mktemp("founders"), 1)


def a_genesis(folder: Path, founders: int) -> Genesis:
    homes = [folder / f"home{number}" for number in range(founders)]
    for home in homes:
        make_keys(Home(home))
    return Genesis.from_json(make_genesis(homes, "lab", "friends", {}, 1000))


def invite_to(genesis: Genesis) -> Invite:
    return Invite(genesis.chain_name, genesis.chain_id, ADDRESSES, genesis.to_json().encode())


def test_an_invite_comes_back_as_it_was_given(genesis: Genesis) -> None:
    text = invite_to(genesis).encode()
    assert text.startswith(PREFIX)
    assert len(text) <= MAX_TEXT
    assert Invite.decode(text) == invite_to(genesis)


def test_a_sponsoring_invite_comes_back_too(genesis: Genesis) -> None:
    made = replace(invite_to(genesis), sponsor=SponsorTerms(b"\x05" * 32, b"\x06" * 16, 10**8, 2**42))
    assert Invite.decode(made.encode()) == made


def test_what_chat_programs_do_to_a_text_does_no_harm(genesis: Genesis) -> None:
    text = invite_to(genesis).encode()
    broken = "\n  ".join(text[start : start + 60] for start in range(0, len(text), 60))
    assert Invite.decode(f" {broken.upper()}\n") == invite_to(genesis)


def test_a_large_genesis_is_left_out(tmp_path: Path) -> None:
    large = a_genesis(tmp_path, 25)
    text = invite_to(large).encode()
    assert len(text) < 700
    assert Invite.decode(text) == Invite("friends", large.chain_id, ADDRESSES)


def test_any_changed_or_missing_character_is_noticed(genesis: Genesis) -> None:
    text, rng = invite_to(genesis).encode(), random.Random(7)
    for position in [
        len(PREFIX),
        len(text) - 2,
        *(rng.randrange(len(PREFIX), len(text) - 1) for _ in range(40)),
    ]:
        other = "a" if text[position] != "a" else "b"
        with pytest.raises(UserError, match=r"damaged|characters"):
            Invite.decode(text[:position] + other + text[position + 1 :])
        with pytest.raises(UserError, match=r"damaged|characters"):
            Invite.decode(text[:position] + text[position + 1 :])


def packed(body: bytes) -> str:
    data = body + hashlib.sha256(body).digest()[:4]
    return PREFIX + base64.b32encode(data).decode().rstrip("=").lower()


def fields(*values: object) -> bytes:
    return b"\x02" + zlib.compress(msgpack.packb(list(values)))


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "does not begin"),
        ("https://example.org", "does not begin"),
        (PREFIX, "damaged"),
        (PREFIX + "0189", "characters"),
        (packed(b"\x01xyz"), "version 1"),
        (packed(b"\x02xyz"), "cannot be read"),
        (packed(fields("x", bytes(31), [], b"", [])), "does not hold"),
        (packed(fields("x", bytes(32), [], b"")), "does not hold"),
        (packed(fields("x\n", bytes(32), [], b"", [])), "does not hold"),
        (packed(fields("x", bytes(32), ["/ip4/1.2.3.4/tcp/1"], b"", [])), "address"),
        (packed(fields("x", bytes(32), [ADDRESSES[0]] * 9, b"", [])), "does not hold"),
        (packed(fields("x", bytes(32), [], b"", [bytes(32), bytes(15), 1, 2])), "does not hold"),
        (packed(fields("x", bytes(32), [], b"", [bytes(32), bytes(16), 1])), "does not hold"),
        (packed(fields("x", bytes(32), [], b"", [bytes(32), bytes(16), -1, 2])), "does not hold"),
        (packed(fields("x", bytes(32), [], bytes(10_000_000), [])), "too large"),
    ],
    ids=lambda value: value[:24],
)
def test_what_is_no_invite_says_why(text: str, cause: str) -> None:
    with pytest.raises(UserError, match=cause) as caught:
        Invite.decode(text)
    assert caught.value.code is ExitCode.USAGE
    assert caught.value.fix


def test_a_genesis_has_to_be_the_one_promised(genesis: Genesis) -> None:
    content = genesis.to_json().encode()
    assert check_genesis(content, genesis.chain_id) == genesis
    with pytest.raises(UserError, match="another network's"):
        check_genesis(content, bytes(32))
    with pytest.raises(UserError, match="is none"):
        check_genesis(content[:-10], genesis.chain_id)


def test_loopback_is_told_only_when_there_is_nothing_else() -> None:
    assert worth_telling(["/ip4/127.0.0.1/tcp/1/p2p/x", ADDRESSES[0]]) == (ADDRESSES[0],)
    assert worth_telling(["/ip4/127.0.0.1/tcp/1/p2p/x"]) == ("/ip4/127.0.0.1/tcp/1/p2p/x",)


def test_joining_makes_a_home_with_genesis_and_bootstrap(tmp_path: Path, genesis: Genesis) -> None:
    home = Home(tmp_path / "mine")
    identity = join(home, invite_to(genesis), {"name": "me", "port": None})
    assert identity["home"] == str(home.root)
    assert Config.load(home).bootstrap == ADDRESSES
    assert Config.load(home).name == "me"
    assert Genesis.from_json(home.genesis_file.read_bytes()) == genesis
    assert join(home, invite_to(genesis), {}) == identity  # again, nothing changes


def test_a_home_of_another_network_is_left_as_it_is(tmp_path: Path, genesis: Genesis) -> None:
    home = Home(tmp_path / "mine")
    join(home, invite_to(genesis), {})
    before = home.genesis_file.read_bytes(), home.config_file.read_bytes()
    with pytest.raises(UserError, match="belongs to the network 'friends' already"):
        join(
            home,
            replace(invite_to(a_genesis(tmp_path, 2)), addresses=(f"/ip4/192.0.2.9/tcp/1/p2p/{PEER}",)),
            {},
        )
    assert (home.genesis_file.read_bytes(), home.config_file.read_bytes()) == before


def test_a_configured_home_is_told_what_to_add(tmp_path: Path, genesis: Genesis) -> None:
    home = Home(tmp_path / "mine")
    home.create()
    home.config_file.write_text('name = "old"\n')
    with pytest.raises(UserError, match="yours to edit") as caught:
        join(home, invite_to(genesis), {})
    assert ADDRESSES[1] in caught.value.fix
    assert not home.genesis_file.exists()
    home.config_file.write_text(f'bootstrap = ["{ADDRESSES[0]}", "{ADDRESSES[1]}"]\n')
    join(home, invite_to(genesis), {})
    assert home.genesis_file.exists()


def test_a_forged_genesis_in_an_invite_leaves_no_home_behind(tmp_path: Path, genesis: Genesis) -> None:
    home = Home(tmp_path / "mine")
    other = a_genesis(tmp_path, 2).to_json().encode()
    with pytest.raises(UserError, match="another network's"):
        join(home, Invite("friends", genesis.chain_id, ADDRESSES, other), {})
    assert not home.root.exists()


@pytest.mark.slow
def test_a_genesis_that_nobody_gives_leaves_no_home_behind(tmp_path: Path, genesis: Genesis) -> None:
    home = Home(tmp_path / "mine")
    nobody = f"/ip4/127.0.0.1/tcp/1/p2p/{PEER}"
    with pytest.raises(UserError, match="cannot be fetched") as caught:
        join(home, Invite("friends", genesis.chain_id, (nobody,)), {})
    assert caught.value.code is ExitCode.NETWORK
    assert not home.root.exists()
