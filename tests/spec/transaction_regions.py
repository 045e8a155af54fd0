"""docs/spec/transactions.md: every type's bytes, a worked id and signature, what is refused and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from chain import address
from chain.crypto import H
from chain.errors import DecodeError, InvalidTransaction
from chain.params import TOKEN
from chain.transactions import JobClaim, JobSettle, Transfer, Tx, TxType
from chain.transition import check_tx
from tests.spec.block_regions import encoding
from tests.spec.example import job_story, story
from tests.spec.fields import rows, summary
from tests.spec.markdown import byte_table, hashed, table, values


def _address() -> str:
    public = story().world.users[0].public
    return values(
        f"checksum: the first 4 bytes of {hashed('address', 'account')}",
        "address: pml1, then base32 (RFC 4648, lower case, no padding) of account ‖ checksum",
        ("account", public),
        ("address", address.encode(public)),
    )


def _envelope() -> str:
    tx = job_story()[1][0]
    return byte_table(rows(tx, tx.encoded, Tx.decode, fold=(type(tx.payload).__name__,)), tx.encoded)


def _worked() -> str:
    tx = job_story()[1][0]
    return values(
        f"id = {hashed('tx', 'the transaction without its signature')}; signed = {hashed('tx-sig', 'id')}",
        ("transaction", tx.encoded),
        ("id", tx.id),
        ("signed", H("tx-sig", tx.id)),
        ("sender", tx.sender),
        ("signature", tx.sig),
    )


def _types() -> str:
    found = []
    for tx in job_story()[1]:
        payload = [
            row
            for row in rows(tx, tx.encoded, Tx.decode, fold=("Receipt",))
            if row.name.startswith("payload")
        ]
        shown = values(
            (f"{tx.type.name} encoded", tx.encoded),
            (f"{tx.type.name} id", tx.id),
        )
        found.append(
            f"### {tx.type.name} (type {int(tx.type)})\n\n{summary(type(tx.payload))}.\n\n"
            f"{byte_table(payload, tx.encoded)}\n\n{shown}"
        )
    return "\n\n".join(found)


def _receipt() -> str:
    """A receipt with its path in a settlement."""
    settled = next(
        tx.payload.receipts[0] for tx in job_story()[1] if isinstance(tx.payload, (JobClaim, JobSettle))
    )
    data = settled.receipt.encode()
    shown = values(("requester", job_story()[0].requester.public))
    return f"{encoding('receipt', settled.receipt, data, type(settled.receipt).decode)}\n\n{shown}"


def _numbers() -> str:
    has = {tx.type for tx in job_story()[1]}
    assert has == set(TxType)
    return table(("number", "type"), ((int(kind), kind.name) for kind in sorted(TxType)))


def _faults() -> Iterator[tuple[str, Callable[[], None]]]:
    """What is wrong, and a check of the real code that refuses it."""
    told = story()
    world, state = told.world, told.states[-1]
    params, slot = world.genesis.params, state.slot + 1
    good = world.transfer(2, 1, 5 * TOKEN, until=slot)
    user = world.users[2]

    def check(tx: Tx, at: int = slot) -> Callable[[], None]:
        return lambda: check_tx(state, tx, at)

    def decode(tx: Tx) -> Callable[[], None]:
        return lambda: Tx.decode(tx.encoded) and None

    check_tx(state, good, slot)
    yield "chain id of another chain", check(replace(good, chain_id=bytes(32)))
    yield "slot after `valid_until_slot`", check(good, slot + 1)
    yield "fee below `min_fee`", check(world.tx(user, good.payload, fee=params.min_fee - 1))
    yield "a bit of the signature flipped", check(replace(good, sig=bytes([good.sig[0] ^ 1]) + good.sig[1:]))
    yield "nonce too low or too high", check(world.tx(user, good.payload, nonce=1))
    yield "more than the sender has", check(world.transfer(2, 1, 2_000 * TOKEN))
    large = replace(good, payload=Transfer(good.sender, 1, "m" * params.max_tx_bytes))
    yield "more than `max_tx_bytes`", check(large)
    yield "memo of 65 bytes", decode(replace(good, payload=Transfer(good.sender, 1, "m" * 65)))
    yield "amount 0", decode(replace(good, payload=Transfer(good.sender, 0)))
    yield "another version", decode(replace(good, version=good.version + 1))


def _errors() -> str:
    lines = []
    for wrong, check in _faults():
        try:
            check()
        except (InvalidTransaction, DecodeError) as error:
            lines.append((wrong, f"`{type(error).__name__}`", str(error)))
        else:
            raise AssertionError(f"{wrong}: not refused")
    return table(("what is wrong", "raises", "and says"), lines)


REGIONS = {
    "address": _address,
    "tx-envelope": _envelope,
    "tx-worked": _worked,
    "tx-numbers": _numbers,
    "tx-types": _types,
    "receipt": _receipt,
    "tx-errors": _errors,
}
