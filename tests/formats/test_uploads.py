"""Uploads: what is packed comes back as exactly as its kind allows, and nothing else is let in."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from p2pml.formats import FormatError, tensors, uploads
from p2pml.formats.uploads import BLOCK, KINDS, Upload

SHAPES = [(3, 50), (), (0, 2), (64,), (129,)]


def some_update(scale: float = 1.0) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [(scale * rng.normal(size=shape)).astype(np.float32) for shape in SHAPES]


def spooled(folder: Path, data: bytes) -> Path:
    path = folder / "update"
    path.write_bytes(data)
    return path


def whole(path: Path, kind: str) -> list[np.ndarray]:
    upload = Upload(path, kind, SHAPES)
    return [upload.read(i, 0, size).reshape(SHAPES[i]) for i, size in enumerate(upload.sizes)]


def test_float32_is_the_format_of_weights(tmp_path: Path) -> None:
    update = some_update()
    data = uploads.encode(update, "float32")
    assert data == tensors.encode(update)
    assert all(
        np.array_equal(a, b) for a, b in zip(whole(spooled(tmp_path, data), "float32"), update, strict=True)
    )


@pytest.mark.parametrize("scale", [1e-20, 1e-3, 1.0, 1e20])
def test_an_int8_value_is_off_by_half_a_step_of_its_block_at_most(tmp_path: Path, scale: float) -> None:
    update = some_update(scale)
    path = spooled(tmp_path, uploads.encode(update, "int8"))
    for sent, got in zip(update, whole(path, "int8"), strict=True):
        flat, back = sent.reshape(-1), got.reshape(-1)
        for at in range(0, flat.size, BLOCK):
            step = float(np.abs(flat[at : at + BLOCK]).max()) / 127
            assert float(np.abs(flat[at : at + BLOCK] - back[at : at + BLOCK]).max()) <= step * 0.5001


def test_float16_is_ieee_half_precision(tmp_path: Path) -> None:
    update = some_update()
    got = whole(spooled(tmp_path, uploads.encode(update, "float16")), "float16")
    assert all(np.array_equal(a.astype(np.float16), b) for a, b in zip(update, got, strict=True))
    with pytest.raises(FormatError, match="too large for float16"):
        uploads.encode([np.array([7e4], np.float32)], "float16")


@pytest.mark.parametrize(
    ("kind", "bytes_per_value"), [("float32", 4), ("float16", 2), ("int8", 1 + 4 / BLOCK)]
)
def test_sizes(kind: str, bytes_per_value: float) -> None:
    size = len(uploads.encode([np.ones((100, 640), np.float32)], kind))
    assert 0 < size - 64_000 * bytes_per_value < 300


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_update_has_the_same_bytes_and_ranges_agree_with_the_whole(
    tmp_path: Path, kind: str
) -> None:
    update = some_update()
    data = uploads.encode(update, kind)
    assert uploads.encode(some_update(), kind) == data
    assert all(named.dtype.name in (kind, "float32") for named in load(data).values())
    path = spooled(tmp_path, data)
    upload, all_of_it = Upload(path, kind, SHAPES), whole(path, kind)
    assert np.array_equal(upload.read(4, 64, 129), all_of_it[4][64:])
    assert np.array_equal(upload.read(0, 64, 100), all_of_it[0].reshape(-1)[64:100])
    norm = uploads.check(path, kind, SHAPES)
    assert norm == pytest.approx(tensors.norm(all_of_it))


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_and_the_smallest_floats_pass(tmp_path: Path, kind: str) -> None:
    update = [np.zeros(3, np.float32), np.full(3, 1e-45, np.float32)]
    path = spooled(tmp_path, uploads.encode(update, kind))
    assert uploads.check(path, kind, [(3,), (3,)]) < 1e-40


def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def file_of(header: Any, values: bytes = bytes(8)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + values


NAN = struct.pack("<ff", 1.0, float("nan"))
BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "too short"),
    "cut header": (file_of({"w0000": entry()})[:20], "header is too long"),
    "long header": (struct.pack("<Q", 2**63) + bytes(100), "header is too long"),
    "no JSON": (file_of(b"{" * 50), "not JSON"),
    "deep": (file_of(b"[" * 100_000), "not JSON"),
    "no map": (file_of([1]), "not a map"),
    "twice": (file_of(b'{"w0000":1,"w0000":2}'), "not JSON"),
    "missing": (file_of({}), "w0000 is missing"),
    "more": (file_of({"w0000": entry(), "w0001": entry()}), "1 tensors more"),
    "metadata": (file_of({"w0000": entry(), "__metadata__": {}}), "1 tensors more"),
    "no entry": (file_of({"w0000": 3}), "not described"),
    "type": (file_of({"w0000": entry("F64")}), "'F64', the job wants F32"),
    "shape": (file_of({"w0000": entry(shape=(1, 2))}), r"shape \[1, 2\], the model needs \[2\]"),
    "surrogate": (
        file_of(b'{"w0000":{"dtype":"\\ud800","shape":[2],"data_offsets":[0,8]}}'),
        "the job wants",
    ),
    "offsets": (file_of({"w0000": entry(offsets=(0, 4))}), "not in the file"),
    "beyond": (file_of({"w0000": entry(offsets=(4, 12))}), "not in the file"),
    "before": (file_of({"w0000": entry(offsets=(-8, 0))}), "not in the file"),
    "real offsets": (file_of({"w0000": entry(offsets=(0.0, 8.0))}), "does not say where"),
    "cut": (file_of({"w0000": entry()}, bytes(7)), "not in the file"),
    "nan": (file_of({"w0000": entry()}, NAN), "not finite"),
}


@pytest.mark.parametrize("name", BAD)
def test_anything_else_is_refused(tmp_path: Path, name: str) -> None:
    data, words = BAD[name]
    with pytest.raises(FormatError, match=words) as caught:
        uploads.check(spooled(tmp_path, data), "float32", [(2,)])
    str(caught.value).encode()  # it is sent to the peer


@pytest.mark.parametrize(("kind", "spoil"), [("int8", lambda s: s * np.inf), ("int8", lambda s: s * 1e38)])
def test_a_scale_that_is_no_number_is_refused(
    tmp_path: Path, kind: str, spoil: Callable[[np.ndarray], np.ndarray]
) -> None:
    from safetensors.numpy import save

    named = load(uploads.encode([np.full(64, 1e3, np.float32)], kind))
    with np.errstate(over="ignore"):
        named["s0000"] = spoil(named["s0000"]).astype(np.float32)
    with pytest.raises(FormatError, match="not finite"):
        uploads.check(spooled(tmp_path, save(named)), kind, [(64,)])


def test_a_file_that_became_shorter_is_noticed(tmp_path: Path) -> None:
    path = spooled(tmp_path, uploads.encode(some_update(), "float32"))
    upload = Upload(path, "float32", SHAPES)
    with path.open("r+b") as file:
        file.truncate(200)
    with pytest.raises(OSError, match="shorter than when it was checked"):
        upload.read(4, 0, 129)
