"""What a layer's check works with: shapes, weights, and a configuration that is read key by key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from p2pml.formats import SpecError

Shape = tuple[int, ...]

ACTIVATIONS = frozenset(
    {"linear", "relu", "tanh", "sigmoid", "softmax", "elu", "selu", "gelu", "softplus", "softsign", "swish"}
)
MAX_DIMENSION = 1 << 24
"""No dimension, unit count or filter count may be larger."""


Start = Literal["glorot", "he", "uniform", "orthogonal", "zeros", "ones", "forget"]
"""How an array starts, see `p2pml.formats.initial`; `forget` is an LSTM's bias: zeros, and ones at the forget
gates."""

INITIALIZERS: Mapping[Start, tuple[str, Mapping[str, Any]]] = {
    "glorot": ("GlorotUniform", {"seed": None}),
    "he": ("HeUniform", {"seed": None}),
    "uniform": ("RandomUniform", {"minval": -0.05, "maxval": 0.05, "seed": None}),
    "orthogonal": ("Orthogonal", {"gain": 1.0, "seed": None}),
    "zeros": ("Zeros", {}),
    "ones": ("Ones", {}),
}
"""Start → its class in `keras.initializers` and the settings that it must have there."""


@dataclass(frozen=True, slots=True)
class Weight:
    """One trainable array: its shape and how it starts; the fans matter to `glorot` and `he` only."""

    shape: Shape
    start: Start
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
        inner: values a sample that training keeps for the backward pass beside the output, about.
    """

    kind: str
    options: Mapping[str, Any]
    output: Shape
    weights: tuple[Weight, ...] = ()
    flops: int = 0
    inner: int = 0


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

    def starts(self, prefix: str, *accepted: Start) -> Start:
        """How an array starts: by the initializer that is named, if it is accepted, or the first of those;
        nothing may constrain the array."""
        for key in (f"{prefix}_regularizer", f"{prefix}_constraint"):
            self.fixed(key, None)
        value = self._left.pop(f"{prefix}_initializer", None)
        if value is None:
            return accepted[0]
        name = value.get("class_name") if isinstance(value, dict) else value
        plain = name.replace("_", "").lower() if isinstance(name, str) else ""
        for start in accepted:
            known, settings = INITIALIZERS[start]
            if plain == known.lower():
                if isinstance(value, dict):
                    self._plain_initializer(prefix, value, settings)
                return start
        names = " or ".join(INITIALIZERS[start][0] for start in accepted)
        raise self.fail(f"{prefix}_initializer = {str(value)[:80]!r} is not accepted, only {names}")

    def _plain_initializer(self, prefix: str, value: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        config = value.get("config")
        envelope = {
            "class_name": value["class_name"],
            "config": config,
            "module": "keras.initializers",
            "registered_name": None,
        }
        if {**envelope, **value} != envelope or config not in ({}, {"seed": None}, settings):
            raise self.fail(f"{prefix}_initializer has settings that are not accepted")

    def _whole(self, key: str, value: Any, low: int) -> int:
        if type(value) is not int or not low <= value <= MAX_DIMENSION:
            raise self.fail(
                f"{key} = {str(value)[:80]!r} is not a whole number from {low} to {MAX_DIMENSION}"
            )
        return value
