"""The baseline test once more, from docs/spec/baseline.md alone: lists, Python's integers and hashlib.

It shares no code with `chain.baseline`, so that what both agree on is what the page says.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any

Rows = list[list[int]]


def tagged(tag: str, *parts: bytes) -> bytes:
    return bytes([len(tag)]) + tag.encode() + b"".join(parts)


def sha(tag: str, *parts: bytes) -> bytes:
    return hashlib.sha256(tagged(tag, *parts)).digest()


def stream(size: int, tag: str, *parts: bytes) -> bytes:
    return hashlib.shake_256(tagged(tag, *parts)).digest(size)


def u64(value: int) -> bytes:
    return struct.pack(">Q", value)


def clip(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


def shifted(value: int, bits: int) -> int:
    """Divided by 2^bits and rounded half up."""
    return (value + (2**bits) // 2) // 2**bits


def odds_table() -> list[int]:
    table = [32768]
    for _ in range(127):
        table.append((table[-1] * 60097 + 32768) // 65536)
    return table


ODDS = odds_table()


def times(a: Rows, b: Rows) -> Rows:
    columns = list(zip(*b, strict=True))
    return [[sum(x * y for x, y in zip(row, column, strict=True)) for column in columns] for row in a]


def turned(a: Rows) -> Rows:
    return [list(column) for column in zip(*a, strict=True)]


def mixed(net: Any, samples: Rows) -> Rows:
    count = net.pixels * net.inputs
    bits = stream((count + 7) // 8, "baseline-mix", struct.pack(">II", net.pixels, net.inputs))
    sign = [1 if bits[i // 8] >> (7 - i % 8) & 1 else -1 for i in range(count)]
    matrix = [sign[row * net.inputs : (row + 1) * net.inputs] for row in range(net.pixels)]
    levels = [[value * 127 // net.top for value in row] for row in samples]
    return [[clip(shifted(v, net.mix_shift), -127, 127) for v in row] for row in times(levels, matrix)]


def weights(net: Any, seed: bytes) -> list[Rows]:
    found = []
    layers = ((net.inputs, net.hidden, net.hidden_spread), (net.hidden, net.classes, net.output_spread))
    for layer, (rows, columns, spread) in enumerate(layers):
        words = stream(2 * rows * columns, "baseline-weights", seed, bytes([layer]))
        flat = [
            (word - 32768) * spread * 2**net.fraction // 32768 for (word,) in struct.iter_unpack("<H", words)
        ]
        found.append([flat[row * columns : (row + 1) * columns] for row in range(rows)])
    return found


def softmax_error(net: Any, logits: list[int], label: int) -> list[int]:
    values = [value // 2**net.logit_shift for value in logits]
    odds = [ODDS[min(max(values) - value, 127)] for value in values]
    total = sum(odds)
    error = [(127 * one + total // 2) // total for one in odds]
    error[label] -= 127
    return error


def step(net: Any, masters: list[Rows], x: Rows, labels: list[int]) -> list[Rows]:
    bound = 127 * 2**net.fraction
    first, second = ([[shifted(m, net.fraction) for m in row] for row in layer] for layer in masters)
    h = [[clip(v // 2**net.hidden_shift, 0, 127) for v in row] for row in times(x, first)]
    logits = times(h, second)
    error = [softmax_error(net, row, label) for row, label in zip(logits, labels, strict=True)]
    back = [
        [
            clip(shifted(v, net.back_shift), -127, 127) if 0 < a < 127 else 0
            for v, a in zip(row, acts, strict=True)
        ]
        for row, acts in zip(times(error, turned(second)), h, strict=True)
    ]
    changes = times(turned(x), back), times(turned(h), error)
    return [
        [
            [clip(m - d, -bound, bound) for m, d in zip(rows, drows, strict=True)]
            for rows, drows in zip(layer, change, strict=True)
        ]
        for layer, change in zip(masters, changes, strict=True)
    ]


def leaves(net: Any, samples: Rows, labels: list[int], challenge: bytes, episode: int) -> list[bytes]:
    """The digest after each segment of an episode."""
    inputs = mixed(net, samples)
    seed = sha("baseline-episode", challenge, u64(episode))
    masters = weights(net, seed)
    found = []
    for segment in range(net.segments):
        words = stream(4 * net.steps * net.batch, "baseline-batches", seed, u64(segment))
        rows = [word % len(labels) for (word,) in struct.iter_unpack("<I", words)]
        for start in range(0, len(rows), net.batch):
            chosen = rows[start : start + net.batch]
            masters = step(net, masters, [inputs[i] for i in chosen], [labels[i] for i in chosen])
        state = b"".join(struct.pack(f"<{len(row)}i", *row) for layer in masters for row in layer)
        found.append(sha("baseline-leaf", challenge, u64(episode), u64(segment), state))
    return found
