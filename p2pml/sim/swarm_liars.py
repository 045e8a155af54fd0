"""How a simulated peer of a swarm misbehaves: what it changes about an honest machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A strategy; the default is honest.

    Args:
        poisons: every block that it sends is false.
        answers: whether it sends the blocks that it is asked for; it unchokes all the same.
        babbles: it sends random bytes in place of the protocol, again after each disconnect.
        shares: whether it ever unchokes anybody.
    """

    poisons: bool = False
    answers: bool = True
    babbles: bool = False
    shares: bool = True

    def block(self, data: bytes) -> bytes:
        """What it sends for a block."""
        return bytes([data[0] ^ 0xFF]) + data[1:] if self.poisons else data


HONEST = Behaviour()
POISONER = Behaviour(poisons=True)
MUTE = Behaviour(answers=False)
BABBLER = Behaviour(babbles=True)
FREE_RIDER = Behaviour(shares=False)

BEHAVIOURS = {"poisoner": POISONER, "mute": MUTE, "babbler": BABBLER, "free-rider": FREE_RIDER}
"""Strategies by the name that the command line uses."""
