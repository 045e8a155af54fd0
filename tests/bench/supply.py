"""The books under many random transactions: `python -m tests.bench.supply --transactions 100000 --seed 1`.

Every block's totals are compared with the entries themselves; at the end all blocks are applied again from
the genesis and must lead to the same state root.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from dataclasses import replace

from chain import vrf
from chain.crypto import Keypair
from chain.params import DEMO, TOKEN
from chain.state import State, genesis_state
from chain.transactions import DatasetRecord, JobCancel, JobOpen, Payload, Register, Transfer, Tx, sign_tx
from chain.transition import apply_block
from tests.chain.conftest import FAR, FEE, World

PER_BLOCK = 400
USERS = 50
PARAMS = replace(DEMO, max_user_txs=1_000, max_body_bytes=2 * 1024 * 1024)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--transactions", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng, world = random.Random(options.seed), World(users=USERS, params=PARAMS, keep=10**6)
    kinds: Counter[str] = Counter()
    jobs: list[tuple[Keypair, bytes]] = []
    while kinds.total() < options.transactions:
        block = world.build(_transactions(rng, world, jobs))
        world.give(block)
        world.all_vote()
        kinds.update(type(tx.payload).__name__ for tx in block.body.txs)
        _check(world.state, world)
    replayed = genesis_state(world.genesis)
    for block in reversed(list(world.chain.ancestors(world.chain.head.id))):
        replayed = apply_block(replayed, block)
    assert replayed.root() == world.state.root()
    print(f"{world.state.height} blocks, {dict(kinds)}, {world.state.supply()}, all equal after replay")


def _transactions(rng: random.Random, world: World, jobs: list[tuple[Keypair, bytes]]) -> list[Tx]:
    """Founders spend their rewards too; some transactions are refused, and with them their sender's later."""
    nonces: Counter[bytes] = Counter()
    senders = [*world.users, *(keys.keypair for keys in world.validators)]
    made = []
    for _ in range(PER_BLOCK):
        sender = rng.choice(senders)
        payload: Payload
        if jobs and rng.random() < 0.05:
            sender, job = jobs.pop(rng.randrange(len(jobs)))
            payload = JobCancel(job)
        else:
            payload = _payload(rng, world, sender)
        nonce = world.state.account(sender.public).nonce + nonces[sender.public]
        nonces[sender.public] += 1
        fee = FEE + rng.randrange(100)
        tx = sign_tx(sender, world.genesis.chain_id, payload, nonce=nonce, valid_until_slot=FAR, fee=fee)
        if isinstance(payload, JobOpen):
            jobs.append((sender, tx.id))
        made.append(tx)
    return made


def _payload(rng: random.Random, world: World, sender: Keypair) -> Payload:
    match rng.choices(["transfer", "register", "dataset", "open"], (85, 4, 4, 7))[0]:
        case "register" if (
            sender.public not in world.by_public
        ):  # founders keep the keys that World draws with
            key = vrf.public_key(sender.public[::-1])
            return Register(sender.public, key, "late", TOKEN + rng.randrange(9), world.state.height + 1)
        case "dataset":
            infohash = rng.randbytes(20)
            return DatasetRecord(infohash.hex(), infohash, 1 + rng.randrange(10**9), "", True)
        case "open":
            deadline = world.state.slot + 2 + rng.randrange(30)
            return JobOpen(rng.randbytes(20), bytes(32), 3, 10, rng.randrange(1, TOKEN), deadline)
    return Transfer(rng.choice(world.users).public, rng.randrange(1, TOKEN // 100))


def _check(state: State, world: World) -> None:
    supply = state.supply()
    assert supply.ok
    assert supply.balances == sum(account.balance for account in state.accounts().values())
    assert supply.escrow == sum(job.escrow for job in state.jobs())
    assert supply.bonds == sum(entry.bond for entry in state.validators())
    assert supply.vesting == sum(state.vesting(keys.public).held for keys in world.validators)


if __name__ == "__main__":
    main()
