"""An invitation to a network as one text that can be pasted: `p2pml:` and base32.

Inside: a version byte, a deflated msgpack array `[name, chain id, addresses, genesis, sponsor]`, and the
first four bytes of the SHA-256 of what is before them. The genesis is left out (empty) where the text would
be too long for a chat message; then it is fetched from the inviter. Either way it has to have the chain id.
The sponsor is empty, or `[account, secret, bond, expiry]`: then the inviter pays for the registration.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from chain.errors import ChainError
from chain.genesis import Genesis
from p2pml.errors import ExitCode, UserError
from p2pml.net.sponsor_exchange import ID_BYTES, SECRET_BYTES

PREFIX = "p2pml:"
VERSION = 2
MAX_TEXT = 2000
"""Characters of an invite with the genesis in it; longer ones leave it out."""
MAX_INFLATED = 64 * 1024
MAX_ADDRESSES = 8
_CHECKSUM_BYTES = 4
_COPY_AGAIN = "copy it again, whole, from `p2pml invite`"


@dataclass(frozen=True, slots=True)
class SponsorTerms:
    """What a sponsoring invite promises.

    Args:
        account: of the inviter, who pays; 32 bytes.
        secret: 16 bytes; whoever has it may use the invite.
        bond: base units for each newcomer.
        expires_ms: Unix time after which nobody new may use it.
    """

    account: bytes
    secret: bytes
    bond: int
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Invite:
    """What an invite says.

    Args:
        network: the network's name, for people.
        chain_id: hash of its genesis, 32 bytes.
        addresses: of members, to bootstrap from; at most eight.
        genesis: the genesis file's bytes; empty when it has to be fetched.
        sponsor: what the inviter pays for; None for nothing.
    """

    network: str
    chain_id: bytes
    addresses: tuple[str, ...]
    genesis: bytes = b""
    sponsor: SponsorTerms | None = None

    def encode(self) -> str:
        """The text; without the genesis where it would be longer than `MAX_TEXT`."""
        text = self._encode(self.genesis)
        return text if len(text) <= MAX_TEXT else self._encode(b"")

    def _encode(self, genesis: bytes) -> str:
        import msgpack  # type: ignore[import-untyped]

        terms = [] if self.sponsor is None else list(astuple(self.sponsor))
        fields = [self.network, self.chain_id, list(self.addresses[:MAX_ADDRESSES]), genesis, terms]
        body = bytes([VERSION]) + zlib.compress(msgpack.packb(fields, use_bin_type=True), 9)
        packed = base64.b32encode(body + _checksum(body)).decode("ascii")
        return PREFIX + packed.rstrip("=").lower()

    @classmethod
    def decode(cls, text: str) -> Invite:
        """Read an invite; line breaks and spaces that a chat program put in do not matter.

        Raises:
            UserError: not an invite, a damaged one, or one of a newer version.
        """
        text = "".join(text.split())
        if not text.lower().startswith(PREFIX):
            raise _bad(f"{text[:20]!r} is not an invite: it does not begin with {PREFIX}", _COPY_AGAIN)
        letters = text[len(PREFIX) :].upper()
        try:
            packed = base64.b32decode(letters + "=" * (-len(letters) % 8))
        except ValueError as error:
            raise _bad("the invite has characters that invites do not have", _COPY_AGAIN) from error
        body, checksum = packed[:-_CHECKSUM_BYTES], packed[-_CHECKSUM_BYTES:]
        if not body or _checksum(body) != checksum:
            raise _bad("the invite is damaged: its checksum is wrong", _COPY_AGAIN)
        if body[0] != VERSION:
            raise _bad(f"the invite has version {body[0]}, this p2pml reads {VERSION}", "update p2pml")
        return cls._from_fields(_inflate(body[1:]))

    @classmethod
    def _from_fields(cls, fields: object) -> Invite:
        match fields:
            case [str(network), bytes(chain_id), list(addresses), bytes(genesis), list(terms)]:
                pass
            case _:
                raise _bad("the invite does not hold what an invite holds", _COPY_AGAIN)
        if len(chain_id) != 32 or not network.isprintable() or len(addresses) > MAX_ADDRESSES:
            raise _bad("the invite does not hold what an invite holds", _COPY_AGAIN)
        for address in addresses:
            if not isinstance(address, str) or not address.isprintable() or "/p2p/" not in address:
                raise _bad(f"the invite has an address that is none: {address!r}", _COPY_AGAIN)
        return cls(network, chain_id, tuple(addresses), genesis, _sponsor(terms) if terms else None)


def _sponsor(terms: list[object]) -> SponsorTerms:
    match terms:
        case [bytes(account), bytes(secret), int(bond), int(expires_ms)] if (
            len(account) == ID_BYTES
            and len(secret) == SECRET_BYTES
            and 0 <= bond < 2**63
            and 0 <= expires_ms < 2**53
        ):
            return SponsorTerms(account, secret, bond, expires_ms)
    raise _bad("the invite does not hold what an invite holds", _COPY_AGAIN)


def check_genesis(content: bytes, chain_id: bytes) -> Genesis:
    """The genesis in a file's bytes, if it is the one that was promised.

    Raises:
        UserError: it is none, or another network's.
    """
    try:
        genesis = Genesis.from_json(content)
    except ChainError as error:
        raise _bad(f"the invite's genesis is none: {error}", "ask for a new invite") from error
    if genesis.chain_id != chain_id:
        raise _bad(
            f"the genesis is another network's: {genesis.chain_id.hex()}, promised was {chain_id.hex()}",
            "ask somebody else of the network for an invite",
        )
    return genesis


def worth_telling(addresses: Sequence[str]) -> tuple[str, ...]:
    """The addresses that lead to this machine from others; all, when there is only loopback."""
    outside = [item for item in addresses if not item.startswith(("/ip4/127.", "/ip6/::1/"))]
    return tuple(outside or addresses)[:MAX_ADDRESSES]


def _inflate(data: bytes) -> object:
    import msgpack

    try:
        inflate = zlib.decompressobj()
        content = inflate.decompress(data, MAX_INFLATED)
        if not inflate.eof:
            raise ValueError("too large")
        return msgpack.unpackb(content, raw=False)
    except (zlib.error, ValueError, msgpack.exceptions.UnpackException) as error:
        raise _bad(f"the invite cannot be read: {error}", _COPY_AGAIN) from error


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:_CHECKSUM_BYTES]


def _bad(cause: str, fix: str) -> UserError:
    return UserError(cause, fix, ExitCode.USAGE)
