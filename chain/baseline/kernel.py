"""The training step on NumPy, in float32 that carries integers (fast) or in int64 (plainly exact).

Every operation is +, -, a product with a power of two, floor, minimum, maximum or a product of matrices;
`Net` bounds what each can reach. Only the softmax divides, and does so in integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from chain.baseline.dataset import Samples
from chain.baseline.draws import weight_words
from chain.baseline.net import TOP, Net, half

Array = npt.NDArray[Any]


def _odds() -> npt.NDArray[np.int32]:
    """128 entries of about 2^15 x 2^(-i/8), by integer recursion only."""
    found = [1 << 15]
    while len(found) < 128:
        found.append((found[-1] * 60097 + 32768) >> 16)
    return np.array(found, np.int32)


ODDS = _odds()


def initial_weights(net: Net, seed: bytes) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Fresh master weights of an episode, int32, uniform in -spread .. spread times 2^fraction."""
    first, second = (
        (
            ((np.frombuffer(words, "<u2").astype(np.int64) - 32768) * (spread << net.fraction) >> 15)
            .astype(np.int32)
            .reshape(shape)
        )
        for words, spread, shape in zip(
            weight_words(net, seed), (net.hidden_spread, net.output_spread), net.shapes, strict=True
        )
    )
    return first, second


def output_error(net: Net, logits: npt.NDArray[np.int32], labels: npt.NDArray[np.intp]) -> Array:
    """127 times (integer softmax - one hot), rounded half up.

    Args:
        logits: int32 [n, classes], already divided by 2^logit_shift.

    Returns:
        int32 [n, classes] within -127 .. 127.
    """
    distance = np.minimum(logits.max(1, keepdims=True) - logits, len(ODDS) - 1)
    odds = ODDS[distance]
    total = odds.sum(1, keepdims=True, dtype=np.int32)
    error: Array = (TOP * odds + (total >> 1)) // total
    error[np.arange(len(labels)), labels] -= TOP
    return error


class NumpyTrainer:
    """One network in training.

    Args:
        samples: what it is trained on.
        dtype: float32, or int64 for the reference.
    """

    def __init__(
        self, net: Net, samples: Samples, dtype: type[np.float32] | type[np.int64] = np.float32
    ) -> None:
        self.net, self.count = net, len(samples)
        self._samples, self._dtype = samples, dtype
        (inputs, hidden), (_, classes) = net.shapes
        self._raw = np.empty((net.batch, inputs), np.int8)
        self._x: Array = np.empty((net.batch, inputs), dtype)
        self._h: Array = np.empty((net.batch, hidden), dtype)
        self._back: Array = np.empty((net.batch, hidden), dtype)
        self._logits: Array = np.empty((net.batch, classes), dtype)
        self._masters: list[Array] = [np.zeros(shape, dtype) for shape in net.shapes]
        self._views: list[Array] = [np.zeros(shape, dtype) for shape in net.shapes]
        self._changes: list[Array] = [np.empty(shape, dtype) for shape in net.shapes]

    def begin(self, seed: bytes) -> None:
        """Fresh weights."""
        for layer, weights in enumerate(initial_weights(self.net, seed)):
            self._masters[layer][...] = weights
            self._look(layer)

    def step(self, rows: npt.NDArray[np.intp]) -> None:
        """One step of SGD on the samples of those rows, `net.batch` of them."""
        net, x, h, back, logits = self.net, self._x, self._h, self._back, self._logits
        np.take(self._samples.x, rows, axis=0, out=self._raw, mode="clip")
        x[...] = self._raw
        self._forward(x, h, logits)
        labels = self._samples.y[rows]
        self._shift(logits, net.logit_shift)
        error = output_error(net, logits.astype(np.int32), labels).astype(self._dtype)
        np.matmul(error, self._views[1].T, out=back)
        back += self._dtype(half(net.back_shift))
        self._shift(back, net.back_shift)
        np.clip(back, -TOP, TOP, out=back)
        back *= (h > 0) & (h < TOP)
        np.matmul(x.T, back, out=self._changes[0])
        np.matmul(h.T, error, out=self._changes[1])
        for layer in (0, 1):
            self._update(layer)

    def state(self) -> bytes:
        """Master weights as little-endian int32, the hidden layer's before the output's."""
        return b"".join(master.astype("<i4").tobytes() for master in self._masters)

    def confusion(self, samples: Samples) -> tuple[tuple[int, ...], ...]:
        """How often each class (row) was taken for each (column); a tie goes to the lowest class."""
        classes = self.net.classes
        counts = np.zeros(classes * classes, np.int64)
        for start in range(0, len(samples), 4096):
            x = samples.x[start : start + 4096].astype(self._dtype)
            h = np.empty((len(x), self.net.hidden), self._dtype)
            logits = np.empty((len(x), classes), self._dtype)
            self._forward(x, h, logits)
            pairs = samples.y[start : start + 4096] * classes + logits.argmax(1)
            counts += np.bincount(pairs, minlength=classes * classes)
        return tuple(tuple(int(count) for count in row) for row in counts.reshape(classes, classes))

    def _forward(self, x: Array, h: Array, logits: Array) -> None:
        np.matmul(x, self._views[0], out=h)
        self._shift(h, self.net.hidden_shift)
        np.clip(h, 0, TOP, out=h)
        np.matmul(h, self._views[1], out=logits)

    def _update(self, layer: int) -> None:
        master, bound = self._masters[layer], TOP << self.net.fraction
        master -= self._changes[layer]
        np.clip(master, -bound, bound, out=master)
        self._look(layer)

    def _look(self, layer: int) -> None:
        """The weights as they are multiplied: the masters without their fraction, rounded half up."""
        view = np.add(self._masters[layer], self._dtype(half(self.net.fraction)), out=self._views[layer])
        self._shift(view, self.net.fraction)

    def _shift(self, values: Array, bits: int) -> None:
        """floor(values / 2^bits), in place."""
        if self._dtype is np.float32:
            np.floor(np.multiply(values, np.float32(2.0**-bits), out=values), out=values)
        else:
            np.right_shift(values, bits, out=values)
