"""Each attack once more, with one guard of the core removed: its test must fail.

So the tests of this folder are known to see what they are for, today and not only when they were written. A
guard is a line, compiled away in the function's own source (`tests.planting`); if it is not there any more,
the row fails too. `pytest -s` prints what became of each.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

import pytest

from chain import (
    buckets,
    codec,
    crypto,
    evidence,
    finality,
    forkchoice,
    genesis,
    ghost,
    gossip,
    jobs,
    lottery,
    mempool,
    merkle,
    orphans,
    params,
    producer,
    rating_pool,
    tables,
    transactions,
    transition,
    tree,
    types,
    validators,
    votes,
    vrf,
    weights,
)
from chain.draft import Draft
from chain.errors import ChainError
from chain.ledger import Randomness
from chain.rating import accusing, admission, audit_steps, closing, court, items, phases, schedule, windows
from p2pml.node import clock_watch
from tests.chain.attacks import (
    test_audits,
    test_branches,
    test_bytes,
    test_censorship,
    test_clock_skew,
    test_divergence,
    test_evidence,
    test_floods,
    test_randomness,
    test_rating_windows,
    test_time,
    test_transactions,
)
from tests.chain.conftest import JobWorld, World
from tests.planting import plant

pytestmark = pytest.mark.slow

ATTACKS = (
    test_audits, test_branches, test_bytes, test_censorship, test_clock_skew, test_divergence, test_evidence,
    test_floods, test_randomness, test_rating_windows, test_time, test_transactions,
)  # fmt: skip
FIXTURES: dict[str, Callable[[], Any]] = {
    "world": World,
    "make_world": lambda: World,
    "job_world": lambda: JobWorld(World()),
    "make_job_world": lambda: JobWorld,
}
WITHOUT = {
    "test_censorship_at_a_deadline_by_the_presets_windows",  # guards the presets' own values
    "test_censorship_at_the_deadlines_of_rating_windows_by_the_presets",
    "test_state_divergence",  # these run in other processes, where nothing is planted
    "test_state_divergence_of_a_proposer",
    "test_state_divergence_history_has_everything",
}


@dataclass(frozen=True)
class Guard:
    """Without `line` in the source of `function`, which becomes `gone`, the test `attack` must fail."""

    attack: Callable[..., Any]
    function: Callable[..., Any]
    line: str
    gone: str
    given: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.attack.__name__}-{self.function.__qualname__}-{self.line[:30]}"


def func(attribute: Any) -> Callable[..., Any]:
    """The function in a property or a cached property."""
    return attribute.fget if isinstance(attribute, property) else attribute.func  # type: ignore[no-any-return]


apply_tx, alone, body = transition.apply_tx, transition.check_tx_alone, transition.apply_body
sealed, slot_of = transition.check_sealed, transition.slot_of
insert = forkchoice.Chain._insert

GUARDS = [
    # -- transactions
    Guard(test_transactions.test_double_spend_in_one_block, Draft.debit,
          "if account.balance < amount:", "if 0:"),
    Guard(test_transactions.test_replay_on_the_same_chain, apply_tx,
          "if tx.nonce != account.nonce:", "if 0:"),
    Guard(test_transactions.test_replay_on_the_same_chain, mempool.Mempool.add,
          "if not account.nonce <= tx.nonce <", "if not tx.nonce <"),
    Guard(test_transactions.test_replay_on_another_chain, alone,
          "if tx.chain_id != draft.genesis.chain_id:", "if 0:"),
    Guard(test_transactions.test_replay_on_another_chain, alone, "if not tx.signature_ok:", "if 0:"),
    Guard(test_transactions.test_replay_on_another_chain, func(transactions.Tx.id),
          "pack(self.to_item()[:-1])", "pack((*self.to_item()[:1], *self.to_item()[2:-1]))"),
    Guard(test_transactions.test_replay_of_a_vote_on_another_chain, votes.Vote.signing_bytes,
          "chain_id, self", "self"),
    Guard(test_transactions.test_nonce_gap_and_reuse, apply_tx,
          "if tx.nonce != account.nonce:", "if tx.nonce < account.nonce:"),
    Guard(test_transactions.test_nonce_gap_and_reuse, apply_tx,
          "if tx.nonce != account.nonce:", "if tx.nonce > account.nonce:"),
    # -- branches
    Guard(test_branches.test_double_spend_across_forks, insert,
          "apply_body(parent.state,", "apply_body(self.state(),"),
    Guard(test_branches.test_replay_after_a_reorg, apply_tx, "if tx.nonce != account.nonce:", "if 0:"),
    Guard(test_branches.test_reorg_across_an_epoch, Randomness.entering, "if epochs == 0:", "if True:"),
    Guard(test_branches.test_partition_50_50_then_heal, finality.quorum,
          "< 2 * table.voices", "< table.voices"),
    Guard(test_branches.test_partition_70_30_then_heal, finality.quorum,
          "< 2 * table.voices", "< 3 * table.voices"),
    Guard(test_branches.test_rewriting_what_is_final, forkchoice.Chain._check_depth,
          "if sealed.height <= self._tree.final_height:", "if 0:"),
    Guard(test_branches.test_block_withholding, forkchoice.Chain._hear, "self._voice.voice(voter)", "0"),
    # -- evidence
    Guard(test_evidence.test_proposer_equivocation, tree.BlockTree.add, "if seals:", "if 0:"),
    Guard(test_evidence.test_proposer_equivocation, gossip._judge_sealed, ">= MAX_SEALS", ">= 99"),
    Guard(test_evidence.test_proposer_equivocation, validators.punish, "rating=0, bond=0", "bond=0"),
    Guard(test_evidence.test_double_vote, votes.conflict, 'return "double vote"', 'return ""'),
    Guard(test_evidence.test_double_vote, ghost.LatestVotes.add, "if liar is not None:", "if 0:"),
    Guard(test_evidence.test_surround_vote, votes.conflict, 'return "surround vote"', 'return ""'),
    Guard(test_evidence.test_votes_on_two_forks, votes.conflict,
          'return "two heads in one slot"', 'return ""'),
    Guard(test_evidence.test_votes_on_two_forks, ghost.LatestVotes.counts,
          "voter not in self.convicted and", ""),
    Guard(test_evidence.test_false_evidence, evidence.TwoVotes.check, "vote.signed_for(chain_id)", "True"),
    Guard(test_evidence.test_false_evidence, evidence.TwoSeals.check,
          "sealed.path_ok() and sealed.seal_ok(chain_id)", "True"),
    # -- time
    Guard(test_time.test_future_timestamp, forkchoice.Chain._check_time, "if now_ms < ready:", "if 0:"),
    Guard(test_time.test_past_timestamp, sealed, "if slot <= parent.slot:", "if 0:"),
    Guard(test_time.test_off_grid_timestamp, slot_of,
          "since % state.genesis.params.slot_ms or since < 0", "since < 0", {"off_ms": 1}),
    Guard(test_time.test_early_rank, forkchoice.Chain.ready_at_ms,
          "+ sealed.rank * params.rank_step_ms", "", {"rank": 1}),
    Guard(test_time.test_early_rank, forkchoice.Chain._check_time,
          "if now_ms < ready:", "if 0:", {"rank": 0}),
    Guard(test_time.test_clock_skew_that_is_forgiven, forkchoice.Chain.ready_at_ms,
          "- params.skew_ms", "", {"preset": "lab"}),
    Guard(test_time.test_clock_skew_that_is_forgiven, forkchoice.Chain.check_vote,
          "- params.skew_ms:", ":", {"preset": "lab"}),
    Guard(test_time.test_clock_skew_that_is_forgiven, func(params.ChainParams.skew_ms),
          "// 8", "// 4", {"preset": "main"}),
    Guard(test_time.test_clock_skew_that_is_not, clock_watch.ClockWatch.heard,
          "> self._limit_ms", "> 10**12", {"preset": "demo"}),
    Guard(test_clock_skew.test_clock_skew_of_many, clock_watch.ClockWatch.heard,
          "> self._limit_ms", "> 10**12"),
    # -- randomness
    Guard(test_randomness.test_vrf_withholding_at_the_epochs_tail, transition.finish,
          "if sealed.rank == 0:", "if 1:"),
    Guard(test_randomness.test_key_grinding, tables.Tables.closed, "epoch + LOOKAHEAD", "epoch + 1"),
    Guard(test_randomness.test_proposing_with_a_key_that_does_not_hold_yet, sealed,
          "beta = vrf.verify_once(weight.vrf_public, alpha, sealed.leaf0.vrf_proof)",
          "beta = vrf.output(sealed.leaf0.vrf_proof)"),
    Guard(test_randomness.test_w_zero, tables.Tables.closed,
          "or len(found.entries) < MIN_KEYS or found.total < 2", ""),
    Guard(test_randomness.test_w_zero_at_genesis, genesis.Genesis.__post_init__,
          "if sum(founder.rating for founder in self.validators) < 2:", "if 0:", {"ratings": (1,)}),
    # -- bytes
    Guard(test_bytes.test_oversize_block, body, "if len(body.encode()) > params.max_body_bytes:", "if 0:"),
    Guard(test_bytes.test_oversize_block, producer._fill, "or size > room", ""),
    Guard(test_bytes.test_oversize_block_is_not_even_decoded, codec.unpack,
          "if len(data) > max_size:", "if 0:"),
    Guard(test_bytes.test_oversize_transaction, alone, "if len(tx.encoded) > params.max_tx_bytes:", "if 0:"),
    Guard(test_bytes.test_oversize_transaction_is_not_even_decoded, codec.unpack,
          "if len(data) > max_size:", "if 0:"),
    Guard(test_bytes.test_oversize_nesting, codec._problem, "if depth == 0:", "if 0:", {"depth": 13}),
    Guard(test_bytes.test_non_canonical_msgpack, codec.unpack,
          "if msgpack.packb(obj, use_bin_type=True) != data:", "if 0:"),
    Guard(test_bytes.test_malleable_signature, crypto.verify,
          "bindings.crypto_sign_open(signature + message, public)",
          "s = int.from_bytes(signature[32:], 'little') % (2**252 + 27742317777372353535851937790883648493);"
          " bindings.crypto_sign_open(signature[:32] + s.to_bytes(32, 'little') + message, public)"),
    Guard(test_bytes.test_merkle_duplicate_leaf, merkle._root,
          "_root(hashes[split:])", "_root([*hashes[split:], *[hashes[-1]] * split][:split])"),
    Guard(test_bytes.test_merkle_duplicate_leaf, body, "if not block.root_ok():", "if 0:"),
    Guard(test_bytes.test_merkle_node_as_leaf, merkle.leaf_hash, r'b"\x00" + leaf', r'b"\x01" + leaf'),
    Guard(test_bytes.test_valid_header_with_a_poisoned_body, body, "if not block.root_ok():", "if 0:"),
    Guard(test_bytes.test_valid_header_with_a_poisoned_body, func(types.Block.fingerprint),
          'return H("block", self.encoded)', "return self.block_id"),
    # -- floods
    Guard(test_floods.test_invalid_block_flood, forkchoice.Chain.on_block,
          "if block.fingerprint in self._bad:", "if 0:"),
    Guard(test_floods.test_invalid_block_flood, sealed,
          "if sealed.leaf0.parent_state_root != parent.root():", "if 0:"),
    Guard(test_floods.test_orphan_flood_by_strangers, forkchoice.Chain._adopt,
          "if not self.validator_sealed(block.sealed):", "if 0:"),
    Guard(test_floods.test_orphan_flood_by_a_validator, orphans.Orphans.add,
          "len(self._blocks) > self._max_blocks or", ""),
    Guard(test_floods.test_mempool_flood, mempool.Mempool._make_room,
          "len(self._by_id) >= self._max_txs or self._bytes + len(tx.encoded) > self._max_bytes", "0"),
    Guard(test_floods.test_mempool_flood, mempool.Mempool._make_room,
          "if worst is None or worst.fee >= tx.fee:", "if worst is None:"),
    Guard(test_floods.test_mempool_flood, mempool.Mempool.add,
          "account.nonce + self._max_per_sender", "10**9"),
    Guard(test_floods.test_mempool_flood_of_promises, mempool.Mempool._check_means,
          "if cost > means:", "if 0:"),
    Guard(test_floods.test_rating_pool_flood, admission.check_time,
          "if not isinstance(point, Commit) and next_slot < plan.commit_end:", "if 0:"),
    Guard(test_floods.test_rating_pool_flood, rating_pool.RatingPool._make_room,
          "-more - self._held[public]", "0"),
    Guard(test_floods.test_flood_of_transactions_in_a_block, body,
          "if any(n > cap for n, cap in zip(_counts(body), _caps(params), strict=True)):", "if 0:"),
    # -- divergence
    Guard(test_divergence.test_state_divergence_by_the_order_of_dictionaries, buckets.Bucket.of,
          "tuple(sorted(rows))", "tuple(rows)"),
    Guard(test_divergence.test_state_divergence_by_the_order_of_dictionaries, func(finality.Finality.hash),
          "sorted(self.tallies.items())", "self.tallies.items()"),
    Guard(test_divergence.test_state_divergence_by_the_order_of_dictionaries, weights.WeightTable.changed,
          "sorted(kept)", "kept"),
    # -- censorship
    Guard(test_censorship.test_censorship_at_a_deadline, jobs._challenged,
          "draft.genesis.params.job_challenge_slots", "1", {"share": 30}),
    Guard(test_censorship.test_censorship_at_a_deadline_by_silence, jobs.advance,
          "_challenged(draft, job, slot)", "_challenged(draft, job, due_slot)"),
    Guard(test_censorship.test_censorship_at_a_deadline_in_drawn_slots, lottery.draw,
          'rank.to_bytes(1, "big")', 'b""; prefix = seed + (slot // 16).to_bytes(8, "big")', {"share": 30}),
    # -- audits
    Guard(test_audits.test_made_up_work, court.replayed, "return digest != case.digest", "return False"),
    Guard(test_audits.test_work_that_nobody_may_see, closing.judged, "if claim.challenges:", "if 0:"),
    Guard(test_audits.test_a_lazy_auditor, court.replayed, "return true != marked.mark", "return False"),
    Guard(test_audits.test_a_report_of_nothing, closing._missed,
          "or not (marked(report) or auditor in claim.challengers)", ""),
    Guard(test_audits.test_a_copied_report, items.reports_digest, "signer, salt", "salt"),
    Guard(test_audits.test_a_report_that_is_sealed_late, phases.check_phase,
          "if not first <= slot < end:", "if 0:"),
    Guard(test_audits.test_auditors_that_cover_up, court.replayed,
          "if digest == case.digest else NO_MARK", ""),
    Guard(test_audits.test_a_false_accusation, audit_steps.rule,
          "validators.punish(draft, accuser, accused.public)", "pass"),
    Guard(test_audits.test_one_offence_punished_again_and_again, accusing.check,
          "if accused is None or not registered_for(ledger, accused.public, window):", "if accused is None:"),
    Guard(test_audits.test_one_offence_punished_again_and_again, accusing.check,
          "or not registered_for(ledger, accused.public, window):", "or accused.convicted:"),
    Guard(test_audits.test_a_proposer_that_rules_wrongly, court.Court.open_cases,
          "elif found != ruling.guilty:", "elif 0:"),
    Guard(test_audits.test_honest_items_on_another_branch, phases.running,
          "or point.drawn != window.drawn_for(point)", ""),
    Guard(test_rating_windows.test_reorg_across_an_epoch_and_a_rating_window, phases.running,
          "or point.drawn != window.drawn_for(point)", ""),
    Guard(test_rating_windows.test_reorg_across_an_epoch_and_a_rating_window, windows._announced,
          "return draft.mixes().at(final_slot)", "return draft.genesis.chain_id"),
    Guard(test_rating_windows.test_censorship_at_the_deadline_of_commitments, schedule.schedule,
          "train_end + params.grace_slots", "train_end + 1"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _forget_what_was_verified() -> Iterator[None]:
    """Signatures that a planted core took for good must not be remembered by the next test."""
    yield
    crypto.verify_once.cache_clear()
    vrf.verify_once.cache_clear()


def arguments(guard: Guard) -> dict[str, Any]:
    """What the attack's test is called with: what the row gives, and fixtures of its own."""
    wanted = inspect.signature(guard.attack).parameters
    made = {name: FIXTURES[name]() for name in wanted if name not in guard.given}
    return {**made, **guard.given}


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_without_its_guard_the_attack_succeeds(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    given = arguments(guard)
    plant(monkeypatch, guard.function, guard.line, guard.gone)
    # What a planted core does wrong shows in an assertion, in a refusal that does not come, or in one of what
    # is right; anything else is a plant that does not work.
    with pytest.raises((AssertionError, pytest.fail.Exception, ChainError)) as failed:
        guard.attack(**given)
    print(f"\n{guard.name}: {type(failed.value).__name__} {str(failed.value)[:100]!r}")


def test_every_attack_of_this_folder_has_a_guard() -> None:
    attacks = {
        name
        for module in ATTACKS
        for name, value in vars(module).items()
        if name.startswith("test_")
        and isinstance(value, FunctionType)
        and value.__module__ == module.__name__
    }
    assert attacks - {guard.attack.__name__ for guard in GUARDS} == WITHOUT
