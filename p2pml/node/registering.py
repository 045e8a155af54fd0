"""Making this node's account a validator: what the registration says, and who pays for it."""

from __future__ import annotations

from dataclasses import replace

from chain.entries import Validator
from chain.errors import DecodeError
from chain.producer import ProposerKeys
from chain.transactions import Register
from p2pml.errors import ExitCode, UserError
from p2pml.node.chain_reads import ChainReads
from p2pml.node.tx_sender import TxSender

TOKEN = 10**8


class Registrar:
    """Registers one account.

    Args:
        chain: to look at.
        sender: of the account's own transactions.
        keys: the seal key and the VRF key that the account is to be drawn by.
        name: what to call it by default; empty for what it is called already.
    """

    def __init__(self, chain: ChainReads, sender: TxSender, keys: ProposerKeys, name: str) -> None:
        self._chain, self._sender, self._keys, self._name = chain, sender, keys, name

    async def register(self, name: str | None, bond: int | None) -> bytes:
        """Register, the account itself paying; returns the transaction's id.

        Args:
            name: up to 64 bytes.
            bond: base units to add; what the least bond takes by default.

        Raises:
            UserError: barred, too small a bond, nothing to change, not enough to pay.
        """
        return await self._sender.submit(self.wish(name, bond))

    def wish(self, name: str | None, bond: int | None, sponsor: bytes | None = None) -> Register:
        """The registration, with the account's consent when another one (32 bytes) signs and pays.

        Raises:
            UserError: as `register`.
        """
        known = self._chain.state().validator(self._keys.public)
        self._check_bar(known)
        least = self._chain.genesis.params.bond
        held = 0 if known is None else known.bond
        due = 0 if known is not None and known.founder else max(least - held, 0)
        bond = due if bond is None else bond
        if bond < due:
            raise UserError(
                f"a bond of {_tokens(held + bond)} tokens is below the network's least of {_tokens(least)}",
                f"give --bond {_tokens(due)} or more",
                ExitCode.USAGE,
            )
        wish = Register(
            account=self._keys.public,
            vrf_public=self._keys.vrf_public,
            name=self._name_for(name, known),
            bond=bond,
            sequence=1 if known is None else known.sequence + 1,
        )
        if known is not None and not bond and (wish.name, wish.vrf_public) == (known.name, known.vrf_public):
            raise UserError(
                "this node is a validator already, and nothing would change",
                "give another --name, or tokens to add to its --bond",
                ExitCode.USAGE,
            )
        self._check_means(self._keys.public if sponsor is None else sponsor, bond)
        if sponsor is None:
            return checked(wish)
        return agreed(self._keys, self._chain.genesis.chain_id, wish, sponsor)

    def _check_bar(self, known: Validator | None) -> None:
        left = 0 if known is None else known.barred_until - self._chain.state().finality.epochs
        if left > 0:
            raise UserError(
                f"this node's account contradicted itself and is barred for {left} more finalized epochs",
                "wait, or register a node in another --home",
            )

    def _name_for(self, name: str | None, known: Validator | None) -> str:
        if name is not None:
            return name
        return known.name if known is not None and known.name else self._name

    def _check_means(self, payer: bytes, bond: int) -> None:
        fee, has = self._chain.genesis.params.min_fee, self._chain.balance(payer)
        if has < bond + fee:
            raise UserError(
                f"the account has {_tokens(has)} tokens; the bond of {_tokens(bond)} and the fee of"
                f" {_tokens(fee)} are needed",
                "pay from another wallet with --from, or ask a validator for `p2pml invite --sponsor`",
            )


def agreed(keys: ProposerKeys, chain_id: bytes, wish: Register, sponsor: bytes) -> Register:
    """The registration with the account's consent to its sponsor (32 bytes).

    Raises:
        UserError: as `checked`.
    """
    signed = keys.keypair.sign(checked(wish).signing_bytes(chain_id, sponsor))
    return replace(wish, consent=signed)


def checked(wish: Register) -> Register:
    """The same registration.

    Raises:
        UserError: its name is too long or has control characters.
    """
    try:
        return Register.from_item(wish.to_item())
    except DecodeError as error:
        raise UserError(
            f"the registration cannot be made: {error}", "give another --name", ExitCode.USAGE
        ) from error


def _tokens(units: int) -> str:
    whole, rest = divmod(units, TOKEN)
    return f"{whole}.{rest:08d}".rstrip("0").rstrip(".")
