"""The kinds of values in a job spec: choices, durations, amounts; each says in words what it refuses."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from p2pml.formats import SpecError
from p2pml.formats.optimizers import Optimizer
from p2pml.training.dataset import FORMATS, Reading

TOKEN = 10**8
"""Base units per token."""


def choice(works: Iterable[str], later: Iterable[str] = ()) -> BeforeValidator:
    """Accept one of `works`; tell a value of `later` apart from one that means nothing."""
    good, future = tuple(works), tuple(later)

    def check(value: object) -> object:
        if value in good:
            return value
        listed = ", ".join(good)
        if value in future:
            raise PydanticCustomError(
                "later", "{value} is not supported by this version; it supports: {listed}",
                {"value": repr(value), "listed": listed},
            )  # fmt: skip
        near = difflib.get_close_matches(str(value), good, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {listed}"
        raise PydanticCustomError(
            "choice", "{value} is unknown; {hint}", {"value": repr(value), "hint": hint}
        )

    return BeforeValidator(check)


def refusal(kind: Literal["model", "optimizer", "train", "aggregate"], text: str) -> PydanticCustomError:
    return PydanticCustomError(kind, "{text}", {"text": text})


def checked(optimizer: Optimizer, known: Mapping[str, frozenset[str]]) -> None:
    try:
        optimizer.check(known)
    except SpecError as error:
        raise refusal("optimizer", str(error)) from error


def not_bool(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticCustomError("number", "must be a number, not true or false")
    return value


def seconds(value: object) -> object:
    """`30s`, `2m`, `1h` or a plain number of seconds."""
    if isinstance(value, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)?", value.strip())):
        return float(match[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, None: 1}[match[2]]
    if isinstance(value, str):
        raise PydanticCustomError(
            "duration", "{value} is not a duration; write 30s, 2m or 1h", {"value": repr(value)}
        )
    return not_bool(value)


def tokens(value: object) -> object:
    """An amount of tokens with at most 8 decimals, as whole base units."""
    try:
        amount = Decimal(str(not_bool(value))) * TOKEN
    except InvalidOperation as error:
        raise PydanticCustomError("amount", "{value} is not an amount", {"value": repr(value)}) from error
    if not amount.is_finite() or amount != amount.to_integral_value():
        raise PydanticCustomError("amount", "{value} has more than 8 decimals", {"value": repr(value)})
    return int(amount)


Whole = Annotated[int, Field(strict=True)]
Real = Annotated[float, BeforeValidator(not_bool), Field(allow_inf_nan=False)]
Seconds = Annotated[float, BeforeValidator(seconds), Field(ge=1, le=86_400, allow_inf_nan=False)]


class Part(BaseModel):
    """A mapping of a spec: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Readable(Part):
    """How data is read, see `Reading`."""

    format: Annotated[str, choice(("auto", *FORMATS))] = "auto"
    member: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    label: Annotated[str, Field(min_length=1, max_length=1024)] | Whole | None = None
    sample: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    shape: (
        Annotated[list[Annotated[Whole, Field(ge=1, le=2**24)]], Field(min_length=1, max_length=6)] | None
    ) = None
    scale: Annotated[Real, Field(gt=0)] | None = None

    def reading(self) -> Reading:
        """How the data is read."""
        shape = None if self.shape is None else tuple(self.shape)
        return Reading(self.format, self.member, self.label, self.sample, shape, self.scale)
