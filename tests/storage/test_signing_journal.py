"""What a validator signed is on disk before it leaves, whatever happens to the file or the process."""

from __future__ import annotations

from pathlib import Path

import pytest

from chain.codec import pack
from chain.crypto import Keypair
from chain.signing import SigningRecord
from chain.votes import Checkpoint, Link, Vote
from p2pml.errors import UserError
from p2pml.storage import journal as files
from p2pml.storage.signing_journal import SigningJournal

CHAIN = bytes([7]) * 32
VOTER = Keypair.from_seed(bytes(32)).public


def opened(path: Path, chain: bytes = CHAIN, otherwise: SigningRecord | None = None) -> SigningJournal:
    journal = SigningJournal(path, chain)
    journal.open(otherwise or SigningRecord())
    return journal


def vote(slot: int, source: int, target: int) -> Vote:
    link = Link(Checkpoint(source, bytes(32)), Checkpoint(target, bytes(32)))
    return Vote(VOTER, slot, link, bytes(32), bytes(64))


def test_a_slot_is_reserved_once_and_for_good(tmp_path: Path) -> None:
    journal = opened(tmp_path / "signed")
    assert [journal.reserve_slot(slot) for slot in (5, 5, 4, 6)] == [True, False, False, True]
    assert not opened(tmp_path / "signed").reserve_slot(6)
    assert opened(tmp_path / "signed").reserve_slot(7)


def test_votes_are_remembered(tmp_path: Path) -> None:
    assert opened(tmp_path / "signed").reserve_vote(vote(9, 5, 9))
    again = opened(tmp_path / "signed")
    assert not again.reserve_vote(vote(9, 5, 9)), "once per slot"
    assert not again.reserve_vote(vote(12, 4, 12)), "it surrounds the earlier one"
    assert again.reserve_vote(vote(12, 6, 12))


def test_a_new_record_is_there_at_once_and_opens_again(tmp_path: Path) -> None:
    journal = SigningJournal(tmp_path / "signed", CHAIN)
    assert journal.open(SigningRecord()) == "missing"
    assert SigningJournal(tmp_path / "signed", CHAIN).open(SigningRecord()) == ""


@pytest.mark.parametrize("position", range(0, 60, 7))
def test_a_flipped_bit_is_noticed_and_what_is_said_instead_holds(tmp_path: Path, position: int) -> None:
    path = tmp_path / "signed"
    opened(path).reserve_slot(6)
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= 4
    path.write_bytes(data)
    journal = SigningJournal(path, CHAIN)
    assert "damaged" in journal.open(SigningRecord.unknown(8, 1))
    assert not journal.reserve_slot(8)
    assert not journal.reserve_vote(vote(9, 8, 9)), "its source may be before the target of a forgotten vote"
    assert not journal.reserve_vote(vote(11, 8, 11))
    assert journal.reserve_slot(9)
    assert journal.reserve_vote(vote(11, 9, 11))


@pytest.mark.parametrize("content", [b"", b"x", bytes(64), bytes(1000)])
def test_garbage_is_no_record(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "signed").write_bytes(content)
    assert "damaged" in SigningJournal(tmp_path / "signed", CHAIN).open(SigningRecord())


def test_another_chains_record_does_not_count(tmp_path: Path) -> None:
    opened(tmp_path / "signed", bytes(32)).reserve_slot(6)
    assert opened(tmp_path / "signed").reserve_slot(3)


def test_nothing_is_signed_when_the_disk_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = opened(tmp_path / "signed")
    before = (tmp_path / "signed").read_bytes()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(files.os, "write", full)
        with pytest.raises(UserError, match="No space left"):
            journal.reserve_slot(3)
    assert (tmp_path / "signed").read_bytes() == before
    assert journal.reserve_slot(3), "it was not reserved"


def test_the_content_is_canonical(tmp_path: Path) -> None:
    opened(tmp_path / "signed").reserve_slot(6)
    content = (tmp_path / "signed").read_bytes()[:-32]
    assert content == pack((CHAIN, SigningRecord(sealed_slot=6).encode()))
