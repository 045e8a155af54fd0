"""What the API says about validators and blocks, from a state with more than the founders."""

from __future__ import annotations

from chain import address, vrf
from chain.crypto import Keypair
from chain.forkchoice import Chain
from chain.genesis import Founder, Genesis
from chain.params import DEMO, REPORT, TOKEN
from chain.producer import ProposerKeys, build_block, ranks_for
from chain.state import genesis_state
from chain.transactions import Register, sign_tx
from p2pml.node import chain_views

KEYS = [ProposerKeys.from_seeds(bytes([i]) * 32, bytes([i + 100]) * 32) for i in range(1, 4)]
USER = Keypair.from_seed(b"\x09" * 32)


def test_who_registered_is_shown_with_name_bond_and_what_is_vesting() -> None:
    founders = tuple(Founder(keys.public, keys.vrf_public, 10, f"v{i}") for i, keys in enumerate(KEYS))
    genesis = Genesis("test", 0, DEMO, founders, ((USER.public, 100 * TOKEN),))
    chain = Chain(genesis)
    wish = Register(USER.public, vrf.public_key(b"\x10" * 32), "late", 5 * TOKEN, 1)
    tx = sign_tx(USER, genesis.chain_id, wish, nonce=0, valid_until_slot=999, fee=DEMO.min_fee)
    slot, keys = next(
        (slot, keys)
        for slot in range(1, 99)
        for keys in KEYS
        if ranks_for(slot, keys.keypair, chain.state()) == (0,)
    )
    block = build_block(chain, slot, 0, keys, [tx])
    chain.on_block(block, genesis.slot_start_ms(slot) + DEMO.slot_ms)
    shown = {view.name: view for view in chain_views.validator_views(chain.state())}
    assert set(shown) == {"v0", "v1", "v2", "late"}
    late = shown["late"]
    assert (late.rating, late.share, late.bond, late.barred_epochs) == (0, 0, 5 * TOKEN, 0)
    proposer = shown[founders[KEYS.index(keys)].name]
    assert (proposer.rating, proposer.share, proposer.vesting) == (10, 1 / 3, DEMO.proposer_reward)
    assert {view.expires_epochs for view in shown.values()} == {0}
    view = chain_views.block_view(block, chain.state(), lambda job: 0, final=False)
    assert (view.proposer_name, view.proposer) == (proposer.name, address.encode(keys.public))


def test_what_the_richest_own_is_their_weight_and_the_end_of_a_rating_is_told() -> None:
    founders = tuple(
        Founder(keys.public, keys.vrf_public, 10, f"v{i}", rated_until=7 * i) for i, keys in enumerate(KEYS)
    )
    owned = tuple((keys.public, (i + 1) * TOKEN) for i, keys in enumerate(KEYS))
    views = chain_views.validator_views(genesis_state(Genesis("test", 0, REPORT, founders, owned)))
    assert [(view.name, view.rating, view.share) for view in views] == [
        ("v2", 3 * TOKEN, 1 / 2),
        ("v1", 2 * TOKEN, 1 / 3),
        ("v0", TOKEN, 1 / 6),
    ]
    assert {view.selection for view in views} == {"richest"}
    assert [view.expires_epochs for view in views] == [14, 7, 0]
