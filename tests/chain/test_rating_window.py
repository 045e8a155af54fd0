"""Rating windows, from their announcement to the ratings that they give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chain import governance, merkle, rewards
from chain.content import has_content
from chain.entries import GOVERNANCE_KEY, Governance
from chain.errors import InvalidBlock, InvalidRating
from chain.genesis import MAX_RATING
from chain.idle import wants_block, wants_vote
from chain.mempool import Mempool
from chain.params import DEMO, LAB, MAIN, REPORT, TOKEN, ChainParams
from chain.producer import ProposerKeys
from chain.quality import Baseline
from chain.rating import closing, steps
from chain.rating.auditing import auditors
from chain.rating.closing import Reason, active
from chain.rating.draws import evaluated, sample, split
from chain.rating.entries import Mixes, OpenChallenge, Outcome, Standing, Window, standing_key
from chain.rating.items import Commit, Reveal
from chain.rating.schedule import border_is_due, next_regular, regular, schedule
from chain.transactions import Register
from chain.transition import apply_block, apply_rating, apply_tx, open_slot
from chain.types import Body
from tests.chain.conftest import World, seed32
from tests.chain.rating_window import BAD, BRIEF, GOOD, Windows, Work

FOUR = (10, 10, 10, 10)


def brief(ratings: tuple[int, ...] = FOUR, **changes: Any) -> Windows:
    return Windows(World(ratings=ratings, params=replace(BRIEF, **changes)))


def refused(windows: Windows, item: Any, slot: int, says: str) -> None:
    """No block of that slot may hold the item, and the draft is as it was."""
    draft = open_slot(windows.world.state, slot)
    entries = dict(draft._own)
    with pytest.raises(InvalidRating, match=says):
        apply_rating(draft, item, slot)
    assert draft._own == entries


# -- when ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "start", "borders"),
    [
        (DEMO, 64, (56, 64, 69, 73, 77, 85, 89, 97)),
        (LAB, 21_600, (21_592, 21_600, 21_630, 21_646, 21_662, 21_694, 21_710, 21_742)),
        (MAIN, 216_000, (215_992, 216_000, 216_050, 216_066, 216_082, 216_146, 216_162, 216_194)),
    ],
)
def test_borders_of_the_presets(params: ChainParams, start: int, borders: tuple[int, ...]) -> None:
    found = schedule(params, start, params.window_slots)
    assert tuple(getattr(found, name) for name in found.__slots__) == borders
    assert regular(params, borders[0] - 1) == 0
    assert regular(params, borders[0]) == start == regular(params, start + start - 9)
    assert next_regular(params, borders[0] - 1) == start
    assert next_regular(params, borders[0]) == 2 * start


def test_the_report_preset_has_no_windows() -> None:
    world = World(params=REPORT, balances=(30, 20, 10))
    assert next_regular(REPORT, 10**6) is None
    for slot in (1, 10**6, 10**6 + 1):
        world.mine(slot=slot)
        assert not border_is_due(world.state, slot + 10**6)
    assert world.state.window() == Window()
    assert world.state.mixes() == Mixes()


def test_a_window_of_the_demo_preset() -> None:
    """Everything as in the specification, by numbers that were worked out by hand."""
    windows = Windows(World(ratings=FOUR))
    world = windows.world
    for slot in (53, 54, 55):
        windows.go(slot)
    assert windows.window == Window()
    announced = windows.announce()
    final = world.chain.block(world.state.finality.branch[-3][1])
    assert world.chain.state(final.block_id).slot == 53
    assert announced == Window(64, 5, 4, world.chain.state(final.block_id).mix, over=False)
    windows.commit(0, 1, 2, segments=lambda who: (40, 48, 57, 66)[who])
    assert world.state.slot == 69
    assert windows.window.claims == 3
    before = world.state
    drawn = windows.draw()
    assert drawn.draw != before.mix
    assert drawn == replace(announced, claims=3, draw=drawn.draw)
    windows.reveal(0, 1, 2)
    windows.go(88)
    assert not windows.window.spot
    windows.go(89)
    assert windows.window.spot
    windows.go(96)
    assert not windows.window.over
    assert [windows.rating(i) for i in range(4)] == [10] * 4
    windows.go(97)
    assert windows.window.over
    # Segments a minute, times 0.95 as no energy was told; a fifth less for audits that nobody did.
    lessened = [segments * 60 * 95 // 2600 for segments in (40, 48, 57)]
    assert [windows.rating(i) for i in range(4)] == [rating * 4 // 5 for rating in lessened] + [0]
    [outcome] = world.state.standing(world.validators[1].public).outcomes
    assert (outcome.window, outcome.rating, outcome.segments, outcome.reason) == (64, 105, 48, Reason.RATED)
    [miss] = world.state.standing(world.validators[3].public).outcomes
    assert (miss.rating, miss.reason) == (0, Reason.NO_CLAIM)
    assert world.state.supply_ok()


def test_border_blocks_are_wanted_and_made_final() -> None:
    """Announcement, draw, spot and end each get a block where nothing else would bring one."""
    windows, pool, wanted = brief(), Mempool(), []
    world = windows.world
    items: dict[int, Callable[[Work], Any]] = {
        27: lambda work: work.commit,
        29: lambda work: work.reveal(windows.window),
    }
    for slot in range(1, 45):
        if slot > 1 and wants_vote(world.chain):
            world.all_vote(slot - 1)
        before = world.state
        if slot in items:
            world.mine(slot=slot, ratings=[items[slot](work) for work in made(windows)])
        elif wants_block(world.chain, pool, slot):
            block = world.mine(slot=slot)
            if border_is_due(before, slot):
                wanted.append(slot)
                assert has_content(before, block)
    assert wanted == [16, 28, 33, 35, 40]
    assert world.state.finality.final_slot >= 40
    assert windows.rating(0) > 10


# -- the announcement ------------------------------------------------------------------------------------


def test_a_window_is_void_when_no_block_comes_before_it() -> None:
    windows = brief()
    for slot in (13, 14, 15, 23):  # late, but before it begins
        windows.go(slot)
    assert windows.window.mix
    windows = brief()
    for slot in (13, 14, 15, 24):
        windows.go(slot)
    assert windows.window == Window(24, 2, 3)
    assert not border_is_due(windows.world.state, 39)
    assert border_is_due(windows.world.state, 40)
    late = Work(windows.world, windows.world.validators[0].keypair, replace(windows.window, mix=bytes(32)))
    refused(windows, late.commit, 26, "no rating window")


@pytest.mark.parametrize(("final", "void"), [(8, False), (7, True)])
def test_a_window_is_void_when_what_is_final_is_too_old(final: int, void: bool) -> None:
    """More than an epoch, 8 slots, before the announcement in 16."""
    windows = brief()
    for slot in (final, final + 1, final + 2):
        windows.go(slot)
    assert windows.world.state.finality.final_slot == final
    windows.world.mine(slot=16)
    assert windows.window.over is void
    if not void:
        assert windows.window.mix == windows.world.state.mixes().after[0][1]


def test_the_mix_is_that_of_the_final_block_however_many_came_since() -> None:
    windows = brief()
    world = windows.world
    for slot in (9, 10, 11):
        windows.go(slot)
    mix = world.chain.state(world.state.finality.branch[-2][1]).mix
    for slot in (12, 13, 14, 15, 16):  # without votes
        world.mine(slot=slot)
    assert windows.window.mix == mix
    assert [slot for slot, _ in world.state.mixes().after] == [9, 10, 11, 12, 13, 14, 15, 16]
    windows.go(17)
    windows.go(18)
    windows.go(19)
    assert [slot for slot, _ in world.state.mixes().after] == [17, 18, 19]


def test_mixes_are_bounded_when_nothing_becomes_final() -> None:
    world = World(params=replace(BRIEF, slots_per_epoch=4, window_every_epochs=6, surprise_slots=1))
    for slot in range(1, 30, 2):
        world.mine(slot=slot)
    assert [slot for slot, _ in world.state.mixes().after] == [17, 19, 21, 23, 25, 27, 29]
    assert world.state.mixes().at(16) is None
    assert world.state.mixes().at(18) == world.state.mixes().after[0][1]


# -- commitments -----------------------------------------------------------------------------------------


def newcomer(windows: Windows) -> ProposerKeys:
    """A validator without a rating."""
    keys = ProposerKeys.from_seeds(seed32(3001), seed32(3501))
    world = windows.world
    wish = Register(keys.public, keys.vrf_public, "new", TOKEN, 1)
    consent = keys.keypair.sign(wish.signing_bytes(world.genesis.chain_id, world.users[0].public))
    world.mine(world.tx(world.users[0], replace(wish, consent=consent)))
    return keys


def test_commitments_that_are_refused() -> None:
    windows = brief()
    world = windows.world
    windows.announce()
    windows.go(24)
    late = newcomer(windows)
    assert world.state.standing(late.public).since == 25
    one = Work(world, world.validators[0].keypair, windows.window)
    good = one.commit
    refused(windows, good, 25, "slots 26 to 27, not 25")
    refused(windows, good, 28, "over|slots 26 to 27, not 28|no rating window")
    refused(windows, Work(world, late.keypair, windows.window).commit, 26, "not registered before")
    refused(windows, Work(world, world.users[0], windows.window).commit, 26, "not registered before")
    refused(windows, replace(good, joules=1), 26, "signature")
    refused(windows, one.signed(replace(good, window=48)), 26, "no rating window of slot 48")
    refused(windows, one.signed(replace(good, drawn=bytes(32))), 26, "another draw")
    refused(windows, one.signed(replace(good, segments=7, episodes=1)), 26, "cannot hold 1 complete")
    refused(windows, one.signed(replace(good, episodes=0)), 26, "cannot hold 0 complete")
    refused(windows, one.signed(replace(good, segments=2**26 + 1)), 26, "more than a machine")
    for name in ("trace_root", "episodes_root"):
        refused(windows, one.signed(replace(good, **{name: bytes(31)})), 26, "32 bytes")
    windows.go(26, [good])
    refused(windows, one.signed(replace(good, joules=5)), 27, "already")
    assert world.state.claim(one.keys.public, 24).segments == 20


def test_a_convicted_account_does_not_commit() -> None:
    windows = brief()
    world = windows.world
    windows.announce()
    work = Work(world, world.validators[0].keypair, windows.window)
    draft = open_slot(world.state, 26)
    convicted = replace(world.state.validator(work.keys.public), barred_until=9)
    draft.put_validator(convicted)
    with pytest.raises(InvalidRating, match="convicted"):
        steps.commit(draft, work.commit, 26)


def test_who_registers_again_after_a_conviction_begins_anew() -> None:
    """Another name alone changes nothing."""
    windows = brief()
    world = windows.world
    keys = newcomer(windows)
    draft = open_slot(world.state, 9)
    draft.epochs = 5
    draft.put(standing_key(keys.public), Standing(2, (outcome(7),)))
    for sequence, wanted in ((2, Standing(2, (outcome(7),))), (3, Standing(9, ()))):
        wish = Register(keys.public, keys.vrf_public, "other", TOKEN, sequence)
        consent = keys.keypair.sign(wish.signing_bytes(world.genesis.chain_id, world.users[1].public))
        tx = world.tx(world.users[1], replace(wish, consent=consent), nonce=sequence - 2)
        apply_tx(draft, tx, 9, 9, keys.public)
        assert draft.standing(keys.public) == wanted
        draft.put_validator(replace(draft.validator(keys.public), barred_until=3))


# -- evaluations -----------------------------------------------------------------------------------------


def test_reveals_that_are_refused() -> None:
    windows = brief()
    world = windows.world
    windows.announce()
    early = replace(windows.window, draw=bytes(32))
    windows.commit(0, 1, 2, segments=lambda who: 32)
    one = windows.work[world.validators[0].public]
    refused(windows, one.reveal(early), 27, "another draw")
    window = windows.draw()
    good = one.reveal(window)
    refused(windows, good, 30, "slots 28 to 29, not 30")
    absent = Work(world, world.validators[3].keypair, window, 32)
    refused(windows, absent.reveal(window), 29, "committed to nothing")
    first, second = good.evaluations

    def spoiled(says: str, *evaluations: Any) -> None:
        refused(windows, one.signed(replace(good, evaluations=evaluations)), 29, says)

    spoiled("the episodes to evaluate", first)
    spoiled("the episodes to evaluate", second, first)
    spoiled("the episodes to evaluate", first, replace(second, leaf=replace(second.leaf, index=9)))
    spoiled("not under the root", first, replace(second, leaf=replace(second.leaf, episode=7)))
    spoiled("32 bytes", first, replace(second, leaf=replace(second.leaf, digest=b"")))
    spoiled("32 bytes", first, replace(second, leaf=replace(second.leaf, path=(b"",))))
    for bad in ((), ((1,),), ((1, 2), (3,)), ((0, 0), (0, 0)), ((2**25, 0), (0, 0)), ((0,) * 65,) * 65):
        spoiled("confusion matri", first, replace(second, confusion=bad))
    spoiled("one size", first, replace(second, confusion=((1, 0, 0),) * 3))
    windows.go(29, [good])
    refused(windows, one.reveal(window, BAD), 29, "revealed already|not after|slots")


def test_an_evaluated_leaf_is_the_last_of_its_episode_and_of_another_than_the_other() -> None:
    windows = brief()
    world = windows.world
    windows.announce()
    works = [Work(world, keys.keypair, windows.window, 32) for keys in world.validators[:3]]
    works[0].last = [works[0].leaves[5], *works[0].last[:1]]  # not the last, then what is left
    works[1].last = [works[1].last[2], works[1].last[1]]  # descending
    windows.go(26, [work.commit for work in works])
    window = windows.draw()
    refused(windows, works[0].reveal(window), 29, "segment 5 is not the last")
    refused(windows, works[1].reveal(window), 29, "ascending")
    windows.go(29, [works[2].reveal(window)])


def test_draws() -> None:
    for draw in (bytes(32), b"\x01" * 32):
        for episodes in (1, 2, 3, 50):
            found = evaluated(draw, b"\x02" * 32, episodes)
            assert len(found) == min(2, episodes)
            assert list(found) == sorted(set(found))
            assert set(found) <= set(range(episodes))
        half = split(draw, 1797)
        assert (len(half), len(set(half))) == (899, 899)
        assert list(half) == sorted(half)
        assert set(half) <= set(range(1797))
        assert 300 < sum(place < 899 for place in half) < 600, "not the first half"
    assert split(bytes(32), 100) != split(b"\x01" * 32, 100)
    assert evaluated(bytes(32), bytes(32), 1000) != evaluated(bytes(32), b"\x01" * 32, 1000)
    counts = [0] * 10
    for seed in range(1000):
        for place in sample("test", seed.to_bytes(8, "big"), 10, 3):
            counts[place] += 1
    assert all(240 < count < 360 for count in counts)


# -- the end ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "rated", "over"),
    [((0, 1), (), 28), ((0, 1, 2, 3), (0, 1), 35), ((0, 1, 2), (), 35)],
)
def test_fewer_than_three_make_a_window_void(
    claims: tuple[int, ...], rated: tuple[int, ...], over: int
) -> None:
    """Two claims are known to be too few when commitments close; two that pass, at the end only."""
    windows = brief()
    windows.announce()
    windows.commit(*claims)
    windows.draw()
    assert windows.window.over is (over == 28)
    if over > 28:
        windows.reveal(*rated)
        windows.end()
    for keys in windows.world.validators:
        assert windows.world.state.standing(keys.public).outcomes == ()
        assert windows.world.state.validator(keys.public).rating == 10


def test_a_window_is_void_when_no_block_takes_evaluations() -> None:
    windows = brief()
    windows.announce()
    windows.commit(0, 1, 2)
    windows.go(windows.borders.reveal_end)
    assert windows.window.over
    assert [windows.rating(i) for i in range(4)] == [10] * 4


def test_the_end_comes_with_the_first_block_after_it_also_into_the_next_window() -> None:
    windows = brief()
    windows.announce()
    windows.commit(0, 1, 2)
    windows.draw()
    windows.reveal(0, 1, 2)
    for slot in (30, 31, 32, 33, 49):  # 49: too late to announce the window of slot 48
        windows.go(slot)
    assert windows.window == Window(48, 2, 6, funded=windows.world.state.height)
    assert windows.rating(0) > 10
    assert windows.rating(3) == 0


def test_a_border_is_passed_once_however_often_a_block_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what one does with its draft is not in another's."""
    windows = brief()
    windows.announce()
    windows.commit(0, 1, 2)
    windows.draw()
    windows.reveal(0, 1, 2)
    windows.go(33)
    closed: list[int] = []
    close = closing.close

    def counted(*given: Any) -> None:
        closed.append(1)
        close(*given)

    monkeypatch.setattr(closing, "close", counted)
    public = windows.world.validators[0].public
    one, other = open_slot(windows.world.state, 35), open_slot(windows.world.state, 35)
    assert closed == [1]
    one.credit(public, 7)
    one.put_validator(replace(one.validator(public), rating=1))
    assert other.validator(public).rating > 1
    assert other.account(public).balance == one.account(public).balance - 7
    assert other.books.balances == one.books.balances - 7
    assert open_slot(windows.world.state, 35).validator(public) == other.validator(public)
    windows.end()
    assert windows.rating(0) == other.validator(public).rating


def test_reasons_of_misses() -> None:
    """One rated account more than needed, and one of each kind that is not."""
    windows = brief((10,) * 8, energy_span_ppm=0)
    world = windows.world
    windows.announce()
    who = range(1, 8)
    for i in who:
        keys = world.validators[i].keypair
        joules = {6: 1}.get(i, 10**6)
        windows.work[keys.public] = Work(world, keys, windows.window, 600 if i == 6 else 200, joules)
    windows.go(26, [work.commit for work in windows.work.values()])
    window = windows.draw()
    works = list(windows.work.values())
    shown = [
        work.reveal(window, BAD if i == 5 else GOOD) for i, work in zip(who, works, strict=True) if i > 1
    ]
    windows.go(29, shown)
    windows.end()
    found = [world.state.standing(keys.public).outcomes[0] for keys in world.validators]
    rated = Reason.RATED
    assert [outcome.reason for outcome in found] == [
        Reason.NO_CLAIM, Reason.NOT_REVEALED, rated, rated, rated, Reason.POOR, Reason.IMPOSSIBLE, rated,
    ]  # fmt: skip
    assert [outcome.rating for outcome in found] == [0, 0, 600, 600, 600, 0, 0, 600]  # 200 segments in 20 s
    assert [outcome.segments for outcome in found] == [0, 200, 200, 200, 200, 200, 600, 200]


def test_what_a_claim_is_worth() -> None:
    """By the baseline in force; a challenge without an answer, or an accusation that held, makes a miss."""
    windows = brief()
    windows.announce()
    windows.commit(0, 1, 2)
    windows.draw()
    windows.reveal(0, 1, 2)
    claim = windows.world.state.claim(windows.world.validators[0].public, 24)
    assert claim is not None
    rules = closing.rules_of(Baseline(bytes(20), 960_000, 980_000), 0)

    def worth(**changes: Any) -> tuple[int, int]:
        found = closing.judged(rules, windows.window, 4_000, replace(claim, **changes))
        return found.reason, found.rating

    half = 20 * 15 * (500_000 + 500_000 * 10_044 // 20_000) // 10**6
    assert worth() == (Reason.RATED, half)
    assert worth(disproved=True) == (Reason.DISPROVED, 0)
    assert worth(challenges=(OpenChallenge(bytes(32), (0,), 30),)) == (Reason.NOT_SERVED, 0)
    assert worth(evaluations=()) == (Reason.NOT_REVEALED, 0)
    assert worth(segments=2**40) == (Reason.RATED, MAX_RATING)
    assert closing.judged(rules, windows.window, 10**9, claim).reason == Reason.LITTLE


@pytest.mark.parametrize(
    ("ratings", "wanted"),
    [((7,), 7), ((7, 0), 0), ((7, 9), 7), ((9, 7, 8), 8), ((0, 9, 7), 7), ((0, 0, 7), 0)],
)
def test_the_lower_median_counts(ratings: tuple[int, ...], wanted: int) -> None:
    assert active([outcome(rating) for rating in ratings]) == wanted


def test_audits_that_were_not_done_cost_up_to_a_fifth() -> None:
    assert active([outcome(1000, 3, 0), outcome(1000, 3, 0)]) == 1000
    assert active([outcome(1000, 3, 3)]) == 800
    assert active([outcome(1000, 3, 3), outcome(1000, 1, 0), outcome(2000)]) == 850
    assert active([outcome(1000, 3, 1)]) == 933


def outcome(rating: int, duties: int = 0, missed: int = 0) -> Outcome:
    return Outcome(24, rating, 20, 0, 0, 0, 0, duties, missed)


def test_only_the_last_three_windows_count_and_a_miss_extends_nothing() -> None:
    """A founder works in windows 1 and 2 and misses 3 and 4; the others work in all of them."""
    windows = brief(rating_epochs=100)
    world = windows.world
    public = world.validators[0].public
    ends, ratings = [], []
    for turn in range(4):
        who = (0, 1, 2, 3) if turn < 2 else (1, 2, 3)
        windows.whole(*who, segments=lambda who: 200)
        validator = world.state.validator(public)
        ratings.append(validator.rating)
        ends.append(validator.rated_until)
    assert ratings == [456, 456, 456, 0]
    assert ends[0] < ends[1] == ends[2] == ends[3]
    assert [each.rating for each in world.state.standing(public).outcomes] == [570, 0, 0]
    assert [each.window for each in world.state.standing(public).outcomes] == [48, 72, 96]


def test_a_rating_that_ended_does_not_come_back_with_a_miss() -> None:
    windows = brief(rating_epochs=2)
    world = windows.world
    windows.whole(0, 1, 2, 3)
    until = world.state.validator(world.validators[0].public).rated_until
    windows.announce()
    windows.commit(1, 2, 3)
    for slot in range(world.state.slot + 1, windows.borders.commit_end + 1):
        windows.go(slot)
    windows.reveal(1, 2, 3)
    for slot in range(world.state.slot + 1, windows.borders.end + 1):
        windows.go(slot)
    assert windows.window.over
    state = world.state
    assert state.finality.epochs >= until
    assert windows.rating(0) == 0
    assert windows.rating(1) > 0


def test_a_newcomer_is_rated_by_a_single_window_and_drawn_by_it() -> None:
    """Tables follow as after any change of ratings: three epochs after what gave them became final."""
    windows = brief()
    world = windows.world
    keys = newcomer(windows)
    world.validators.append(keys)
    world.by_public[keys.public] = keys
    windows.whole(0, 1, 2, 3, 4, segments=lambda who: 800 if who == 4 else 20)
    assert windows.rating(4) > 4 * windows.rating(0)
    assert world.state.table_at(world.state.slot).get(keys.public) is None
    epoch = world.state.epoch
    end = world.state.slot
    while world.state.table_at(world.state.slot + 1).get(keys.public) is None:
        windows.go(world.state.slot + 1)
    assert world.state.epoch - epoch in (2, 3)
    table = world.state.table_at(world.state.slot + 1)
    assert table.get(keys.public).rating == windows.rating(4)
    assert table.total == sum(windows.rating(i) for i in range(5))
    drawn = [world.drawn(slot).public for slot in range(world.state.slot + 1, end + 33)]
    assert keys.public in drawn


def test_genesis_ratings_end_with_the_first_window_that_is_not_void() -> None:
    windows = brief((10, 20, 30, 40, 50))
    windows.announce()
    windows.commit(0, 1)
    windows.draw()
    assert [windows.rating(i) for i in range(5)] == [10, 20, 30, 40, 50]
    windows.whole(0, 1, 2)
    assert [windows.rating(i) > 0 for i in range(5)] == [True, True, True, False, False]
    assert 10 not in [windows.rating(i) for i in range(3)]


def test_the_table_of_its_epoch_draws_auditors_until_the_end() -> None:
    """Another table takes effect while the window runs; the old one is kept as long."""
    windows = brief()
    world = windows.world
    windows.whole(0, 1, 2, 3)
    windows.announce()
    for slot in range(41, 48):
        windows.go(slot)
    window, table = windows.window, world.state.table_at(48)
    changed = []
    for slot in range(48, windows.borders.end):
        windows.go(slot, [work.commit for work in made(windows)] if slot == 50 else [])
        assert world.state.table_at(48) == table
        changed.append(world.state.table_at(slot) != table)
    assert window.start == windows.window.start == 48
    assert not windows.window.over
    assert True in changed
    assert world.state.finality.final_epoch > 6
    windows.go(windows.borders.end)
    for slot in range(windows.borders.end + 1, windows.borders.end + 4):
        windows.go(slot)


def made(windows: Windows) -> list[Work]:
    return [Work(windows.world, keys.keypair, windows.window) for keys in windows.world.validators]


def test_the_baseline_of_its_epoch_holds_to_the_end() -> None:
    """It is asked for after more epochs than decisions are kept for otherwise."""
    windows = brief(slots_per_epoch=4, window_every_epochs=12, audit_commit_slots=20, challenge_slots=5)
    world = windows.world
    strict = Baseline(bytes(20), 970_000, 980_000)
    state = world.state
    windows.announce()
    draft = open_slot(world.state, 41)
    draft.put(GOVERNANCE_KEY, Governance(((12, strict), (13, state.genesis.params.baseline)), ()))
    governance.advance(draft, 48 + 4 * 30)
    assert draft.baseline(12) == strict
    draft.put(b"t", replace(windows.window, over=True))
    governance.advance(draft, 48 + 4 * 30)
    assert draft.baseline(12) != strict


# -- the auditors' share ------------------------------------------------------------------------------------


def audited(windows: Windows, *silent: int) -> None:
    """A window in which all train, and all but the silent audit."""
    world = windows.world
    windows.announce()
    windows.commit(0, 1, 2, 3)
    windows.draw()
    windows.reveal(0, 1, 2, 3)
    quiet = [world.validators[i].public for i in silent]
    for slot in range(windows.borders.reveal_end, windows.borders.audit_reveal_end):
        windows.go(slot, [item for item in windows.owed(slot) if item.signer not in quiet])
    windows.go(windows.borders.audit_reveal_end)


def test_auditors_share_what_was_set_aside_since_the_window_before() -> None:
    windows = brief(evidence_epochs=1000, bar_epochs=1001)
    world = windows.world
    audited(windows, 3)
    before = world.state
    height = before.height + 1
    block = windows.go(windows.borders.end)
    assert (block.height, windows.window.funded) == (height, height)
    pool = height * TOKEN // 5
    # Four subjects of 20 segments, each looked at by the three others: a third of each is a part of 7 or 6.
    drawn = windows.window.draw
    work = dict.fromkeys((keys.public for keys in world.validators), 0)
    for subject in list(work):
        table = world.state.table_at(24)
        for place, auditor in enumerate(auditors(drawn, 24, subject, table)):
            work[auditor] += len(range(place, 20, 3))
    assert sum(work.values()) == 80
    silent = world.validators[3].public
    total = sum(marks for auditor, marks in work.items() if auditor != silent)
    voters = rewards.voter_rewards(block.body.votes, before.genesis.params, before.table)
    for keys in world.validators:
        earned = world.state.vesting(keys.public).held - before.vesting(keys.public).held
        audits = 0 if keys.public == silent else pool * work[keys.public] // total
        proposed = TOKEN * 2 // 5 if block.sealed.proposer == keys.public else 0
        assert earned == audits + voters[keys.public] + proposed
    lazy = world.state.standing(silent).outcomes[0]
    assert (lazy.duties, lazy.missed) == (3, 3)
    assert windows.rating(3) == windows.rating(0) * 4 // 5
    assert world.state.supply_ok()


def test_what_no_auditor_earned_is_not_issued_and_is_gone() -> None:
    windows = brief()
    world = windows.world
    windows.whole(0, 1, 2, 3)
    first = windows.window.funded
    assert first == world.state.height
    audited(windows)
    issued = world.state.books.issued
    block = windows.go(windows.borders.end)
    set_aside = (block.height - first) * TOKEN // 5
    others = TOKEN * 2 // 5 + 4 * (TOKEN // 10)
    assert set_aside - 4 <= world.state.books.issued - issued - others <= set_aside


# -- surprise windows ------------------------------------------------------------------------------------


def surprised(**changes: Any) -> Windows:
    return brief(window_every_epochs=1000, surprise_slots=1, **{"surprise_every_epochs": 4, **changes})


@pytest.mark.parametrize("gap", [1, 8])
def test_surprise_windows_come_as_often_as_the_parameter_says(gap: int) -> None:
    """One in 32 slots here, whether each has a block or every eighth."""
    state, planned = surprised().world.state, 0
    for number in range(2000):
        state._randomness = replace(state.randomness, mix=number.to_bytes(32, "big"))
        window = open_slot(state, gap).window()
        if not window.over:
            planned += 1
            assert (window.start, window.slots, window.mix) == (gap + 12, 1, b"")
    assert abs(planned - 2000 * gap / 32) < 5 * (2000 * gap / 32) ** 0.5


def test_a_surprise_window_is_like_the_others() -> None:
    windows = surprised(surprise_every_epochs=1)
    while windows.window.over:
        windows.go(windows.world.state.slot + 1)
    while not windows.window.mix:
        assert windows.world.state.slot < windows.window.start - 8
        windows.go(windows.world.state.slot + 1)
    assert windows.world.state.slot == windows.window.start - 8
    windows.commit(0, 1, 2)
    windows.draw()
    windows.reveal(0, 1, 2)
    windows.end()
    assert windows.rating(0) == 20 * 60 * 95 * 4 // (18 * 100 * 5)  # 20 segments in 18 s
    assert windows.rating(3) == 0


def test_a_surprise_window_does_not_run_into_a_regular_one() -> None:
    windows = brief(surprise_slots=1, surprise_every_epochs=1, window_every_epochs=6)
    for slot in range(1, 100):
        windows.go(slot)
        window = windows.window
        if window.start % 48:
            assert window.start + 10 <= next_regular(windows.world.genesis.params, slot) - 8
        if slot % 48 == 40:
            assert window.start == slot + 8


# -- blocks ----------------------------------------------------------------------------------------------


def test_a_block_with_a_rating_item_that_does_not_hold_is_refused() -> None:
    windows = brief()
    world = windows.world
    windows.announce()
    windows.go(26)
    good = made(windows)[0].commit
    block = world.build(slot=27)
    bad = world.reseal(block, Body(ratings=(good, good)))
    with pytest.raises(InvalidBlock, match=r"rating item 1: .*already"):
        apply_block(world.state, bad)
    assert apply_block(world.state, world.reseal(block, Body(ratings=(good,)))).window().claims == 1
    left_out = world.build(slot=27, ratings=[replace(good, joules=7), good, good])
    assert left_out.body.ratings == (good,)


def test_rating_items_are_capped() -> None:
    windows = brief(max_rating_items=2)
    world = windows.world
    windows.announce()
    windows.go(26)
    commits = tuple(work.commit for work in made(windows))
    block = world.build(slot=27, ratings=commits)
    assert block.body.ratings == commits[:2]
    with pytest.raises(InvalidBlock, match="caps"):
        apply_block(world.state, world.reseal(block, Body(ratings=commits[:3])))


def test_a_rating_item_that_is_too_large() -> None:
    windows = brief()
    windows.announce()
    windows.go(26)
    work = made(windows)[0]
    refused(windows, work.signed(replace(work.commit, trace_root=bytes(2**14))), 27, "16384 bytes")


def test_the_rating_section_is_under_the_root() -> None:
    windows = brief()
    windows.announce()
    windows.commit(0, 1, 2)
    block = windows.world.chain.block(windows.world.chain.head.id)
    body = block.body
    assert Body.decode(body.encode()) == body
    assert body.section_roots[1] == merkle.root([item.encoded for item in body.ratings])
    assert all(isinstance(item, Commit) for item in body.ratings)
    assert not replace(block, body=replace(body, ratings=body.ratings[:2])).root_ok()
    assert Reveal.KIND != Commit.KIND
