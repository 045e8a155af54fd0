"""User transactions: the envelope and its payloads.

Envelope `[version, chain_id, type, sender, nonce, valid_until_slot, fee, payload, sig]`, canonical
msgpack. The id covers everything but the signature, so nobody can change it, and the signature covers
the id. The chain id and the nonce stop replays, `valid_until_slot` stops a transaction from
surprising its sender much later.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property
from typing import ClassVar

from chain.codec import Item, array, flag, items, octets, octets_upto, pack, text, uint, unpack
from chain.crypto import PUBLIC_BYTES, SIGNATURE_BYTES, H, Keypair, verify
from chain.errors import ChainError, DecodeError
from chain.genesis import MAX_SUPPLY
from chain.quality import Baseline
from chain.training_records import SettledReceipt

VERSION = 1
MAX_TX_BYTES = 1024 * 1024
"""Hard limit of the decoder; the chain's own limit is `ChainParams.max_tx_bytes`."""
MAX_SETTLE = 256
MODE_TRUSTED = "trusted"
_DATASET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,63}\Z")


class TxType(IntEnum):
    """Numbers on the wire; 6 belongs to a type that this version does not have."""

    TRANSFER = 1
    REGISTER = 2
    DATASET = 3
    JOB_OPEN = 4
    JOB_CLAIM = 5
    JOB_SETTLE = 7
    JOB_CANCEL = 8
    PARAM_UPDATE = 9


@dataclass(frozen=True)
class Transfer:
    """Pay `amount` base units to the 32-byte account `to`; the memo has up to 64 UTF-8 bytes."""

    TYPE: ClassVar[TxType] = TxType.TRANSFER
    to: bytes
    amount: int
    memo: str = ""

    def to_item(self) -> tuple[Item, ...]:
        return (self.to, self.amount, self.memo)

    @classmethod
    def from_item(cls, item: Item) -> Transfer:
        """Raises DecodeError."""
        to, amount, memo = array(item, 3, "transfer")
        return cls(
            octets(to, 32, "to"), uint(amount, "amount", low=1, high=MAX_SUPPLY), text(memo, 64, "memo")
        )


@dataclass(frozen=True)
class Register:
    """Make `account` a validator, or change its VRF key and name and add to its bond.

    Whoever signs the transaction pays fee and bond. When that is a sponsor, the account's own signature
    shows that it wants to be registered so, and by whom.

    Args:
        account: 32 bytes.
        vrf_public: 32-byte VRF key; drawn by it from the fourth epoch on.
        name: up to 64 bytes.
        bond: base units that are added to the bond.
        sequence: higher than in the account's last registration, so that none comes back.
        consent: the account's 64-byte signature; empty when the account itself signs the transaction.
    """

    TYPE: ClassVar[TxType] = TxType.REGISTER
    account: bytes
    vrf_public: bytes
    name: str
    bond: int
    sequence: int
    consent: bytes = b""

    def signing_bytes(self, chain_id: bytes, sponsor: bytes) -> bytes:
        """What the account signs for its sponsor."""
        return H("consent", chain_id, sponsor, pack(self.to_item()[:-1]))

    def consents(self, chain_id: bytes, sender: bytes) -> bool:
        """Whether the account wants this."""
        if sender == self.account:
            return not self.consent
        return verify(self.account, self.signing_bytes(chain_id, sender), self.consent)

    def to_item(self) -> tuple[Item, ...]:
        return (self.account, self.vrf_public, self.name, self.bond, self.sequence, self.consent)

    @classmethod
    def from_item(cls, item: Item) -> Register:
        """Raises DecodeError."""
        account, vrf_public, name, bond, sequence, consent = array(item, 6, "register")
        if consent != b"":
            octets(consent, SIGNATURE_BYTES, "consent")
        return cls(
            octets(account, PUBLIC_BYTES, "account"),
            octets(vrf_public, PUBLIC_BYTES, "vrf_public"),
            text(name, 64, "name"),
            uint(bond, "bond", high=MAX_SUPPLY),
            uint(sequence, "sequence", low=1, high=2**53),
            octets_upto(consent, SIGNATURE_BYTES, "consent"),
        )


@dataclass(frozen=True)
class DatasetRecord:
    """Announce a dataset under a name that nobody has taken yet.

    Args:
        name: 1..64 letters, digits, blanks and `._+-`, beginning with a letter or digit.
        infohash: 1..32 bytes; the data layer's, opaque to the chain.
        size: bytes of content.
        licence: up to 64 bytes, e.g. an SPDX identifier.
        public: whether anyone may download it.
    """

    TYPE: ClassVar[TxType] = TxType.DATASET
    name: str
    infohash: bytes
    size: int
    licence: str
    public: bool

    def to_item(self) -> tuple[Item, ...]:
        return (self.name, self.infohash, self.size, self.licence, self.public)

    @classmethod
    def from_item(cls, item: Item) -> DatasetRecord:
        """Raises DecodeError."""
        name, infohash, size, licence, public = array(item, 5, "dataset")
        if not _DATASET_NAME.match(text(name, 64, "name")):
            raise DecodeError("a dataset's name has letters, digits, blanks and ._+- only")
        return cls(
            text(name, 64, "name"),
            _infohash(infohash),
            uint(size, "size"),
            text(licence, 64, "licence"),
            flag(public, "public"),
        )


@dataclass(frozen=True)
class JobOpen:
    """Open a training job and lock its budget in escrow. The transaction's id is the job's id.

    Args:
        dataset: infohash of the training data, 1..32 bytes.
        model_hash: SHA-256 of the initial model.
        rounds: most rounds that the job may record.
        price: base units per sample; 0 for unpaid work among friends.
        budget: base units locked; what is not paid out comes back.
        deadline_slot: after this slot the job is over, finished or not.
        mode: `trusted`: pay needs the requester's countersignature.
    """

    TYPE: ClassVar[TxType] = TxType.JOB_OPEN
    dataset: bytes
    model_hash: bytes
    rounds: int
    price: int
    budget: int
    deadline_slot: int
    mode: str = MODE_TRUSTED

    def to_item(self) -> tuple[Item, ...]:
        return (
            self.dataset, self.model_hash, self.rounds, self.price,
            self.budget, self.deadline_slot, self.mode,
        )  # fmt: skip

    @classmethod
    def from_item(cls, item: Item) -> JobOpen:
        """Raises DecodeError."""
        dataset, model, rounds, price, budget, deadline, mode = array(item, 7, "job")
        if mode != MODE_TRUSTED:
            raise DecodeError(f"a job's mode must be {MODE_TRUSTED!r}")
        return cls(
            _infohash(dataset),
            octets(model, 32, "model_hash"),
            uint(rounds, "rounds", low=1, high=2**32 - 1),
            uint(price, "price", high=MAX_SUPPLY),
            uint(budget, "budget", high=MAX_SUPPLY),
            uint(deadline, "deadline_slot"),
            MODE_TRUSTED,
        )


@dataclass(frozen=True)
class JobSettle:
    """The requester pays receipts out of the escrow; `final` ends the job and starts the challenge window."""

    TYPE: ClassVar[TxType] = TxType.JOB_SETTLE
    job: bytes
    receipts: tuple[SettledReceipt, ...]
    final: bool = False

    def to_item(self) -> tuple[Item, ...]:
        return (self.job, tuple(receipt.to_item() for receipt in self.receipts), self.final)

    @classmethod
    def from_item(cls, item: Item) -> JobSettle:
        """Raises DecodeError."""
        job, receipts, final = array(item, 3, "settle")
        return cls(octets(job, 32, "job"), _receipts(receipts), flag(final, "final"))


@dataclass(frozen=True)
class JobClaim:
    """Anyone collects, in the challenge window, countersigned receipts that were not settled."""

    TYPE: ClassVar[TxType] = TxType.JOB_CLAIM
    job: bytes
    receipts: tuple[SettledReceipt, ...]

    def to_item(self) -> tuple[Item, ...]:
        return (self.job, tuple(receipt.to_item() for receipt in self.receipts))

    @classmethod
    def from_item(cls, item: Item) -> JobClaim:
        """Raises DecodeError."""
        job, receipts = array(item, 2, "claim")
        return cls(octets(job, 32, "job"), _receipts(receipts))


@dataclass(frozen=True)
class JobCancel:
    """The requester gives up a job that has no round record yet."""

    TYPE: ClassVar[TxType] = TxType.JOB_CANCEL
    job: bytes

    def to_item(self) -> tuple[Item, ...]:
        return (self.job,)

    @classmethod
    def from_item(cls, item: Item) -> JobCancel:
        """Raises DecodeError."""
        (job,) = array(item, 1, "cancel")
        return cls(octets(job, 32, "job"))


@dataclass(frozen=True)
class ParamUpdate:
    """Propose another baseline, or approve a proposal.

    Args:
        change: the proposed baseline, or the 32-byte id of the transaction that proposed one.
    """

    TYPE: ClassVar[TxType] = TxType.PARAM_UPDATE
    change: Baseline | bytes

    def to_item(self) -> tuple[Item, ...]:
        return (self.change if isinstance(self.change, bytes) else self.change.to_item(),)

    @classmethod
    def from_item(cls, item: Item) -> ParamUpdate:
        """Raises DecodeError."""
        (change,) = array(item, 1, "parameter update")
        if isinstance(change, tuple):
            return cls(Baseline.from_item(change))
        return cls(octets(change, 32, "proposal"))


Payload = Transfer | Register | DatasetRecord | JobOpen | JobSettle | JobClaim | JobCancel | ParamUpdate
_PAYLOADS: dict[int, type[Payload]] = {
    kind.TYPE: kind
    for kind in (Transfer, Register, DatasetRecord, JobOpen, JobSettle, JobClaim, JobCancel, ParamUpdate)
}


@dataclass(frozen=True)
class Tx:
    """A signed transaction.

    Args:
        chain_id: 32 bytes.
        sender: 32-byte account that signs and pays the fee.
        nonce: 0 for the account's first transaction, then strictly the next number.
        valid_until_slot: last slot in which it may be included.
        fee: base units, to the proposer.
        payload: typed; decides the type number on the wire.
        sig: 64 bytes.
    """

    chain_id: bytes
    sender: bytes
    nonce: int
    valid_until_slot: int
    fee: int
    payload: Payload
    sig: bytes
    version: int = VERSION

    @property
    def type(self) -> TxType:
        """The payload's type."""
        return self.payload.TYPE

    @cached_property
    def id(self) -> bytes:
        """32 bytes; covers all fields but the signature."""
        return H("tx", pack(self.to_item()[:-1]))

    @cached_property
    def encoded(self) -> bytes:
        """Canonical bytes."""
        return pack(self.to_item())

    @cached_property
    def signature_ok(self) -> bool:
        """Whether the sender signed it; checked once per object."""
        return verify(self.sender, H("tx-sig", self.id), self.sig)

    def checked_with(self, other: Tx) -> None:
        """Take over what was found of the signature of another copy of this transaction."""
        if other.id == self.id and other.sig == self.sig:
            self.__dict__["signature_ok"] = other.signature_ok

    def encode(self) -> bytes:
        """Canonical bytes."""
        return self.encoded

    @classmethod
    def decode(cls, data: bytes, max_size: int = MAX_TX_BYTES) -> Tx:
        """Raises DecodeError."""
        return cls.from_item(unpack(data, max_size))

    def to_item(self) -> tuple[Item, ...]:
        return (
            self.version, self.chain_id, int(self.type), self.sender, self.nonce,
            self.valid_until_slot, self.fee, self.payload.to_item(), self.sig,
        )  # fmt: skip

    @classmethod
    def from_item(cls, item: Item) -> Tx:
        """Raises DecodeError."""
        version, chain_id, kind, sender, nonce, until, fee, payload, sig = array(item, 9, "transaction")
        uint(version, "version", low=VERSION, high=VERSION)
        payload_class = _PAYLOADS.get(uint(kind, "type"))
        if payload_class is None:
            raise DecodeError(f"transaction type {kind!r} is not known")
        return cls(
            octets(chain_id, 32, "chain_id"),
            octets(sender, 32, "sender"),
            uint(nonce, "nonce"),
            uint(until, "valid_until_slot"),
            uint(fee, "fee", high=MAX_SUPPLY),
            payload_class.from_item(payload),
            octets(sig, 64, "sig"),
        )


def sign_tx(
    keypair: Keypair, chain_id: bytes, payload: Payload, *, nonce: int, valid_until_slot: int, fee: int
) -> Tx:
    """Make a transaction of `keypair`. Raises ChainError if a field is out of range."""
    unsigned = Tx(chain_id, keypair.public, nonce, valid_until_slot, fee, payload, bytes(64))
    try:
        Tx.decode(unsigned.encoded)
    except DecodeError as error:
        raise ChainError(f"cannot make this transaction: {error}") from None
    return replace(unsigned, sig=keypair.sign(H("tx-sig", unsigned.id)))


def _infohash(item: Item) -> bytes:
    value = octets_upto(item, 32, "infohash")
    if not value:
        raise DecodeError("infohash must not be empty")
    return value


def _receipts(item: Item) -> tuple[SettledReceipt, ...]:
    return tuple(SettledReceipt.from_item(entry) for entry in items(item, MAX_SETTLE, "receipts"))
