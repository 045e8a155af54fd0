"""The Keras layers that a job's model may use: for each, the configuration keys it may have, its shapes,
weights and cost.

A layer is rebuilt from the values checked here, so a key that this file does not know never reaches Keras.
Batch normalisation is left out: its moving statistics are no part of a federated mean of trainable weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from p2pml.formats import SpecError

Shape = tuple[int, ...]

ACTIVATIONS = frozenset(
    {"linear", "relu", "tanh", "sigmoid", "softmax", "elu", "selu", "gelu", "softplus", "softsign", "swish"}
)
MAX_DIMENSION = 1 << 24
"""No dimension, unit count or filter count may be larger."""


@dataclass(frozen=True, slots=True)
class Weight:
    """One trainable array: its shape and how it starts; the fans matter to Glorot's uniform distribution
    only."""

    shape: Shape
    start: Literal["glorot", "zeros", "ones"]
    fan_in: int = 1
    fan_out: int = 1


@dataclass(frozen=True, slots=True)
class Layer:
    """One checked layer.

    Args:
        kind: the name of its class in `keras.layers`.
        options: its constructor's arguments.
        output: the shape of one sample that leaves it.
        weights: its trainable arrays in Keras' order.
        flops: multiplications and additions of one sample's forward pass, about.
    """

    kind: str
    options: Mapping[str, Any]
    output: Shape
    weights: tuple[Weight, ...] = ()
    flops: int = 0


class Fields:
    """A layer's configuration, read key by key; what nobody read is an error at the end."""

    def __init__(self, where: str, config: Mapping[str, Any]) -> None:
        self.where = where
        self._left = dict(config)

    def fail(self, text: str) -> SpecError:
        return SpecError(f"{self.where}: {text}")

    def end(self) -> None:
        if self._left:
            raise self.fail(f"key {sorted(self._left)[0]!r} is not accepted")

    def raw(self, key: str, default: Any = None) -> Any:
        return self._left.pop(key, default)

    def fixed(self, key: str, *accepted: Any) -> None:
        """The key, when present, must have one of these values (compared with their types)."""
        if key not in self._left:
            return
        value = self._left.pop(key)
        if not any(type(value) is type(ok) and value == ok for ok in accepted):
            raise self.fail(f"{key} = {str(value)[:80]!r} is not accepted, only {accepted[0]!r}")

    def number(self, key: str, low: float, high: float, default: float | None = None) -> float:
        value = self._left.pop(key, default)
        if type(value) not in (int, float) or not low <= value <= high:
            raise self.fail(f"{key} = {str(value)[:80]!r} is not a number from {low} to {high}")
        return float(value)

    def integer(self, key: str, low: int = 1, default: int | None = None) -> int:
        return self._whole(key, self._left.pop(key, default), low)

    def boolean(self, key: str, default: bool) -> bool:
        value = self._left.pop(key, default)
        if type(value) is not bool:
            raise self.fail(f"{key} = {str(value)[:80]!r} is not true or false")
        return value

    def choice(self, key: str, accepted: frozenset[str], default: str) -> str:
        value = self._left.pop(key, default)
        if not isinstance(value, str) or value not in accepted:
            raise self.fail(f"{key} = {str(value)[:80]!r} is not one of {', '.join(sorted(accepted))}")
        return value

    def activation(self) -> str:
        if self._left.get("activation", "") is None:
            self._left.pop("activation")
        return self.choice("activation", ACTIVATIONS, "linear")

    def pair(self, key: str, default: Any) -> tuple[int, int]:
        value = self._left.pop(key, default)
        items = value if isinstance(value, list | tuple) else [value, value]
        if len(items) != 2:
            raise self.fail(f"{key} = {str(value)[:80]!r} is not two whole numbers")
        return self._whole(key, items[0], 1), self._whole(key, items[1], 1)

    def dimensions(self, key: str, low: int = 1) -> Shape:
        value = self._left.pop(key, None)
        if not isinstance(value, list | tuple) or not 1 <= len(value) <= 6:
            raise self.fail(f"{key} = {str(value)[:80]!r} is not a list of 1 to 6 whole numbers")
        return tuple(self._whole(key, n, low) for n in value)

    def starts(self, prefix: str, accepted: str) -> None:
        """An initializer, when named, must be the one this project starts that array with, and nothing may
        constrain it."""
        for key in (f"{prefix}_regularizer", f"{prefix}_constraint"):
            self.fixed(key, None)
        value = self._left.pop(f"{prefix}_initializer", None)
        if value is None:
            return
        name = value.get("class_name") if isinstance(value, dict) else value
        plain = isinstance(name, str) and name.replace("_", "").lower() == accepted.lower()
        if not plain:
            raise self.fail(f"{prefix}_initializer = {str(value)[:80]!r} is not accepted, only {accepted}")
        if isinstance(value, dict):
            envelope = {
                "class_name": name,
                "config": value.get("config"),
                "module": "keras.initializers",
                "registered_name": None,
            }
            if {**envelope, **value} != envelope or value.get("config") not in ({}, {"seed": None}):
                raise self.fail(f"{prefix}_initializer has settings that are not accepted")

    def _whole(self, key: str, value: Any, low: int) -> int:
        if type(value) is not int or not low <= value <= MAX_DIMENSION:
            raise self.fail(
                f"{key} = {str(value)[:80]!r} is not a whole number from {low} to {MAX_DIMENSION}"
            )
        return value


def _dense(fields: Fields, shape: Shape) -> Layer:
    units = fields.integer("units")
    activation, bias = fields.activation(), fields.boolean("use_bias", True)
    fields.starts("kernel", "GlorotUniform")
    fields.starts("bias", "Zeros")
    kernel = Weight((shape[-1], units), "glorot", shape[-1], units)
    weights = (kernel, Weight((units,), "zeros")) if bias else (kernel,)
    return Layer(
        "Dense",
        {"units": units, "activation": activation, "use_bias": bias},
        (*shape[:-1], units),
        weights,
        2 * math.prod(shape) * units,
    )


def _conv2d(fields: Fields, shape: Shape) -> Layer:
    filters, kernel = fields.integer("filters"), fields.pair("kernel_size", None)
    strides, padding = fields.pair("strides", 1), fields.choice("padding", _PADDINGS, "valid")
    activation, bias = fields.activation(), fields.boolean("use_bias", True)
    fields.starts("kernel", "GlorotUniform")
    fields.starts("bias", "Zeros")
    fields.fixed("data_format", "channels_last", None)
    fields.fixed("groups", 1)
    fields.fixed("dilation_rate", [1, 1], 1)
    rows, columns = _window(fields, shape, kernel, strides, padding)
    field = kernel[0] * kernel[1]
    weight = Weight((*kernel, shape[2], filters), "glorot", field * shape[2], field * filters)
    return Layer(
        "Conv2D",
        {
            "filters": filters,
            "kernel_size": list(kernel),
            "strides": list(strides),
            "padding": padding,
            "activation": activation,
            "use_bias": bias,
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


def _layer_normalization(fields: Fields, shape: Shape) -> Layer:
    fields.fixed("axis", -1, [len(shape)], [-1])
    fields.fixed("center", True)
    fields.fixed("scale", True)
    fields.starts("beta", "Zeros")
    fields.starts("gamma", "Ones")
    epsilon = fields.number("epsilon", 1e-8, 1.0, 1e-3)
    weights = (Weight(shape[-1:], "ones"), Weight(shape[-1:], "zeros"))
    return Layer("LayerNormalization", {"epsilon": epsilon}, shape, weights, 8 * math.prod(shape))


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
    "LayerNormalization": _layer_normalization,
}
"""Layer class → check of its configuration for an input of one sample's shape; `InputLayer` comes before them
all."""
