"""Wallets: encrypted, never overwritten, damaged files are told from wrong passphrases."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from chain.crypto import Keypair
from p2pml.errors import ExitCode, UserError
from p2pml.storage.keystore import Keystore

SEED = bytes(range(32))


@pytest.fixture
def keystore(tmp_path: Path) -> Keystore:
    return Keystore(tmp_path / "keystore", cost=2**4)


def test_a_wallet_opens_with_its_passphrase_only(keystore: Keystore, tmp_path: Path) -> None:
    wallet = keystore.create("alice", "pässword", SEED)
    assert wallet.account == Keypair.from_seed(SEED).public
    assert keystore.list() == (wallet,)
    assert keystore.unlock("alice", "pässword") == SEED
    with pytest.raises(UserError, match="wrong passphrase") as caught:
        keystore.unlock("alice", "password")
    assert caught.value.code is ExitCode.AUTH
    path = tmp_path / "keystore" / "alice.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SEED.hex() not in path.read_text()


def test_the_home_that_the_first_wallet_begins_is_closed_to_others(tmp_path: Path) -> None:
    Keystore(tmp_path / "home" / "keystore", cost=2**4).create("alice", "x")
    for folder in ("home", "home/keystore"):
        assert stat.S_IMODE((tmp_path / folder).stat().st_mode) == 0o700


def test_seeds_are_random_and_files_are_never_replaced(keystore: Keystore) -> None:
    first, second = keystore.create("a", "x"), keystore.create("b", "x")
    assert first.account != second.account
    with pytest.raises(UserError, match="there is a wallet 'a' already"):
        keystore.create("a", "y")
    assert keystore.unlock("a", "x") != keystore.unlock("b", "x")


@pytest.mark.parametrize("name", ["../evil", "", "a/b", ".hidden", "x" * 33, "node", "a\n"])
def test_names_stay_inside_the_folder(keystore: Keystore, name: str) -> None:
    with pytest.raises(UserError) as caught:
        keystore.create(name, "x")
    assert caught.value.code is ExitCode.USAGE


def test_an_empty_passphrase_is_refused(keystore: Keystore) -> None:
    with pytest.raises(UserError, match="empty"):
        keystore.create("a", "")


def test_a_missing_wallet_names_those_there_are(keystore: Keystore) -> None:
    keystore.create("alice", "x")
    with pytest.raises(UserError, match="no wallet 'bob'") as caught:
        keystore.unlock("bob", "x")
    assert "alice" in caught.value.fix


@pytest.mark.parametrize("where", ["cipher.text", "cipher.nonce", "kdf.n", "kdf", "address", "version"])
def test_a_damaged_file_is_not_taken_for_a_wallet(keystore: Keystore, tmp_path: Path, where: str) -> None:
    keystore.create("a", "x", SEED)
    path = tmp_path / "keystore" / "a.json"
    record = json.loads(path.read_text())
    part = record
    *parents, last = where.split(".")
    for key in parents:
        part = part[key]
    part[last] = "zz"
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match="damaged"):
        keystore.unlock("a", "x")


def test_a_file_passed_off_as_another_account_does_not_open(keystore: Keystore, tmp_path: Path) -> None:
    keystore.create("a", "x", SEED)
    other = keystore.create("b", "x")
    path = tmp_path / "keystore" / "a.json"
    record = json.loads(path.read_text())
    record["address"] = other.address
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match="wrong passphrase"):
        keystore.unlock("a", "x")


def test_a_huge_scrypt_cost_is_not_tried(keystore: Keystore, tmp_path: Path) -> None:
    keystore.create("a", "x")
    path = tmp_path / "keystore" / "a.json"
    record = json.loads(path.read_text())
    record["kdf"]["n"] = 2**40
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match="damaged"):
        keystore.unlock("a", "x")
