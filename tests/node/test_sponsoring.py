"""Who pays for a newcomer, how often, and what a restart in between changes: nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from chain.codec import pack
from chain.crypto import Keypair
from chain.entries import Account
from chain.errors import InvalidTransaction
from chain.genesis import Founder, Genesis
from chain.ledger import Place as BlockPlace
from chain.params import DEMO, TOKEN
from chain.producer import ProposerKeys
from chain.state import State, genesis_state
from chain.transactions import Register, Transfer, Tx, sign_tx
from chain.transition import apply_tx, check_tx, open_slot
from p2pml.errors import UserError
from p2pml.net.errors import Malformed
from p2pml.net.host import Host
from p2pml.net.sponsor_exchange import PROTOCOL, Answer, Outcome, Question
from p2pml.node.registering import Registrar, agreed
from p2pml.node.sponsoring import Sponsoring
from p2pml.node.tx_sender import VALID_SLOTS, TxSender

SPONSOR = ProposerKeys.from_seeds(b"\x01" * 32, b"\x02" * 32)
HOUR_MS = 3_600_000


def newcomer(number: int) -> ProposerKeys:
    return ProposerKeys.from_seeds(bytes([number + 10]) * 32, bytes([number + 100]) * 32)


class OneNodeChain:
    """The chain's real ledger and rules; a block comes when a test says so."""

    def __init__(self, tokens: int = 100) -> None:
        founder = Founder(SPONSOR.public, SPONSOR.vrf_public, 10, "sponsor")
        self.genesis = Genesis("test", 0, DEMO, (founder,), ((SPONSOR.public, tokens * TOKEN),))
        self._state = genesis_state(self.genesis)
        self.waiting: list[Tx] = []
        self.blocks: list[tuple[Tx, ...]] = []
        self.full = False

    def state(self) -> State:
        return self._state

    def slot_now(self) -> int:
        return self._state.slot

    def next_slot(self) -> int:
        return self._state.slot + 1

    def account(self, public: bytes) -> Account:
        return self._state.account(public)

    def balance(self, public: bytes) -> int:
        return self._state.account(public).balance

    def next_nonce(self, public: bytes) -> int:
        return self._state.account(public).nonce + sum(tx.sender == public for tx in self.waiting)

    def waiting_tx(self, tx_id: bytes) -> Tx | None:
        return next((tx for tx in self.waiting if tx.id == tx_id), None)

    async def tx(self, tx_id: bytes) -> Any:
        for height, txs in enumerate(self.blocks, start=1):
            if any(tx.id == tx_id for tx in txs):
                return SimpleNamespace(height=height)
        return None

    async def submit_tx(self, tx: Tx) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.full:
            raise UserError("the pool of waiting transactions is full")
        if not self.waiting:
            check_tx(self._state, tx, self.next_slot())
        self.waiting.append(tx)
        return tx.id

    def mine(self, slot: int | None = None) -> None:
        """Whatever waits and still applies gets into a block."""
        slot = self.next_slot() if slot is None else slot
        draft, taken = open_slot(self._state, slot), []
        for tx in self.waiting:
            try:
                apply_tx(draft, tx, slot, self._state.height + 1, bytes(32))
            except InvalidTransaction:
                continue
            taken.append(tx)
        self.waiting = []
        self.blocks.append(tuple(taken))
        before = self._state
        block_id, height = pack((slot, before.block_id)), before.height + 1
        place = BlockPlace(height, slot, 0)
        self._state = draft.seal(block_id, place, before.randomness, before.finality, before.tables)
        assert self._state.supply_ok()

    @property
    def bonds(self) -> int:
        return self._state.supply().bonds


class Place:
    """A sponsor's node, which can be started again."""

    def __init__(self, folder: Path, tokens: int = 100) -> None:
        self.chain = OneNodeChain(tokens)
        self.path = folder / "sponsored.journal"
        self.now = 1_000_000
        self.start()

    def start(self) -> None:
        chain: Any = self.chain
        sender = TxSender(chain, SPONSOR.keypair)
        self.sponsoring = Sponsoring(chain, sender, self.path, lambda: self.now)

    async def invite(self, uses: int = 1, bond: int | None = None) -> bytes:
        return (await self.sponsoring.create(bond, uses, 1)).secret

    def question(self, secret: bytes, number: int = 0, **changes: Any) -> Question:
        keys = newcomer(number)
        wish = replace(Register(keys.public, keys.vrf_public, "late", DEMO.bond, 1), **changes)
        signed = agreed(keys, self.chain.genesis.chain_id, wish, SPONSOR.public)
        return Question(self.chain.genesis.chain_id, secret, signed)

    async def ask(self, secret: bytes, number: int = 0, **changes: Any) -> Answer:
        return await self.sponsoring.answer(self.question(secret, number, **changes))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_a_newcomer_without_tokens_becomes_a_validator(place: Place) -> None:
    secret = await place.invite()
    first = await place.ask(secret)
    assert (first.outcome, first.height, len(first.tx_id)) == (Outcome.TAKEN, 0, 32)
    place.chain.mine()
    assert await place.ask(secret) == replace(first, height=1)
    entry = place.chain.state().validator(newcomer(0).public)
    assert entry is not None
    assert (entry.rating, entry.bond, entry.name) == (0, DEMO.bond, "late")
    assert place.chain.balance(SPONSOR.public) == 100 * TOKEN - DEMO.bond - DEMO.min_fee


async def test_asking_again_pays_nothing_again_before_or_after_a_restart(place: Place) -> None:
    secret = await place.invite()
    first = await place.ask(secret)
    assert await place.ask(secret) == first
    place.start()
    assert await place.ask(secret) == first
    assert len(place.chain.waiting) == 1
    place.chain.mine()
    place.start()
    assert await place.ask(secret) == replace(first, height=1)
    assert (place.chain.bonds, place.chain.waiting) == (DEMO.bond, [])


async def test_a_use_is_on_disk_before_its_transaction_leaves(place: Place) -> None:
    """As if the power failed in between: the transaction was signed and written, and never sent."""
    secret = await place.invite()
    place.chain.full = True
    assert (await place.ask(secret)).outcome is Outcome.BUSY
    place.start()
    place.chain.full = False
    assert (await place.ask(secret, 1)).outcome is Outcome.USED_UP
    taken = await place.ask(secret, 0)
    place.chain.mine()
    assert (await place.ask(secret, 0)) == replace(taken, height=1)
    assert place.chain.bonds == DEMO.bond


async def test_a_registration_that_expired_on_the_way_is_signed_anew_and_paid_once(place: Place) -> None:
    secret = await place.invite()
    first = await place.ask(secret)
    lost, place.chain.waiting = place.chain.waiting, []
    place.chain.mine(slot=VALID_SLOTS + 5)
    second = await place.ask(secret)
    assert (second.outcome, second.tx_id != first.tx_id) == (Outcome.TAKEN, True)
    place.chain.waiting += lost
    place.chain.mine()
    assert await place.ask(secret) == replace(second, height=2)
    assert place.chain.bonds == DEMO.bond


async def test_a_nonce_that_another_transaction_took_is_no_end(place: Place) -> None:
    secret = await place.invite()
    await place.ask(secret)
    other = sign_tx(
        SPONSOR.keypair, place.chain.genesis.chain_id, Transfer(bytes(32), 5), nonce=0, valid_until_slot=99,
        fee=DEMO.min_fee,
    )  # fmt: skip
    place.chain.waiting = [other]
    place.chain.mine()
    place.start()
    again = await place.ask(secret)
    place.chain.mine()
    assert await place.ask(secret) == replace(again, height=2)


async def test_an_invite_is_good_for_so_many_accounts(place: Place) -> None:
    secret = await place.invite(uses=2)
    assert [(await place.ask(secret, number)).outcome for number in range(3)] == [
        Outcome.TAKEN,
        Outcome.TAKEN,
        Outcome.USED_UP,
    ]
    place.start()
    assert (await place.ask(secret, 3)).outcome is Outcome.USED_UP
    place.chain.mine()
    assert place.chain.bonds == 2 * DEMO.bond


async def test_an_expired_invite_takes_nobody_new_and_follows_who_came_in_time(place: Place) -> None:
    secret = await place.invite(uses=2)
    await place.ask(secret, 0)
    place.now += HOUR_MS
    assert (await place.ask(secret, 1)).outcome is Outcome.TAKEN
    place.now += 1
    third = await place.invite()
    place.now -= 1
    late = await place.invite(uses=5)
    place.now += HOUR_MS + 1
    assert (await place.ask(late, 2)).outcome is Outcome.EXPIRED
    assert (await place.ask(secret, 0)).outcome is Outcome.TAKEN
    assert third != late


def registered(place: Place) -> None:
    keys = newcomer(0)
    wish = Register(keys.public, keys.vrf_public, "early", DEMO.bond, 1)
    wish = agreed(keys, place.chain.genesis.chain_id, wish, SPONSOR.public)
    nonce = place.chain.account(SPONSOR.public).nonce
    place.chain.waiting.append(
        sign_tx(
            SPONSOR.keypair,
            place.chain.genesis.chain_id,
            wish,
            nonce=nonce,
            valid_until_slot=99,
            fee=DEMO.min_fee,
        )
    )
    place.chain.mine()


def barred(place: Place) -> None:
    registered(place)
    entry = place.chain.state().validator(newcomer(0).public)
    assert entry is not None
    draft = open_slot(place.chain.state(), place.chain.next_slot())
    draft.put_validator(replace(entry, barred_until=5))
    before = place.chain.state()
    after = BlockPlace(before.height + 1, before.slot + 1, 0)
    place.chain._state = draft.seal(b"x" * 32, after, before.randomness, before.finality, before.tables)


@pytest.mark.parametrize(
    ("before", "changes", "outcome"),
    [
        (registered, {}, Outcome.REGISTERED),
        (barred, {}, Outcome.BARRED),
        (None, {"bond": DEMO.bond + 1}, Outcome.OTHER_TERMS),
        (None, {"sequence": 2}, Outcome.OTHER_TERMS),
        (None, {"vrf_public": SPONSOR.vrf_public}, Outcome.OTHER_TERMS),
        (None, {"vrf_public": bytes(32)}, Outcome.OTHER_TERMS),
    ],
)
async def test_what_is_refused_costs_no_use(
    place: Place, before: Callable[[Place], None] | None, changes: dict[str, Any], outcome: Outcome
) -> None:
    secret = await place.invite()
    if before is not None:
        before(place)
    assert (await place.ask(secret, **changes)).outcome is outcome
    assert (await place.ask(secret, 1)).outcome is Outcome.TAKEN


async def test_a_consent_to_somebody_else_is_none(place: Place) -> None:
    secret = await place.invite()
    question = place.question(secret)
    other = agreed(newcomer(0), question.chain_id, question.registration, b"\x09" * 32)
    asked = replace(question, registration=other)
    assert (await place.sponsoring.answer(asked)).outcome is Outcome.OTHER_TERMS


async def test_unknown_secrets_and_other_networks(place: Place) -> None:
    secret = await place.invite()
    assert (await place.ask(bytes(16))).outcome is Outcome.UNKNOWN
    elsewhere = replace(place.question(secret), chain_id=bytes(32))
    assert (await place.sponsoring.answer(elsewhere)).outcome is Outcome.OTHER_NETWORK


async def test_a_sponsor_that_has_spent_its_tokens_says_so(tmp_path: Path) -> None:
    place = Place(tmp_path, tokens=2)
    first, second = await place.invite(), await place.invite()
    await place.ask(first, 0)
    place.chain.mine()
    assert (await place.ask(second, 1)).outcome is Outcome.NO_MEANS
    with pytest.raises(UserError, match="cannot pay"):
        await place.invite()


@pytest.mark.parametrize("given", [(DEMO.bond - 1, 1, 1), (None, 0, 1), (None, 101, 1), (None, 1, 2161)])
async def test_invites_out_of_bounds(place: Place, given: tuple[int | None, int, int]) -> None:
    with pytest.raises(UserError, match=r"below|bounds"):
        await place.sponsoring.create(*given)
    assert not place.path.exists()


async def test_a_damaged_record_is_set_aside_and_its_invites_hold_no_more(place: Place) -> None:
    secret = await place.invite()
    place.path.write_bytes(b"garbage\n" + place.path.read_bytes())
    place.start()
    assert (await place.ask(secret)).outcome is Outcome.UNKNOWN
    assert place.path.with_name("sponsored.journal.damaged").exists()
    again = await place.invite()
    place.start()
    assert (await place.ask(again)).outcome is Outcome.TAKEN


async def test_the_secret_is_not_in_the_record(place: Place) -> None:
    secret = await place.invite()
    assert secret.hex() not in place.path.read_text()


async def test_over_a_stream(place: Place) -> None:
    secret = await place.invite()
    async with Host(b"\x21" * 32).running() as sponsor, Host(b"\x22" * 32, port=None).running() as guest:
        place.sponsoring.serve(sponsor)
        peer = await guest.connect(sponsor.addrs()[0])
        answer = await guest.request(peer, PROTOCOL, place.question(secret).to_message())
        assert Answer.from_message(answer).outcome is Outcome.TAKEN
        with pytest.raises(Exception, match="ended"):
            await guest.request(peer, PROTOCOL, [1, 2, 3])


@pytest.mark.parametrize(
    "message",
    [None, [2, "taken", bytes(32), 1], [1, "taken", b"", 1], [1, "paid", b"", 0], [1, "busy", bytes(32), 0]],
)
def test_what_is_no_answer(message: Any) -> None:
    with pytest.raises(Malformed):
        Answer.from_message(message)


# -- registering oneself ---------------------------------------------------------------------------------


def registrar(place: Place, keys: ProposerKeys, name: str = "me") -> Registrar:
    chain: Any = place.chain
    return Registrar(chain, TxSender(chain, keys.keypair), keys, name)


async def test_an_account_with_tokens_registers_itself(place: Place) -> None:
    keys = newcomer(0)
    pay = Transfer(keys.public, 3 * TOKEN)
    await TxSender(place.chain, SPONSOR.keypair).submit(pay)  # type: ignore[arg-type]
    place.chain.mine()
    await registrar(place, keys).register(None, None)
    place.chain.mine()
    entry = place.chain.state().validator(keys.public)
    assert entry is not None
    assert (entry.name, entry.bond, entry.sequence) == ("me", DEMO.bond, 1)
    assert (entry.vrf_public, entry.rating) == (keys.vrf_public, 0)
    with pytest.raises(UserError, match="nothing would change"):
        await registrar(place, keys).register(None, None)
    await registrar(place, keys).register("renamed", 5)
    place.chain.mine()
    entry = place.chain.state().validator(keys.public)
    assert entry is not None
    assert (entry.name, entry.bond, entry.sequence) == ("renamed", DEMO.bond + 5, 2)


def test_registrations_that_cannot_be(place: Place) -> None:
    mine = registrar(place, newcomer(0))
    with pytest.raises(UserError, match="has 0 tokens") as caught:
        mine.wish(None, None)
    assert "invite --sponsor" in caught.value.fix
    with pytest.raises(UserError, match="below the network's least of 1"):
        mine.wish(None, DEMO.bond - 1)
    with pytest.raises(UserError, match="name"):
        mine.wish("ü" * 33, None, SPONSOR.public)
    with pytest.raises(UserError, match="name"):
        registrar(place, SPONSOR).wish("\x1b[2J", None)
    barred(place)
    with pytest.raises(UserError, match="barred for 5 more"):
        mine.wish(None, None)


def test_a_founder_needs_no_bond(place: Place) -> None:
    wish = registrar(place, SPONSOR).wish("other", None)
    assert (wish.bond, wish.name) == (0, "other")


def test_another_account_signs_with_consent(place: Place) -> None:
    payer = Keypair.from_seed(b"\x01" * 32)
    wish = registrar(place, newcomer(0)).wish(None, None, payer.public)
    assert wish.consents(place.chain.genesis.chain_id, payer.public)
    assert not wish.consents(place.chain.genesis.chain_id, newcomer(1).public)
