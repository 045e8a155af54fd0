"""The founding document of a chain: its name, start, rules, first validators and first balances."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from chain import address, vrf
from chain.codec import MAX_INT, pack, text
from chain.crypto import PUBLIC_BYTES, H
from chain.errors import DecodeError, GenesisError, ParamsError
from chain.params import ChainParams

FORMAT = 1
MAX_RATING = 2**32 - 1
MAX_VALIDATORS = 4096
MAX_SUPPLY = 2**63
"""Balances stay far below the 64-bit limit of an amount, whatever is issued later."""


@dataclass(frozen=True, slots=True)
class Founder:
    """A validator of the first hour.

    Args:
        public: 32-byte Ed25519 key that seals blocks and receives the rewards.
        vrf_public: 32-byte VRF key.
        rating: computational-power rating, 1..2^32-1.
        name: what people call it, up to 64 bytes.
        rated_until: in finalized epochs; the rating counts as long as fewer have passed. 0: it has no end.
    """

    public: bytes
    vrf_public: bytes
    rating: int
    name: str = ""
    rated_until: int = 0


@dataclass(frozen=True)
class Genesis:
    """Immutable and checked on construction: raises GenesisError.

    Args:
        chain_name: 1..64 bytes.
        time_ms: Unix time of slot 0 in milliseconds.
        params: the rules.
        validators: at least one; kept sorted by public key.
        allocations: (account, base units), one per account; kept sorted by account.
    """

    chain_name: str
    time_ms: int
    params: ChainParams
    validators: tuple[Founder, ...]
    allocations: tuple[tuple[bytes, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.chain_name:
            raise GenesisError("chain_name must not be empty")
        _check_text(self.chain_name, "chain_name")
        if not 0 <= self.time_ms < 2**53:
            raise GenesisError("time_ms must be a Unix time in milliseconds")
        if not 1 <= len(self.validators) <= MAX_VALIDATORS:
            raise GenesisError(f"there must be 1 to {MAX_VALIDATORS} validators")
        for founder in self.validators:
            _check_founder(founder)
        for key in ("public", "vrf_public"):
            if len({getattr(founder, key) for founder in self.validators}) < len(self.validators):
                raise GenesisError(f"two validators share one {key} key")
        if sum(founder.rating for founder in self.validators) < 2:
            raise GenesisError("the ratings must add up to at least 2, or the target does not fit 256 bits")
        for account, amount in self.allocations:
            if len(account) != PUBLIC_BYTES:
                raise GenesisError("an allocation's account must have 32 bytes")
            if not 0 < amount <= MAX_SUPPLY:
                raise GenesisError(f"the allocation of {address.encode(account)} must be 1..{MAX_SUPPLY}")
        if len({account for account, _ in self.allocations}) < len(self.allocations):
            raise GenesisError("an account has two allocations")
        if self.supply > MAX_SUPPLY:
            raise GenesisError(f"the allocations must add up to at most {MAX_SUPPLY}")
        if self.params.selection == "richest" and sum(self.balance(f.public) for f in self.validators) < 2:
            raise GenesisError("where the richest are selected the validators need allocations")
        ordered = tuple(sorted(self.validators, key=lambda founder: founder.public))
        object.__setattr__(self, "validators", ordered)
        object.__setattr__(self, "allocations", tuple(sorted(self.allocations)))

    @property
    def supply(self) -> int:
        """Base units that exist at the start."""
        return sum(amount for _, amount in self.allocations)

    def balance(self, public: bytes) -> int:
        """Base units that an account has at the start."""
        return self._allocated.get(public, 0)

    @cached_property
    def _allocated(self) -> dict[bytes, int]:
        return dict(self.allocations)

    @cached_property
    def chain_id(self) -> bytes:
        """32-byte hash of everything above; also the id of the genesis block (height 0, slot 0)."""
        founders = tuple((f.public, f.vrf_public, f.rating, f.name, f.rated_until) for f in self.validators)
        document = (FORMAT, self.chain_name, self.time_ms, self.params.to_item(), founders, self.allocations)
        return H("genesis", pack(document))

    def slot_at(self, now_ms: int) -> int:
        """The slot that is running at `now_ms`; negative before the start."""
        return (now_ms - self.time_ms) // self.params.slot_ms

    def slot_start_ms(self, slot: int) -> int:
        """Unix time in ms at which a slot begins: the timestamp of its block."""
        return self.time_ms + slot * self.params.slot_ms

    def to_json(self) -> str:
        """The genesis file: accounts as addresses, VRF keys in hex, amounts in base units."""
        document = {
            "format": FORMAT,
            "chain_name": self.chain_name,
            "time_ms": self.time_ms,
            "params": asdict(self.params),
            "validators": [
                {
                    "name": f.name,
                    "account": address.encode(f.public),
                    "vrf_public": f.vrf_public.hex(),
                    "rating": f.rating,
                    "rated_until": f.rated_until,
                }
                for f in self.validators
            ],
            "allocations": [
                {"account": address.encode(account), "amount": amount} for account, amount in self.allocations
            ],
        }
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, source: str | bytes) -> Genesis:
        """Read a genesis file. Raises GenesisError naming the field."""
        try:
            document = json.loads(source)
        except (ValueError, RecursionError) as error:
            raise GenesisError(f"not JSON: {error}") from None
        top = _Fields(document, "genesis")
        if top.number("format") != FORMAT:
            raise GenesisError(f"format must be {FORMAT}: this file was made by another version")
        genesis = cls(
            chain_name=top.text("chain_name"),
            time_ms=top.number("time_ms"),
            params=_params(top.object("params")),
            validators=tuple(_founder(entry) for entry in top.list("validators")),
            allocations=tuple(
                (entry.account("account"), entry.number("amount")) for entry in top.list("allocations")
            ),
        )
        top.nothing_else("format", "chain_name", "time_ms", "params", "validators", "allocations")
        return genesis


def _check_founder(founder: Founder) -> None:
    who = founder.name or "a validator"
    if len(founder.public) != PUBLIC_BYTES:
        raise GenesisError(f"{who}: public must have 32 bytes")
    if not vrf.valid_key(founder.vrf_public):
        raise GenesisError(f"{who}: vrf_public is not a VRF key")
    if type(founder.rating) is not int or not 1 <= founder.rating <= MAX_RATING:
        raise GenesisError(f"{who}: rating must be 1..{MAX_RATING}")
    if type(founder.rated_until) is not int or not 0 <= founder.rated_until < 2**53:
        raise GenesisError(f"{who}: rated_until must be a number of epochs, or 0 for without an end")
    _check_text(founder.name, f"{who!r}: name")


def _check_text(value: str, what: str) -> None:
    try:
        text(value, 64, what)
    except (DecodeError, UnicodeEncodeError) as error:
        raise GenesisError(str(error)) from None


def _founder(entry: _Fields) -> Founder:
    try:
        vrf_public = bytes.fromhex(entry.text("vrf_public"))
    except ValueError:
        raise GenesisError(f"{entry.where}.vrf_public must be hexadecimal") from None
    founder = Founder(
        entry.account("account"), vrf_public, entry.number("rating"), entry.text("name"),
        entry.number("rated_until"),
    )  # fmt: skip
    entry.nothing_else("name", "account", "vrf_public", "rating", "rated_until")
    return founder


def _params(entry: _Fields) -> ChainParams:
    names = [field.name for field in fields(ChainParams)]
    values = {name: entry.value(name) for name in names}
    entry.nothing_else(*names)
    try:
        return ChainParams(**values)
    except ParamsError as error:
        raise GenesisError(f"params: {error}") from None


class _Fields:
    """Typed access to one JSON object; every error names the path of the field."""

    def __init__(self, document: object, where: str) -> None:
        if not isinstance(document, Mapping):
            raise GenesisError(f"{where} must be an object")
        self._document: Mapping[str, Any] = document
        self.where = where

    def value(self, name: str) -> Any:
        if name not in self._document:
            raise GenesisError(f"{self.where}.{name} is missing")
        return self._document[name]

    def number(self, name: str) -> int:
        value = self.value(name)
        if type(value) is not int or not 0 <= value <= MAX_INT:
            raise GenesisError(f"{self.where}.{name} must be a whole number, not {value!r}")
        return value

    def text(self, name: str) -> str:
        value = self.value(name)
        if not isinstance(value, str):
            raise GenesisError(f"{self.where}.{name} must be text, not {value!r}")
        return value

    def account(self, name: str) -> bytes:
        try:
            return address.decode(self.text(name))
        except ValueError as error:
            raise GenesisError(f"{self.where}.{name}: {error}") from None

    def object(self, name: str) -> _Fields:
        return _Fields(self.value(name), f"{self.where}.{name}")

    def list(self, name: str) -> tuple[_Fields, ...]:
        value = self.value(name)
        if not isinstance(value, list):
            raise GenesisError(f"{self.where}.{name} must be a list")
        return tuple(_Fields(entry, f"{self.where}.{name}[{i}]") for i, entry in enumerate(value))

    def nothing_else(self, *names: str) -> None:
        unknown = sorted(set(self._document) - set(names))
        if unknown:
            raise GenesisError(f"{self.where}.{unknown[0]} is not a known field")
