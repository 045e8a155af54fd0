"""What is exchanged with trainers and workers: tensors, shards, model descriptions, worker messages."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from p2pml.formats import FormatError, SpecError, keras_json, shards, tensors, uploads
from p2pml.worker import protocol
from tests.formats.test_keras_json import good
from tests.formats.test_shards import some_shard
from tests.fuzz.runner import decoder
from tests.worker.test_protocol import ONE_OF_EACH

TENSOR_TOKENS: tuple[bytes, ...] = (
    *(
        b'"F32"',
        b'"F16"',
        b'"U8"',
        b'"BF16"',
        b'"BOOL"',
        b'"shape":[]',
        b'"shape":[0]',
        b"[4294967296,4294967296]",
    ),
    *(
        b'"data_offsets":[0,0]',
        b"{}",
        b'"__metadata__":{"a":"b"}',
        b'"w0000"',
        b'"w0001"',
        b"\x00\x00\xc0\x7f",
    ),
)
JSON_TOKENS: tuple[bytes, ...] = (
    *(b"null", b"true", b"-1", b"1e999", b"NaN", b"2147483648", b'"units"', b'"name"', b"[]", b"{}", b'""'),
    *(
        b'"\\ud800"',
        b"[" * 2000,
        b"0.5",
        b'"activation"',
        b'"softmax"',
        b'"Conv2D"',
        b'"Dropout"',
        b"99999999999999999999",
    ),
)

UPLOAD_SHAPES = [(2, 3), (70,)]
WORKER_TOKENS: tuple[bytes, ...] = (
    b"\xc0",
    b"\xc3",
    b"\xcb\x7f\xf8" + bytes(6),
    b"\xdd\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\x91" * 1500,
)
WORKER_TOKENS += (
    b"\x81\xa1a\xc0",
    b"\x81\x01\x01",
    b"\xa6Cancel",
    b"\xc1",
    b"\xc7\x00\x01",
    b"\xd9\x01\xff",
    b"\xa1\xff",
)


def weights(data: bytes) -> None:
    for array in tensors.decode(data):
        assert array.dtype == np.float32
        assert np.isfinite(array).all()


def model(data: bytes) -> None:
    spec = keras_json.parse(data.decode("utf-8", "surrogateescape"))
    assert keras_json.parse(spec.to_json()) == spec


def shard(data: bytes) -> None:
    with TemporaryDirectory() as name:
        path = Path(name, "shard")
        path.write_bytes(data)
        assert len(shards.read(path)) == shards.sample_count(path)


def upload(data: bytes) -> None:
    with TemporaryDirectory() as name:
        path = Path(name, "update")
        path.write_bytes(data)
        assert np.isfinite(uploads.check(path, "int8", UPLOAD_SHAPES))


def worker_message(data: bytes) -> None:
    call, message = protocol.decode(data)
    protocol.encode(call, message)


TARGETS = (
    decoder(
        "tensors",
        weights,
        FormatError,
        [tensors.encode([np.ones((2, 3)), np.zeros(4)]), tensors.encode([])],
        tokens=TENSOR_TOKENS,
    ),
    decoder(
        "uploads",
        upload,
        FormatError,
        [uploads.encode([np.ones(shape, np.float32) for shape in UPLOAD_SHAPES], "int8")],
        tokens=(*TENSOR_TOKENS, b'"I8"', b'"s0000"'),
        runs=300,
    ),
    decoder("shards", shard, FormatError, [shards.encode(some_shard())], tokens=TENSOR_TOKENS, runs=300),
    decoder("model descriptions", model, SpecError, [json.dumps(good()).encode()], tokens=JSON_TOKENS),
    decoder(
        "worker messages",
        worker_message,
        protocol.ProtocolError,
        [protocol.encode(call, message) for call, message in enumerate(ONE_OF_EACH)],
        tokens=WORKER_TOKENS,
    ),
)
