"""The list of attacks that the modules of this package fill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.net.hostile.arena import Attack


@dataclass(frozen=True)
class Case:
    """One kind of hostile peer.

    Attributes:
        attack: what it does, and what it expects of the victim.
        waits: whether it waits for a time limit of the victim; such attacks run together.
        stock: why the library's own stack does not survive it; empty where it does.
    """

    attack: Attack
    waits: bool
    stock: str


CASES: dict[str, Case] = {}


def hostile(waits: bool = False, stock: str = "") -> Callable[[Attack], Attack]:
    """Enter an attack into the list, under the name of its function."""

    def enter(attack: Attack) -> Attack:
        name = attack.__name__.strip("_")  # type: ignore[attr-defined]
        assert name not in CASES
        CASES[name] = Case(attack, waits, stock)
        return attack

    return enter
