"""The Keras layers that a job's model may use: for each, the configuration keys it may have, its shapes,
weights and cost.

A layer is rebuilt from the values checked here, so a key that this file does not know never reaches Keras.
Batch normalisation is left out: its moving statistics are no part of a federated mean of trainable weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from p2pml.formats.keras_fields import INITIALIZERS, Fields, Layer, Shape, Start, Weight
from p2pml.formats.keras_text import embedding, lstm


def _dense(fields: Fields, shape: Shape) -> Layer:
    units = fields.integer("units")
    activation, bias = fields.activation(), fields.boolean("use_bias", True)
    start = fields.starts("kernel", *_KERNELS)
    fields.starts("bias", "zeros")
    kernel = Weight((shape[-1], units), start, shape[-1], units)
    weights = (kernel, Weight((units,), "zeros")) if bias else (kernel,)
    return Layer(
        "Dense",
        {"units": units, "activation": activation, "use_bias": bias, **_kernel_option(start)},
        (*shape[:-1], units),
        weights,
        2 * math.prod(shape) * units,
    )


def _conv2d(fields: Fields, shape: Shape) -> Layer:
    filters, kernel = fields.integer("filters"), fields.pair("kernel_size", None)
    strides, padding = fields.pair("strides", 1), fields.choice("padding", _PADDINGS, "valid")
    activation, bias = fields.activation(), fields.boolean("use_bias", True)
    start = fields.starts("kernel", *_KERNELS)
    fields.starts("bias", "zeros")
    fields.fixed("data_format", "channels_last", None)
    fields.fixed("groups", 1)
    fields.fixed("dilation_rate", [1, 1], 1)
    rows, columns = _window(fields, shape, kernel, strides, padding)
    field = kernel[0] * kernel[1]
    weight = Weight((*kernel, shape[2], filters), start, field * shape[2], field * filters)
    return Layer(
        "Conv2D",
        {
            "filters": filters,
            "kernel_size": list(kernel),
            "strides": list(strides),
            "padding": padding,
            "activation": activation,
            "use_bias": bias,
            **_kernel_option(start),
        },
        (rows, columns, filters),
        (weight, Weight((filters,), "zeros")) if bias else (weight,),
        2 * rows * columns * field * shape[2] * filters,
    )


def _pooling2d(kind: str) -> Callable[[Fields, Shape], Layer]:
    def check(fields: Fields, shape: Shape) -> Layer:
        size = fields.pair("pool_size", 2)
        strides = fields.pair("strides", list(size))
        padding = fields.choice("padding", _PADDINGS, "valid")
        fields.fixed("data_format", "channels_last", None)
        rows, columns = _window(fields, shape, size, strides, padding)
        options = {"pool_size": list(size), "strides": list(strides), "padding": padding}
        return Layer(
            kind, options, (rows, columns, shape[2]), flops=rows * columns * shape[2] * math.prod(size)
        )

    return check


def _global_pooling2d(kind: str) -> Callable[[Fields, Shape], Layer]:
    def check(fields: Fields, shape: Shape) -> Layer:
        fields.fixed("data_format", "channels_last", None)
        fields.fixed("keepdims", False)
        _image(fields, shape)
        return Layer(kind, {}, (shape[2],), flops=math.prod(shape))

    return check


def _flatten(fields: Fields, shape: Shape) -> Layer:
    fields.fixed("data_format", "channels_last", None)
    return Layer("Flatten", {}, (math.prod(shape),))


def _reshape(fields: Fields, shape: Shape) -> Layer:
    target = fields.dimensions("target_shape")
    if math.prod(target) != math.prod(shape):
        raise fields.fail(
            f"target_shape {list(target)} does not hold the {math.prod(shape)} values of {list(shape)}"
        )
    return Layer("Reshape", {"target_shape": list(target)}, target)


def _dropout(fields: Fields, shape: Shape) -> Layer:
    fields.fixed("noise_shape", None)
    fields.fixed("seed", None)
    return Layer("Dropout", {"rate": fields.number("rate", 0.0, 0.95)}, shape)


def _activation(fields: Fields, shape: Shape) -> Layer:
    return Layer("Activation", {"activation": fields.activation()}, shape, flops=math.prod(shape))


def _relu(fields: Fields, shape: Shape) -> Layer:
    fields.fixed("max_value", None)
    fields.fixed("negative_slope", 0.0, 0)
    fields.fixed("threshold", 0.0, 0)
    return Layer("Activation", {"activation": "relu"}, shape, flops=math.prod(shape))


def _softmax(fields: Fields, shape: Shape) -> Layer:
    fields.fixed("axis", -1)
    return Layer("Activation", {"activation": "softmax"}, shape, flops=math.prod(shape))


def _layer_normalization(fields: Fields, shape: Shape) -> Layer:
    fields.fixed("axis", -1, [len(shape)], [-1])
    options, weights = _normalization(fields, shape)
    return Layer("LayerNormalization", options, shape, weights, 8 * math.prod(shape), math.prod(shape))


def _group_normalization(fields: Fields, shape: Shape) -> Layer:
    """Wu and He 2018: as batch normalisation, but by the sample, so that nothing is kept between batches."""
    fields.fixed("axis", -1)
    groups = fields.integer("groups", default=32)
    if len(shape) < 2 or shape[-1] % groups:
        raise fields.fail(f"{groups} groups do not divide the channels of {list(shape)}")
    options, weights = _normalization(fields, shape)
    options["groups"] = groups
    return Layer("GroupNormalization", options, shape, weights, 8 * math.prod(shape), math.prod(shape))


def _normalization(fields: Fields, shape: Shape) -> tuple[dict[str, Any], tuple[Weight, ...]]:
    fields.fixed("center", True)
    fields.fixed("scale", True)
    fields.starts("beta", "zeros")
    fields.starts("gamma", "ones")
    epsilon = fields.number("epsilon", 1e-8, 1.0, 1e-3)
    return {"epsilon": epsilon}, (Weight(shape[-1:], "ones"), Weight(shape[-1:], "zeros"))


def _add(fields: Fields, shapes: Sequence[Shape]) -> Layer:
    if len(set(shapes)) != 1:
        raise fields.fail(f"adds samples of different shapes {[list(shape) for shape in shapes]}")
    return Layer("Add", {}, shapes[0], flops=len(shapes) * math.prod(shapes[0]))


def _concatenate(fields: Fields, shapes: Sequence[Shape]) -> Layer:
    fields.fixed("axis", -1)
    if len({shape[:-1] for shape in shapes}) != 1:
        raise fields.fail(f"joins samples of different shapes {[list(shape) for shape in shapes]}")
    return Layer("Concatenate", {}, (*shapes[0][:-1], sum(shape[-1] for shape in shapes)))


def _image(fields: Fields, shape: Shape) -> None:
    if len(shape) != 3:
        raise fields.fail(f"needs samples of [rows, columns, channels], not {list(shape)}")


def _window(
    fields: Fields, shape: Shape, size: tuple[int, int], strides: tuple[int, int], padding: str
) -> tuple[int, int]:
    """Rows and columns after a sliding window, by TensorFlow's rules for `same` and `valid`."""
    _image(fields, shape)
    out = []
    for length, window, stride in zip(shape[:2], size, strides, strict=True):
        if padding == "valid" and window > length:
            raise fields.fail(f"a window of {list(size)} does not fit into {list(shape[:2])}")
        out.append(-(-length // stride) if padding == "same" else (length - window) // stride + 1)
    return out[0], out[1]


def _kernel_option(start: Start) -> dict[str, Any]:
    """Glorot's start goes without saying, so that models that always had it keep their text and hash."""
    return {} if start == "glorot" else {"kernel_initializer": INITIALIZERS[start][0]}


_KERNELS: tuple[Start, ...] = ("glorot", "he", "zeros")
_PADDINGS = frozenset({"same", "valid"})

LAYERS: Mapping[str, Callable[[Fields, Shape], Layer]] = {
    "Dense": _dense,
    "Conv2D": _conv2d,
    "MaxPooling2D": _pooling2d("MaxPooling2D"),
    "AveragePooling2D": _pooling2d("AveragePooling2D"),
    "GlobalAveragePooling2D": _global_pooling2d("GlobalAveragePooling2D"),
    "GlobalMaxPooling2D": _global_pooling2d("GlobalMaxPooling2D"),
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Dropout": _dropout,
    "Activation": _activation,
    "ReLU": _relu,
    "Softmax": _softmax,
    "LayerNormalization": _layer_normalization,
    "GroupNormalization": _group_normalization,
    "Embedding": embedding,
    "LSTM": lstm,
}
"""Layer class → check of its configuration for an input of one sample's shape; `InputLayer` comes before them
all."""

MERGES: Mapping[str, Callable[[Fields, Sequence[Shape]], Layer]] = {
    "Add": _add,
    "Concatenate": _concatenate,
}
"""The same for layers with several inputs."""
