"""What training leaves on the chain: commitments, receipts and round records.

A trainer commits to its update by signing a `Commitment`; the requester countersigns it, which makes
a `Receipt`, the claim to pay. A `RoundRecord` fixes one aggregation round: the Merkle root of its
receipts (RFC 6962 over `Receipt.encode()`), the model before and after, and the metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from chain import merkle
from chain.codec import Item, array, items, octets, pack, uint, unpack
from chain.crypto import H, Keypair, verify

MAX_ROUNDS = 2**32 - 1
MAX_CLIENTS = 4096
"""Clients, and so receipts, of one round. The state lists a round's paid clients in one entry."""
MAX_PATH = 40
RECORD_BYTES = 512
RECEIPT_BYTES = 1024


@dataclass(frozen=True)
class Commitment:
    """One client's work in one round, as its trainer declares it.

    Args:
        chain_id: 32 bytes.
        job: 32-byte id of the JOB_OPEN transaction.
        round: 0-based.
        client: logical client, 0-based.
        trainer: 32-byte account that is paid.
        samples: examples x epochs trained on; the unit that the job's price is for.
        model_in: SHA-256 of the global model that the round started from.
        update_hash: SHA-256 of the update as uploaded.
    """

    chain_id: bytes
    job: bytes
    round: int
    client: int
    trainer: bytes
    samples: int
    model_in: bytes
    update_hash: bytes

    def signing_bytes(self) -> bytes:
        """What the trainer signs."""
        return H("commitment", pack(self.to_item()))

    def to_item(self) -> tuple[Item, ...]:
        return (
            self.chain_id, self.job, self.round, self.client,
            self.trainer, self.samples, self.model_in, self.update_hash,
        )  # fmt: skip

    @classmethod
    def from_item(cls, item: Item) -> Commitment:
        """Raises DecodeError."""
        chain_id, job, round_, client, trainer, samples, model_in, update = array(item, 8, "commitment")
        return cls(
            octets(chain_id, 32, "chain_id"),
            octets(job, 32, "job"),
            uint(round_, "round", high=MAX_ROUNDS),
            uint(client, "client", high=MAX_CLIENTS - 1),
            octets(trainer, 32, "trainer"),
            uint(samples, "samples", low=1, high=2**48),
            octets(model_in, 32, "model_in"),
            octets(update, 32, "update_hash"),
        )


@dataclass(frozen=True)
class Receipt:
    """A commitment signed by its trainer and countersigned by the job's requester."""

    commitment: Commitment
    trainer_sig: bytes
    requester_sig: bytes

    @classmethod
    def countersign(cls, commitment: Commitment, trainer_sig: bytes, requester: Keypair) -> Receipt:
        """The requester's side: sign a commitment whose trainer signature the caller has checked."""
        message = _receipt_message(commitment, trainer_sig)
        return cls(commitment, trainer_sig, requester.sign(message))

    def verify(self, requester: bytes) -> bool:
        """Whether both signatures hold, the second one by the account `requester`."""
        # Selecting, building and applying a block look at the same object: check it once.
        if self.__dict__.get("_verified_for") == requester:
            return True
        message = _receipt_message(self.commitment, self.trainer_sig)
        good = verify(requester, message, self.requester_sig) and verify(
            self.commitment.trainer, self.commitment.signing_bytes(), self.trainer_sig
        )
        if good:
            self.__dict__["_verified_for"] = requester
        return good

    def encode(self) -> bytes:
        """Canonical bytes: also the leaf of a round's receipts tree."""
        return pack(self.to_item())

    @classmethod
    def decode(cls, data: bytes) -> Receipt:
        """Raises DecodeError."""
        return cls.from_item(unpack(data, RECEIPT_BYTES))

    def to_item(self) -> tuple[Item, ...]:
        return (self.commitment.to_item(), self.trainer_sig, self.requester_sig)

    @classmethod
    def from_item(cls, item: Item) -> Receipt:
        """Raises DecodeError."""
        commitment, trainer_sig, requester_sig = array(item, 3, "receipt")
        return cls(
            Commitment.from_item(commitment),
            octets(trainer_sig, 64, "trainer_sig"),
            octets(requester_sig, 64, "requester_sig"),
        )


@dataclass(frozen=True)
class SettledReceipt:
    """A receipt with its place in the receipts tree of its round record.

    In a claim, an empty path says: the requester left this receipt out of the tree.
    """

    receipt: Receipt
    index: int = 0
    path: tuple[bytes, ...] = ()

    def to_item(self) -> tuple[Item, ...]:
        return (self.receipt.to_item(), self.index, self.path)

    @classmethod
    def from_item(cls, item: Item) -> SettledReceipt:
        """Raises DecodeError."""
        receipt, index, path = array(item, 3, "settled receipt")
        return cls(
            Receipt.from_item(receipt),
            uint(index, "index", high=MAX_CLIENTS - 1),
            tuple(octets(node, 32, "path node") for node in items(path, MAX_PATH, "path")),
        )


@dataclass(frozen=True)
class RoundRecord:
    """One aggregation round, signed by the requester; a fee-free item of the body's training section.

    Args:
        job: 32-byte job id.
        round: 0-based and strictly the next one of the job.
        model_in: SHA-256 of the model before; equals the previous round's `model_out`.
        model_out: SHA-256 of the model after.
        receipts_root: RFC 6962 root over the encoded receipts.
        receipts_count: leaves of that tree.
        samples: sum over the receipts' samples.
        accuracy_ppm: validation accuracy in millionths.
        loss_ppm: validation loss in millionths.
        sig: the requester's signature over `signing_bytes()`.
    """

    job: bytes
    round: int
    model_in: bytes
    model_out: bytes
    receipts_root: bytes
    receipts_count: int
    samples: int
    accuracy_ppm: int
    loss_ppm: int
    sig: bytes = b""

    def signing_bytes(self) -> bytes:
        """What the requester signs; the job id binds it to one chain."""
        return H("round-record", pack(self.to_item()[:-1]))

    def signed(self, requester: Keypair) -> RoundRecord:
        """This record with the requester's signature."""
        return replace(self, sig=requester.sign(self.signing_bytes()))

    def verify(self, requester: bytes) -> bool:
        """Whether the account `requester` signed it."""
        return verify(requester, self.signing_bytes(), self.sig)

    @cached_property
    def id(self) -> bytes:
        """32-byte hash of the whole record."""
        return H("record", self.encode())

    def encode(self) -> bytes:
        """Canonical bytes."""
        return pack(self.to_item())

    @classmethod
    def decode(cls, data: bytes) -> RoundRecord:
        """Raises DecodeError."""
        return cls.from_item(unpack(data, RECORD_BYTES))

    def to_item(self) -> tuple[Item, ...]:
        return (
            self.job, self.round, self.model_in, self.model_out, self.receipts_root,
            self.receipts_count, self.samples, self.accuracy_ppm, self.loss_ppm, self.sig,
        )  # fmt: skip

    @classmethod
    def from_item(cls, item: Item) -> RoundRecord:
        """Raises DecodeError."""
        job, round_, model_in, model_out, root, count, samples, accuracy, loss, sig = array(
            item, 10, "round record"
        )
        return cls(
            octets(job, 32, "job"),
            uint(round_, "round", high=MAX_ROUNDS),
            octets(model_in, 32, "model_in"),
            octets(model_out, 32, "model_out"),
            octets(root, 32, "receipts_root"),
            uint(count, "receipts_count", high=MAX_CLIENTS),
            uint(samples, "samples"),
            uint(accuracy, "accuracy_ppm", high=1_000_000),
            uint(loss, "loss_ppm"),
            octets(sig, 64, "sig"),
        )


def receipts_root(receipts: Iterable[Receipt]) -> bytes:
    """The root that a round record carries for these receipts, in this order."""
    return merkle.root([receipt.encode() for receipt in receipts])


def settle_receipts(receipts: Sequence[Receipt]) -> tuple[SettledReceipt, ...]:
    """Each receipt with its index and path in the tree of `receipts_root(receipts)`."""
    leaves = [receipt.encode() for receipt in receipts]
    return tuple(
        SettledReceipt(receipt, i, path)
        for i, (receipt, path) in enumerate(zip(receipts, merkle.paths(leaves), strict=True))
    )


def batches(
    receipts: Iterable[SettledReceipt], max_bytes: int, max_count: int = 40
) -> tuple[tuple[SettledReceipt, ...], ...]:
    """Split receipts so that each batch fits one settle or claim transaction of `max_bytes`."""
    room = max_bytes - 512  # the envelope around the receipts
    done: list[tuple[SettledReceipt, ...]] = []
    batch: list[SettledReceipt] = []
    size = 0
    for receipt in receipts:
        length = len(pack(receipt.to_item()))
        if batch and (size + length > room or len(batch) >= max_count):
            done.append(tuple(batch))
            batch, size = [], 0
        batch.append(receipt)
        size += length
    return (*done, tuple(batch)) if batch else tuple(done)


def _receipt_message(commitment: Commitment, trainer_sig: bytes) -> bytes:
    return H("receipt", commitment.signing_bytes(), trainer_sig)
