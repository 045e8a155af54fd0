"""Transactions of the node's own account: one at a time through the nonce, resent until a block has them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from chain.crypto import Keypair
from chain.errors import InvalidTransaction
from chain.transactions import JobOpen, Payload, Tx, sign_tx
from p2pml.errors import ExitCode, UserError
from p2pml.node.ports import ChainPort

VALID_SLOTS = 128
WAIT_S = 5.0
LATE_SLOTS = 2
"""How long after its slot a block may still come in."""


class TxSender:
    """Signs and submits transactions of one account.

    Args:
        chain: where they go.
        keys: of the account.
    """

    def __init__(self, chain: ChainPort, keys: Keypair) -> None:
        self._chain = chain
        self._keys = keys
        self._turn = trio.Lock()

    @property
    def account(self) -> bytes:
        """32 bytes."""
        return self._keys.public

    def sign(self, payload: Payload) -> Tx:
        """A transaction with the account's next nonce; not sent yet."""
        return sign_tx(
            self._keys,
            self._chain.genesis.chain_id,
            payload,
            nonce=self._chain.next_nonce(self._keys.public),
            valid_until_slot=self._chain.slot_now() + VALID_SLOTS,
            fee=self._chain.genesis.params.min_fee,
        )

    async def submit(self, payload: Payload, keep: Callable[[Tx], Awaitable[None]] | None = None) -> bytes:
        """Sign and submit; returns the transaction's id without waiting for a block.

        Args:
            keep: called with the signed transaction before it leaves; what it raises stops it.

        Raises:
            UserError: the chain does not take it, e.g. for lack of money.
        """
        async with self._turn:
            tx = self.sign(payload)
            if keep is not None:
                await keep(tx)
            return await self._send(tx)

    async def resubmit(self, tx: Tx) -> None:
        """Submit a transaction that was signed before.

        Raises:
            UserError: the chain does not take it (any more).
        """
        async with self._turn:
            await self._send(tx)

    async def settle(self, payload: Payload) -> bytes:
        """Submit and wait until a block has it, signing anew when it expired on the way; returns its id.

        Raises:
            UserError: the chain does not take it.
        """
        while True:
            tx_id = await self.submit(payload)
            if await self.included(tx_id, self._chain.slot_now() + VALID_SLOTS):
                return tx_id

    async def included(self, tx_id: bytes, last_slot: int) -> bool:
        """Wait until a block has the transaction, True, or until none can any more, False."""
        while self._chain.slot_now() <= last_slot + LATE_SLOTS:
            try:
                await self._chain.wait_tx(tx_id, WAIT_S)
            except trio.TooSlowError:
                continue
            return True
        return False

    async def _send(self, tx: Tx) -> bytes:
        try:
            await self._chain.submit_tx(tx)
        except InvalidTransaction as error:
            what, code = "the transaction", ExitCode.FAILURE
            if isinstance(tx.payload, JobOpen):
                what, code = "the job", ExitCode.NO_TOKENS
            raise UserError(
                f"the chain does not take {what}: {error}", "see `p2pml wallet balance`", code
            ) from error
        return tx.id
