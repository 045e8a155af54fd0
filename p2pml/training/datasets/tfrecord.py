"""TFRecord files of `tf.train.Example`, read without TensorFlow.

Sources: https://www.tensorflow.org/tutorials/load_data/tfrecord (framing, masked CRC-32C) and
tensorflow/core/example/example.proto and feature.proto.
"""

from __future__ import annotations

import io
import struct
from array import array
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from p2pml.formats.shards import Shard
from p2pml.training.datasets import base, images
from p2pml.training.datasets.base import Dataset, DatasetError, Reading, make_shard, train_and_test
from p2pml.training.datasets.crc32c import crc32c
from p2pml.training.datasets.sources import Entry

MAX_RECORD = 16 << 20
"""Bytes of one record."""

SAMPLES = ("image", "x", "image/encoded", "image_raw", "features")
LABELS = ("label", "y", "image/class/label", "target")
"""Features with the sample and the label where the job names none."""

_ENCODED = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")


def load(files: Sequence[Entry], reading: Reading, max_bytes: int) -> Dataset:
    """One or several files; those with `test` in their names are the test set.

    A sample is a list of numbers, bytes as they are, or an encoded PNG or JPEG; a label one whole number.

    Raises:
        DatasetError: a damaged record, no such features, samples of different sizes, or too large.
        OSError: a file cannot be read.
    """
    train, test = train_and_test(files, lambda entry: entry.name)
    first, counts = _shard(train, reading, max_bytes)
    if not test:
        return Dataset(first, None, counts)
    return Dataset(first, _shard(test, reading, max_bytes - first.x.nbytes - first.y.nbytes)[0], counts)


def _shard(
    files: Sequence[Entry], reading: Reading, max_bytes: int
) -> tuple[Shard, tuple[tuple[str, int], ...]]:
    """The samples of all files, and how many each has."""
    where = files[0].where
    samples: list[npt.NDArray[Any]] = []
    labels = array("q")
    size = 0
    counts: list[tuple[str, int]] = []
    for entry in files:
        before = len(labels)
        with entry.open() as source:
            for number, record in enumerate(_records(source, entry)):
                at = f"{entry.where}, record {number}"
                sample, label = _example(record, reading, at)
                if samples and (sample.shape, sample.dtype) != (samples[0].shape, samples[0].dtype):
                    raise DatasetError(
                        f"{at} has {sample.dtype} {list(sample.shape)}, "
                        f"the first one {samples[0].dtype} {list(samples[0].shape)}",
                        "set data.shape to the size that images are resized to",
                    )
                size += sample.nbytes + 8
                base.check_size(size, max_bytes, where)
                samples.append(sample)
                labels.append(label)
        counts.append((entry.name, len(labels) - before))
    if not samples:
        raise DatasetError(f"{where} holds no samples")
    x = np.stack(samples)
    if samples[0].ndim == 1:
        x = base.reshaped(x, reading.shape, where)
    return make_shard(x, np.frombuffer(labels, np.int64), reading.scale_of(x.dtype), where), tuple(counts)


def _records(source: IO[bytes], entry: Entry) -> Iterator[bytes]:
    """The records of one file: length (u64), its checksum, the data, its checksum, all little-endian."""
    number = 0
    while head := source.read(12):
        where = f"{entry.where}, record {number}"
        if len(head) != 12:
            raise DatasetError(f"{where} is cut off", "fetch the file again")
        length, check = struct.unpack("<QI", head)
        if check != _masked(crc32c(head[:8])):
            raise DatasetError(f"{where} is damaged, or this is no TFRecord file (are they compressed?)")
        if length > MAX_RECORD:
            raise DatasetError(f"{where} has {length} bytes, at most {MAX_RECORD} are allowed")
        data, tail = source.read(length), source.read(4)
        if len(data) != length or len(tail) != 4:
            raise DatasetError(f"{where} is cut off", "fetch the file again")
        if struct.unpack("<I", tail)[0] != _masked(crc32c(data)):
            raise DatasetError(f"{where} is damaged", "fetch the file again")
        yield data
        number += 1


def _masked(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _example(record: bytes, reading: Reading, where: str) -> tuple[npt.NDArray[Any], int]:
    message: Any = _example_class()()
    try:
        message.ParseFromString(record)
    except DecodeError as error:
        raise DatasetError(f"{where} is no tf.train.Example: {error}") from error
    features = message.features.feature
    sample = _sample(features[_name(features, reading.sample, SAMPLES, "sample", where)], reading, where)
    name = _name(features, reading.label, LABELS, "label", where)
    values = features[name].int64_list.value
    if len(values) != 1:
        raise DatasetError(f"{where}: the label {name!r} is not one whole number", "set data.label")
    return sample, values[0]


def _name(
    features: Mapping[str, Any], wanted: str | int | None, usual: Sequence[str], what: str, where: str
) -> str:
    for name in usual if wanted is None else (str(wanted),):
        if name in features:
            return name
    found = ", ".join(sorted(name[:30] for name in features)[:10]) or "nothing"
    raise DatasetError(
        f"{where} has no feature {wanted!r} for the {what}; it has: {found}"
        if wanted is not None
        else f"{where} has none of the features {', '.join(usual)} for the {what}; it has: {found}",
        f"set data.{what} to one of its features",
    )


def _sample(feature: Any, reading: Reading, where: str) -> npt.NDArray[Any]:
    """[values], or an image's [rows, columns, …]."""
    kind = feature.WhichOneof("kind")
    values: Any = getattr(feature, kind).value if kind else ()
    if kind == "bytes_list" and len(values) == 1:
        if values[0].startswith(_ENCODED):
            return images.decoded(io.BytesIO(values[0]), where, reading.shape)
        return np.frombuffer(values[0], np.uint8)
    if kind == "float_list" and len(values):
        return np.array(values, np.float32)
    if kind == "int64_list" and len(values):
        return np.array(values, np.int64)
    raise DatasetError(f"{where}: the sample is neither numbers nor one text of bytes", "set data.sample")


@cache
def _example_class() -> type[Message]:
    """`tf.train.Example`, described here so that TensorFlow is not needed to read it."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tfrecord", syntax="proto3")
    one, many = kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    lists = {"Bytes": kinds.TYPE_BYTES, "Float": kinds.TYPE_FLOAT, "Int64": kinds.TYPE_INT64}
    for number, (name, kind) in enumerate(lists.items(), start=1):
        values = file.message_type.add(name=f"{name}List")
        values.field.add(name="value", number=1, type=kind, label=many)
        feature.field.add(
            name=f"{name.lower()}_list", number=number, type=kinds.TYPE_MESSAGE, label=one,
            type_name=f".tfrecord.{name}List", oneof_index=0,
        )  # fmt: skip
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=kinds.TYPE_STRING, label=one)
    for of, name, number, label, kind_name in (
        (entry, "value", 2, one, "Feature"),
        (features, "feature", 1, many, "Features.FeatureEntry"),
        (file.message_type.add(name="Example"), "features", 1, one, "Features"),
    ):
        of.field.add(
            name=name, number=number, type=kinds.TYPE_MESSAGE, label=label, type_name=f".tfrecord.{kind_name}"
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tfrecord.Example"))
