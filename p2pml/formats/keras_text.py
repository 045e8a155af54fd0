"""Layers for sequences of tokens: `Embedding` and `LSTM`, as `p2pml.formats.keras_layers` has the others.

Of LSTM's many forms only Keras' default is accepted: the one of Hochreiter and Schmidhuber with forget gates.
"""

from __future__ import annotations

import math

from p2pml.formats.keras_fields import Fields, Layer, Shape, Weight

MAX_UNITS = 1024
"""Of an LSTM: its recurrent kernel's start takes time with their cube."""


def embedding(fields: Fields, shape: Shape) -> Layer:
    """One vector for each token; samples are tokens [length], whole numbers below `input_dim`."""
    tokens, size = fields.integer("input_dim"), fields.integer("output_dim")
    fields.starts("embeddings", "uniform")
    fields.fixed("mask_zero", False)
    if len(shape) != 1:
        raise fields.fail(f"needs samples of [length], not {list(shape)}")
    fields.fixed("input_length", None, shape[0])
    options = {"input_dim": tokens, "output_dim": size}
    return Layer("Embedding", options, (*shape, size), (Weight((tokens, size), "uniform"),))


def lstm(fields: Fields, shape: Shape) -> Layer:
    """Long short-term memory over samples [length, features]."""
    units, sequences = fields.integer("units"), fields.boolean("return_sequences", False)
    if len(shape) != 2:
        raise fields.fail(f"needs samples of [length, features], not {list(shape)}")
    if units > MAX_UNITS:
        raise fields.fail(f"{units} units, at most {MAX_UNITS} are allowed")
    fields.fixed("activation", "tanh")
    fields.fixed("recurrent_activation", "sigmoid")
    for key in ("use_bias", "unit_forget_bias"):
        fields.fixed(key, True)
    for key in ("return_state", "go_backwards", "stateful", "unroll", "time_major"):
        fields.fixed(key, False)
    for key in ("dropout", "recurrent_dropout"):
        fields.fixed(key, 0.0, 0)
    fields.fixed("implementation", 2, 1)
    fields.starts("kernel", "glorot")
    fields.starts("recurrent", "orthogonal")
    fields.starts("bias", "zeros")
    length, features = shape
    weights = (
        Weight((features, 4 * units), "glorot", features, 4 * units),
        Weight((units, 4 * units), "orthogonal"),
        Weight((4 * units,), "forget"),
    )
    output = (length, units) if sequences else (units,)
    flops = 2 * length * 4 * units * (features + units)
    options = {"units": units, "return_sequences": sequences}
    # Four gates, the cell and the output of each step.
    return Layer("LSTM", options, output, weights, flops, inner=6 * math.prod((length, units)))
