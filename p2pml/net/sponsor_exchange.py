"""How a newcomer asks a member of the network to register it as a validator, and pay for it.

`/p2pml/sponsor/1.0.0`: `[1, chain id, secret, registration]`, answered by `[1, outcome, transaction id,
height]`. The registration is a REGISTER payload in its canonical encoding, with the newcomer's consent; the
secret came with an invite. The same question again tells how far it is, so a lost answer costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from chain.codec import pack, unpack
from chain.errors import InvalidError
from chain.transactions import Register
from p2pml.net.errors import Malformed

PROTOCOL = "/p2pml/sponsor/1.0.0"
VERSION = 1
SECRET_BYTES = 16
ID_BYTES = 32
MAX_REGISTRATION = 512
MAX_BYTES = 1024
"""Of a question, and of an answer."""


class Outcome(StrEnum):
    """What came of the question."""

    TAKEN = "taken"
    """The sponsor signed: it waits for a block, or is in the one of `height`."""
    EXPIRED = "expired"
    USED_UP = "used up"
    UNKNOWN = "unknown"
    """Not a secret of this sponsor."""
    OTHER_NETWORK = "other network"
    NO_MEANS = "no means"
    """The sponsor's account has less than bond and fee."""
    OTHER_TERMS = "other terms"
    """The registration is not what was promised, or the account did not agree to it."""
    REGISTERED = "registered"
    """The account is a validator already."""
    BARRED = "barred"
    BUSY = "busy"


@dataclass(frozen=True, slots=True)
class Question:
    """A newcomer's wish.

    Args:
        chain_id: 32 bytes.
        secret: of the invite, 16 bytes.
        registration: with the consent to this sponsor.
    """

    chain_id: bytes
    secret: bytes
    registration: Register

    def to_message(self) -> list[Any]:
        return [VERSION, self.chain_id, self.secret, pack(self.registration.to_item())]

    @classmethod
    def from_message(cls, message: Any) -> Question:
        """Raises Malformed."""
        match message:
            case [1, bytes(chain_id), bytes(secret), bytes(registration)] if (
                len(chain_id) == ID_BYTES and len(secret) == SECRET_BYTES
            ):
                pass
            case _:
                raise Malformed("not a newcomer's question")
        try:
            return cls(chain_id, secret, Register.from_item(unpack(registration, MAX_REGISTRATION)))
        except InvalidError as error:
            raise Malformed(f"not a registration: {error}") from error


@dataclass(frozen=True, slots=True)
class Answer:
    """A sponsor's answer.

    Args:
        outcome: see `Outcome`.
        tx_id: 32 bytes of the registering transaction; empty unless taken.
        height: of the block that has it; 0 while none has.
    """

    outcome: Outcome
    tx_id: bytes = b""
    height: int = 0

    def to_message(self) -> list[Any]:
        return [VERSION, str(self.outcome), self.tx_id, self.height]

    @classmethod
    def from_message(cls, message: Any) -> Answer:
        """Raises Malformed."""
        match message:
            case [1, str(outcome), bytes(tx_id), int(height)] if 0 <= height < 2**53 and outcome in _OUTCOMES:
                found = cls(Outcome(outcome), tx_id, height)
            case _:
                raise Malformed("not a sponsor's answer")
        if len(tx_id) != (ID_BYTES if found.outcome is Outcome.TAKEN else 0):
            raise Malformed("the answer names no transaction, or one too many")
        return found


_OUTCOMES = frozenset(str(outcome) for outcome in Outcome)
