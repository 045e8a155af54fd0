"""A state in parts that travel alone: a manifest under the state root, and what it gives the hashes of.

The manifest holds the block's sealed header, the mixes, the books, and the hashes of the weight tables, of
the finality and of the 4,096 buckets of entries: together exactly what the state root is made of. So each
part is checked alone against the manifest, and the manifest against a root and a block id that are trusted.
Entries travel as runs of buckets: an answer has as many of the buckets asked for as fit into `RUN_BYTES`, at
least one. How a state is cut is no part of the manifest, so nobody can lie about it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from functools import cached_property

from chain import buckets, fields
from chain.buckets import BUCKETS, Bucket
from chain.codec import Item, array, items, octets, octets_upto, pack, uint, unpack
from chain.entries import Entry, Job, Validator
from chain.entry_kinds import MAX_ENTRY_BYTES, decode_entry
from chain.errors import ChainError, InvalidSnapshot
from chain.finality import Finality
from chain.genesis import Genesis
from chain.header import MAX_SEALED_BYTES, SealedHeader
from chain.ledger import Books, Place, Randomness, root_of
from chain.roll import Roll
from chain.state import State
from chain.tables import Tables

VERSION = 1
RUN_BYTES = 512 * 1024
"""A run takes buckets until it has so many bytes; one bucket is always in it, however large."""
MAX_PART_BYTES = 4 * 1024 * 1024
"""The largest part: tables, finality or run of buckets. A state beyond it has no snapshot."""
MAX_MANIFEST_BYTES = BUCKETS * 32 + MAX_SEALED_BYTES + 1024
_MAX_KEY_BYTES = 512


@dataclass(frozen=True, slots=True, order=True)
class TrustedPoint:
    """What a person trusts: a final block's height and 32-byte id, and the root of the state after it."""

    height: int
    id: bytes
    root: bytes

    def __str__(self) -> str:
        return f"{self.height}:{self.id.hex()}:{self.root.hex()}"

    @classmethod
    def parse(cls, text: str) -> TrustedPoint:
        """Read `HEIGHT:BLOCK_ID:STATE_ROOT`. Raises ChainError."""
        try:
            height, block_id, root = text.strip().split(":")
            point = cls(int(height), bytes.fromhex(block_id), bytes.fromhex(root))
        except ValueError:
            raise ChainError(f"{text!r} is not HEIGHT:BLOCK_ID:STATE_ROOT") from None
        if not 0 < point.height < 2**53 or len(point.id) != 32 or len(point.root) != 32:
            raise ChainError("a height is above 0, a block id and a state root have 64 hexadecimal digits")
        return point


@dataclass(frozen=True)
class Manifest:
    """What a state is made of.

    Args:
        chain_id: 32 bytes.
        sealed: the header of the block after which the state is.
        place: height, slot and weight.
        randomness, books: as they are.
        tables, finality: 32-byte hashes.
        buckets: 4,096 hashes of 32 bytes.
        size: bytes of all runs together; a hint, under no hash.
    """

    chain_id: bytes
    sealed: SealedHeader
    place: Place
    randomness: Randomness
    books: Books
    tables: bytes
    finality: bytes
    buckets: tuple[bytes, ...]
    size: int

    @cached_property
    def root(self) -> bytes:
        """The root of the state that this manifest is of."""
        parts = (buckets.hash_over(self.buckets), self.tables, self.finality)
        return root_of(parts, self.place, self.randomness, self.books)

    @property
    def point(self) -> TrustedPoint:
        """What has to be trusted for this manifest to be believed."""
        return TrustedPoint(self.place.height, self.sealed.block_id, self.root)

    @cached_property
    def encoded(self) -> bytes:
        """Canonical bytes."""
        place = (self.place.height, self.place.slot, self.place.weight.to_bytes(32, "big"))
        return pack(
            (
                VERSION, self.chain_id, self.sealed.to_item(), place, astuple(self.randomness),
                astuple(self.books), self.tables, self.finality, b"".join(self.buckets), self.size,
            )
        )  # fmt: skip

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """Raises DecodeError."""
        version, chain_id, sealed, place, mixes, books, tables, finality, hashes, size = array(
            unpack(data, MAX_MANIFEST_BYTES), 10, "manifest"
        )
        uint(version, "version", low=VERSION, high=VERSION)
        height, slot, weight = array(place, 3, "place")
        flat = octets(hashes, BUCKETS * 32, "bucket hashes")
        return cls(
            octets(chain_id, 32, "chain_id"),
            SealedHeader.from_item(sealed),
            Place(
                uint(height, "height", low=1),
                uint(slot, "slot", low=1),
                int.from_bytes(octets(weight, 32, "weight"), "big"),
            ),
            Randomness(*(octets(mix, 32, "mix") for mix in array(mixes, 3, "mixes"))),
            Books(*(uint(total, "total") for total in array(books, 6, "books"))),
            octets(tables, 32, "tables"),
            octets(finality, 32, "finality"),
            tuple(flat[at : at + 32] for at in range(0, len(flat), 32)),
            uint(size, "size"),
        )

    def check(self, genesis: Genesis, root: bytes) -> None:
        """Whether this is what is under a state root of this chain. Raises InvalidSnapshot."""
        sealed = self.sealed
        if self.chain_id != genesis.chain_id:
            raise InvalidSnapshot("the snapshot is of another chain")
        if self.root != root:
            raise InvalidSnapshot("the manifest is not under that state root")
        if sealed.height != self.place.height or sealed.timestamp_ms != genesis.slot_start_ms(
            self.place.slot
        ):
            raise InvalidSnapshot("the state is not the one after its block")
        if not sealed.path_ok() or not sealed.seal_ok(genesis.chain_id):
            raise InvalidSnapshot("nobody sealed the block of the snapshot")


class Snapshot:
    """A state as it is given to others. The state does not change, so any thread may ask.

    Args:
        state: after a block; not the genesis, which everybody has.
        sealed: that block's header.

    Raises:
        ChainError: the state is too large for its parts.
    """

    def __init__(self, state: State, sealed: SealedHeader) -> None:
        self.state = state
        self._buckets = tuple(buckets.leaves(state.tree))
        self.tables = pack(fields.to_item(state.tables))
        """The part with the weight tables."""
        self.finality = pack(fields.to_item(state.finality, without=("params",)))
        """The part with the finality."""
        if max(len(self.tables), len(self.finality)) > MAX_PART_BYTES:
            raise ChainError("the weight tables or the finality are too large for a snapshot")
        self.manifest = Manifest(
            state.genesis.chain_id,
            sealed,
            Place(state.height, state.slot, state.weight),
            state.randomness,
            state.books,
            state.tables.hash,
            state.finality.hash,
            tuple(bucket.hash for bucket in self._buckets),
            sum(map(_size, self._buckets)),
        )

    def run(self, first: int, count: int) -> bytes:
        """The part with up to `count` buckets from `first` on, as many as fit, at least one.

        Raises ChainError if that one is too large.
        """
        return self._cut(first, count)[0]

    def runs(self) -> Iterator[bytes]:
        """All runs that make up the state, in order. Raises ChainError."""
        first = 0
        while first < BUCKETS:
            data, taken = self._cut(first, BUCKETS - first)
            first += taken
            yield data

    def _cut(self, first: int, count: int) -> tuple[bytes, int]:
        taken: list[Item] = []
        size = 0
        for bucket in self._buckets[first : first + count]:
            size += _size(bucket)
            if taken and size > RUN_BYTES:
                break
            rows = zip(bucket.keys, bucket.entries, strict=True)
            taken.append(tuple((key, entry.encoded) for key, entry in rows))
        data = pack((first, tuple(taken)))
        if len(data) > MAX_PART_BYTES:
            raise ChainError("a bucket is too large for a snapshot")
        return data, len(taken)


class Assembly:
    """A state that is put together from checked parts, in whatever order they come.

    Args:
        genesis: the founding document.
        manifest: checked against what is trusted.
    """

    def __init__(self, genesis: Genesis, manifest: Manifest) -> None:
        self.manifest = manifest
        self._genesis = genesis
        self._tables: Tables | None = None
        self._finality: Finality | None = None
        self._buckets: dict[int, Bucket] = {}

    @property
    def complete(self) -> bool:
        """Whether every part is here."""
        return self._tables is not None and self._finality is not None and len(self._buckets) == BUCKETS

    def take_tables(self, data: bytes) -> None:
        """Raises InvalidError."""
        tables = fields.from_item(Tables, unpack(data, MAX_PART_BYTES))
        if tables.hash != self.manifest.tables:
            raise InvalidSnapshot("the weight tables are others than the manifest's")
        self._tables = tables

    def take_finality(self, data: bytes) -> None:
        """Raises InvalidError."""
        given = {"params": self._genesis.params}
        finality = fields.from_item(Finality, unpack(data, MAX_PART_BYTES), given)
        # Under the hash they are joined, so another cut of the same bytes would pass.
        ids = [block_id for _, block_id in finality.branch]
        joined = ids + [voter for voters in finality.tallies.values() for voter in voters]
        if any(len(part) != 32 for part in joined) or finality.hash != self.manifest.finality:
            raise InvalidSnapshot("the finality is another one than the manifest's")
        self._finality = finality

    def take_run(self, data: bytes, first: int, count: int) -> int:
        """Take buckets that were asked for.

        Returns:
            How many of them are here now, from `first` on.

        Raises:
            InvalidError: the run begins elsewhere, is empty, has more, or has others than the manifest's;
                nothing of it is kept.
        """
        start, rows_of = array(unpack(data, MAX_PART_BYTES), 2, "run")
        found = items(rows_of, BUCKETS, "buckets")
        if start != first or not 1 <= len(found) <= count:
            raise InvalidSnapshot("another run of buckets than the one asked for")
        taken = {first + i: self._bucket(first + i, rows) for i, rows in enumerate(found)}
        self._buckets.update(taken)
        return len(taken)

    def _bucket(self, index: int, item: Item) -> Bucket:
        rows: dict[bytes, tuple[bytes, bytes]] = {}
        for row in items(item, 8192, "bucket"):
            key, encoded = array(row, 2, "row")
            data = octets_upto(encoded, MAX_ENTRY_BYTES, "entry")
            rows[octets_upto(key, _MAX_KEY_BYTES, "key")] = hashlib.sha256(data).digest(), data
        digests = ((key, digest) for key, (digest, _) in rows.items())
        if buckets.bucket_hash(digests) != self.manifest.buckets[index]:
            raise InvalidSnapshot(f"bucket {index} is another one than the manifest's")
        return Bucket.of({key: (digest, decode_entry(key, data)) for key, (digest, data) in rows.items()})

    def state(self) -> State:
        """The state, once it is complete. Raises InvalidSnapshot if it is not the manifest's."""
        if self._tables is None or self._finality is None or len(self._buckets) < BUCKETS:
            raise ChainError("parts of the snapshot are missing")
        manifest, place = self.manifest, self.manifest.place
        tree = buckets.tree_of([self._buckets[index] for index in range(BUCKETS)])
        state = State(
            self._genesis,
            block_id=manifest.sealed.block_id,
            height=place.height,
            slot=place.slot,
            weight=place.weight,
            books=manifest.books,
            due=_due(entry for _, entry in buckets.walk(tree)),
            roll=Roll.of(entry for _, entry in buckets.walk(tree) if isinstance(entry, Validator)),
            randomness=manifest.randomness,
            tables=self._tables,
            finality=self._finality,
            own={},
            tree=tree,
        )
        if state.root() != manifest.root:
            raise InvalidSnapshot("the parts do not make up the state of the manifest")
        return state


def _due(entries: Iterator[Entry]) -> tuple[tuple[int, bytes], ...]:
    """The jobs that change by themselves, as `State.due` has them."""
    jobs = (entry for entry in entries if isinstance(entry, Job))
    return tuple(sorted((job.due_slot, job.id) for job in jobs if job.due_slot is not None))


def _size(bucket: Bucket) -> int:
    """Bytes of a bucket in a run, nearly."""
    return 3 + sum(
        len(key) + len(entry.encoded) + 6 for key, entry in zip(bucket.keys, bucket.entries, strict=True)
    )
