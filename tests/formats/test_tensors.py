from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import save

from p2pml.formats import FormatError, tensors

finite32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
float_arrays = arrays(np.float32, array_shapes(max_dims=4, max_side=4), elements=finite32)


@settings(max_examples=30)
@given(st.lists(float_arrays, max_size=12))
def test_order_shape_and_bits_survive(given_arrays: list[np.ndarray]) -> None:
    data = tensors.encode(given_arrays)
    back = tensors.decode(data, [array.shape for array in given_arrays])
    assert tensors.encode(back) == data
    for one, other in zip(given_arrays, back, strict=True):
        assert one.tobytes() == other.tobytes()
        assert one.shape == other.shape


def test_more_than_ten_tensors_keep_their_order() -> None:
    values = [np.full((), i, np.float32) for i in range(25)]
    assert [float(array) for array in tensors.decode(tensors.encode(values))] == list(range(25))


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_with_our_error(data: bytes) -> None:
    with pytest.raises(FormatError):
        tensors.decode(data)


def test_a_corrupted_file_is_refused_or_still_sound() -> None:
    data = bytearray(tensors.encode([np.ones((2, 3), np.float32), np.zeros(3, np.float32)]))
    for position in range(len(data)):
        damaged = bytes(data[:position]) + bytes([data[position] ^ 0x55]) + bytes(data[position + 1 :])
        try:
            back = tensors.decode(damaged, [(2, 3), (3,)])
        except FormatError:
            continue
        assert all(np.isfinite(array).all() for array in back)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_refused(value: float) -> None:
    bad = np.zeros((3, 3), np.float32)
    bad[2, 1] = value
    with pytest.raises(FormatError, match="tensor 1 holds a value that is not finite"):
        tensors.decode(tensors.encode([np.ones(2), bad]))


def test_wrong_names_types_shapes_and_sizes_are_refused() -> None:
    one = np.ones(2, np.float32)
    for data, message in (
        (save({"w0000": one, "w0002": one}), "names"),
        (save({"kernel": one}), "names"),
        (save({"w0000": one.astype(np.float64)}), "float64, not float32"),
        (save({"w0000": one.astype(np.int32)}), "int32, not float32"),
    ):
        with pytest.raises(FormatError, match=message):
            tensors.decode(data)
    for data, message in (
        (tensors.encode([one]), "1 tensors where the model has 2"),
        (tensors.encode([one, np.ones((2, 1))]), r"tensor 1 has shape \(2, 1\), the model needs \(2,\)"),
    ):
        with pytest.raises(FormatError, match=message):
            tensors.decode(data, [(2,), (2,)])
    with pytest.raises(FormatError, match="at most 10 are allowed"):
        tensors.decode(tensors.encode([one]), max_bytes=10)
    with pytest.raises(FormatError, match="at most 4096"):
        tensors.encode([one] * 4097)


def test_a_header_that_claims_more_than_there_is_costs_nothing() -> None:
    claim = {"w0000": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}
    header = json.dumps(claim).encode()
    with pytest.raises(FormatError, match="not a safetensors file"):
        tensors.decode(struct.pack("<Q", len(header)) + header)
    with pytest.raises(FormatError, match="not a safetensors file"):
        tensors.decode(struct.pack("<Q", 1 << 60) + header)


def test_digest_and_norm() -> None:
    assert tensors.digest(b"abc").hex().startswith("ba7816bf8f01cfea")
    assert tensors.norm([np.array([3.0], np.float32), np.array([[4.0]], np.float32)]) == 5.0
