"""What peers send of a state, and what is read back of one: anything but the real parts is refused."""

from __future__ import annotations

from chain import fields
from chain.buckets import BUCKETS
from chain.certificate import Certificate, certify
from chain.codec import pack, unpack
from chain.entry_kinds import decode_entry
from chain.errors import InvalidError
from chain.finality import Finality
from chain.snapshot import MAX_PART_BYTES, Manifest
from chain.snapshot_messages import GetManifest, GetRun, decode_part_request, encode_part_request
from chain.tables import Tables
from tests.chain.snapshots import busy_world, snapshot_of
from tests.fuzz.chain_targets import TOKENS, canonical
from tests.fuzz.runner import Target, decoder

KEY = bytes(32)


def _targets() -> tuple[Target, ...]:
    world = busy_world(20)
    taken = snapshot_of(world.chain)
    height = taken.state.height
    after = [block for block in world.chain.ancestors(world.chain.head.id) if block.height > height]
    proof = certify(taken.state, after[::-1])
    assert proof is not None
    rows = [row for bucket in _rows(taken.run(0, BUCKETS)) for row in bucket]
    given = {"params": world.genesis.params}

    return (
        decoder(
            "snapshot requests",
            canonical(decode_part_request, encode_part_request),
            InvalidError,
            map(encode_part_request, (GetManifest(KEY), GetRun(KEY, 5, 9))),
            tokens=TOKENS,
        ),
        decoder(
            "snapshot manifests",
            canonical(Manifest.decode, lambda manifest: manifest.encoded),
            InvalidError,
            [taken.manifest.encoded],
            runs=300,
        ),
        decoder(
            "snapshot tables",
            lambda data: fields.from_item(Tables, unpack(data, MAX_PART_BYTES)),
            InvalidError,
            [taken.tables],
            tokens=TOKENS,
        ),
        decoder(
            "snapshot finality",
            lambda data: fields.from_item(Finality, unpack(data, MAX_PART_BYTES), given),
            InvalidError,
            [taken.finality],
            tokens=TOKENS,
            runs=5_000,
        ),
        decoder(
            "state entries",
            lambda data: decode_entry(data[:1] + KEY, data[1:]),
            InvalidError,
            [key[:1] + encoded for key, encoded in rows],
            tokens=TOKENS,
        ),
        decoder(
            "certificates",
            canonical(Certificate.decode, lambda certificate: certificate.encoded),
            InvalidError,
            [proof.encoded, pack(((), ()))],
            tokens=TOKENS,
            runs=5_000,
        ),
    )


def _rows(run: bytes) -> list[list[tuple[bytes, bytes]]]:
    _, buckets = unpack(run, MAX_PART_BYTES)  # type: ignore[misc]
    return [list(bucket) for bucket in buckets]  # type: ignore[union-attr, arg-type]


TARGETS = _targets()
