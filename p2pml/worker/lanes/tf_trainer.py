"""The training step on TensorFlow: the same integers as `chain.baseline.kernel`, on whatever device it has.

On the processor this was compared bit by bit. A GPU whose matrix products are exact for integers of 8 bits
with sums of 24 gives the same; reduced formats are switched off here, but no GPU has been compared yet.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from chain.baseline.dataset import Samples
from chain.baseline.kernel import ODDS, initial_weights
from chain.baseline.net import TOP, Net, half
from p2pml.worker import quiet

quiet.silence()

import tensorflow as tf  # noqa: E402


class TensorFlowTrainer:
    """One network in training; see `chain.baseline.episode.Trainer`."""

    def __init__(self, net: Net, samples: Samples) -> None:
        self.net, self.count = net, len(samples)
        self._samples = samples
        tf.config.experimental.enable_tensor_float_32_execution(False)
        self._masters = [tf.Variable(tf.zeros(shape, tf.float32)) for shape in net.shapes]
        self._odds = tf.constant(ODDS)
        self._compiled = tf.function(
            self._step,
            input_signature=[
                tf.TensorSpec((net.batch, net.inputs), tf.int8),
                tf.TensorSpec((net.batch,), tf.int32),
            ],
        )

    def begin(self, seed: bytes) -> None:
        """Fresh weights."""
        for master, weights in zip(self._masters, initial_weights(self.net, seed), strict=True):
            master.assign(weights.astype(np.float32))

    def step(self, rows: npt.NDArray[np.intp]) -> None:
        """One step of SGD on the samples of those rows."""
        self._compiled(self._samples.x[rows], self._samples.y[rows].astype(np.int32))

    def state(self) -> bytes:
        """Master weights as little-endian int32."""
        return b"".join(master.numpy().astype("<i4").tobytes() for master in self._masters)

    def _step(self, raw: Any, labels: Any) -> None:
        net, top = self.net, float(TOP)
        first, second = (_shift(master + float(half(net.fraction)), net.fraction) for master in self._masters)
        x = tf.cast(raw, tf.float32)
        h = tf.clip_by_value(_shift(tf.matmul(x, first), net.hidden_shift), 0.0, top)
        logits = tf.cast(_shift(tf.matmul(h, second), net.logit_shift), tf.int32)
        error = tf.cast(self._output_error(logits, labels), tf.float32)
        back = tf.matmul(error, second, transpose_b=True) + float(half(net.back_shift))
        back = tf.clip_by_value(_shift(back, net.back_shift), -top, top)
        back *= tf.cast((h > 0) & (h < top), tf.float32)
        changes = tf.matmul(x, back, transpose_a=True), tf.matmul(h, error, transpose_a=True)
        bound = float(TOP << net.fraction)
        for master, change in zip(self._masters, changes, strict=True):
            master.assign(tf.clip_by_value(master - change, -bound, bound))

    def _output_error(self, logits: Any, labels: Any) -> Any:
        distance = tf.minimum(tf.reduce_max(logits, 1, keepdims=True) - logits, len(ODDS) - 1)
        odds = tf.gather(self._odds, distance)
        total = tf.reduce_sum(odds, 1, keepdims=True)
        error = (TOP * odds + total // 2) // total
        return error - TOP * tf.one_hot(labels, self.net.classes, dtype=tf.int32)


def _shift(values: Any, bits: int) -> Any:
    return tf.floor(values * 2.0**-bits)
