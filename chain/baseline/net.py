"""What is trained, and the bounds within which every way of computing it gives the same integers.

A float32 holds every integer up to 2^24. As long as every sum of every subset of a contraction's products
stays below that, no order of adding rounds anything: number of threads, width of the vectors, fused
multiplication and addition, and the library do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from chain.errors import ParamsError

EXACT = 2**24
"""Integers of float32 are exact below this in absolute value."""
TOP = 127
"""Inputs, activations, weights as they are multiplied, errors: all within -TOP .. TOP."""
MAX_CONTRACTION = (EXACT - 1) // (TOP * TOP)
"""The most products of one sum: 1040."""


@dataclass(frozen=True, slots=True)
class Net:
    """A perceptron with one hidden layer and no biases, and how it is trained.

    Raises:
        ParamsError: a value out of range, or a sum that float32 could not hold exactly.
    """

    pixels: int = 784
    """Values of a raw sample."""
    top: int = 255
    """The largest raw value; the smallest is 0."""
    mix_shift: int = 4
    """Bits by which a mixed input is divided."""
    inputs: int = 784
    """Width after mixing: the same work whatever the data set."""
    hidden: int = 256
    """Width of the hidden layer."""
    classes: int = 10
    """Labels are 0 .. classes - 1."""
    batch: int = 256
    """Samples of a step."""
    fraction: int = 16
    """Fractional bits of the master weights; the learning rate is 2^-fraction."""
    hidden_shift: int = 8
    """Bits by which sums of the hidden layer are divided."""
    logit_shift: int = 10
    """Bits by which sums of the output layer are divided; then 8 units are a factor of 2 in the odds."""
    back_shift: int = 6
    """Bits by which the error that goes back to the hidden layer is divided."""
    hidden_spread: int = 16
    """Initial weights of the hidden layer are uniform in -spread .. spread."""
    output_spread: int = 24
    """The same of the output layer."""
    steps: int = 32
    """Steps of a segment, the unit of work that is counted."""
    segments: int = 8
    """Segments of an episode; each episode begins with fresh weights."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value, (low, high) = getattr(self, field.name), _RANGES[field.name]
            if type(value) is not int or not low <= value <= high:
                raise ParamsError(
                    f"baseline: {field.name} must be an integer in {low}..{high}, not {value!r}"
                )
        for name in ("inputs", "hidden", "classes", "batch"):
            if TOP * TOP * getattr(self, name) >= EXACT:
                raise ParamsError(
                    f"baseline: {name} is {getattr(self, name)}, at most {MAX_CONTRACTION} products of "
                    f"{TOP} x {TOP} have an exact sum in float32"
                )
        self._check("the update of a weight", TOP * TOP * self.batch + (TOP + 1) * 2**self.fraction)
        self._check("an error that goes back", TOP * TOP * self.classes + half(self.back_shift))
        self._check("a mixed input", TOP * self.pixels + half(self.mix_shift))

    @property
    def shapes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """[rows, columns] of the two matrices of weights."""
        return (self.inputs, self.hidden), (self.hidden, self.classes)

    @property
    def state_bytes(self) -> int:
        """Bytes of all master weights as int32."""
        return 4 * self.hidden * (self.inputs + self.classes)

    @property
    def segment_samples(self) -> int:
        """Samples that a segment trains on, repeated ones counted each time."""
        return self.steps * self.batch

    @staticmethod
    def _check(what: str, largest: int) -> None:
        if largest >= EXACT:
            raise ParamsError(
                f"baseline: {what} may reach {largest}, which float32 cannot hold exactly (2^24)"
            )


def half(shift: int) -> int:
    """What is added before a shift, so that it rounds half up."""
    return (1 << shift) >> 1


_SHIFT = (0, 15)
_RANGES: dict[str, tuple[int, int]] = {
    "pixels": (1, 2**20),
    "top": (1, 255),
    "mix_shift": _SHIFT,
    "inputs": (1, 2**20),
    "hidden": (1, 2**20),
    "classes": (2, 2**20),
    "batch": (1, 2**20),
    "fraction": (1, 23),
    "hidden_shift": _SHIFT,
    "logit_shift": _SHIFT,
    "back_shift": _SHIFT,
    "hidden_spread": (1, TOP),
    "output_spread": (1, TOP),
    "steps": (1, 1024),
    "segments": (1, 64),
}

MNIST = Net()
"""28 x 28 pixels of 0..255."""
DIGITS = Net(pixels=64, top=16, mix_shift=3)
"""The bundled digits, 8 x 8 pixels of 0..16."""
