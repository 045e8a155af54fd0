"""Nodes in rating windows: honest ones, one that restarts, one that shows nothing, ones that cheat."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from chain.baseline.draws import challenge
from chain.quality import BUNDLED
from chain.rating.court import Court
from chain.rating.items import (
    Accusation,
    Answer,
    AuditCommit,
    AuditReveal,
    Challenge,
    Point,
    ProvenLeaf,
    Reveal,
)
from p2pml.errors import UserError
from p2pml.net.errors import RemoteError
from p2pml.net.host import Host
from p2pml.net.rating_exchange import MAX_POSITIONS, PROTOCOL, Question, ask_leaves
from p2pml.node import rating_baseline
from p2pml.node.rating_baseline import read_kept
from p2pml.node.rating_parts import RatingParts
from p2pml.node.rating_service import MAX_NAMESAKES
from p2pml.worker.lanes.pool import LanesFailed, Look, Plan, Window
from tests.node.rating_nodes import SMALL, Net, SharedChain, rated_net, train_two_episodes

pytestmark = pytest.mark.slow


async def reveal(net: Net, count: int = 4) -> None:
    """From the commitments to the end of the reveals."""
    borders = net.chain.windows.borders
    net.chain.go(borders.commit_end)
    await net.until(lambda: net.chain.waiting(Reveal) == count)
    net.chain.go(borders.commit_end + 1)
    net.chain.go(borders.reveal_end)


async def seal(net: Net, count: int = 4) -> None:
    """To the sealed reports."""
    borders = net.chain.windows.borders
    net.chain.pass_slot(borders.reveal_end + 1)
    await net.until_asked(lambda: net.chain.waiting(AuditCommit) == count)
    net.chain.go(net.chain.slot)


async def unseal(net: Net, count: int = 4) -> None:
    """To the opened reports and the draw of the spots."""
    borders = net.chain.windows.borders
    net.chain.go(borders.audit_commit_end)
    await net.until(lambda: net.chain.waiting(AuditReveal) == count)
    net.chain.go(borders.audit_commit_end + 1)
    net.chain.go(borders.audit_reveal_end)


async def end(net: Net) -> None:
    """To the ratings."""
    net.chain.go(net.chain.windows.borders.end)
    await net.until(lambda: all(node.told("rating.rated") for node in net.nodes))


async def rule(net: Net) -> None:
    """To the block with the ruling on an accusation."""
    await net.until_asked(lambda: net.chain.waiting(Accusation))
    net.chain.pass_slot(net.chain.slot + 1)
    await net.until(lambda: any(node.told("rating.ruled") for node in net.nodes))
    net.chain.go(net.chain.slot)


def convicted(net: Net) -> list[int]:
    """Who has been punished."""
    validators = (net.chain.state().validator(node.account) for node in net.nodes)
    return [i for i, validator in enumerate(validators) if validator is not None and validator.convicted]


async def test_a_window_from_its_announcement_to_ratings(tmp_path: Path) -> None:
    async with rated_net(tmp_path) as net:
        await net.start()
        await net.announce()
        await net.commit(4)
        await reveal(net)
        await seal(net)
        await unseal(net)
        await end(net)
        assert convicted(net) == []
        for node in net.nodes:
            [rated] = node.told("rating.rated")
            assert rated["reason"] == "rated"
            assert rated["rating"] > 0
            assert (rated["segments"], rated["duties"], rated["missed"]) == (20, 3, 0)
            assert len(node.told("rating.committed")) == 1
            assert node.rests == [True, False]
            audits = node.told("rating.audit")
            assert len(audits) == 3
            assert all(audit["served"] and not audit["false"] for audit in audits)


async def test_what_was_committed_and_sealed_survives_a_restart(tmp_path: Path) -> None:
    """Nothing but the disk is left of a node that is stopped after its commitment, and after its seal."""
    async with rated_net(tmp_path) as net:
        await net.start()
        await net.announce()
        await net.commit(4)
        await net.nodes[0].stop()
        await net.start(0)
        await reveal(net)
        await seal(net)
        await net.nodes[1].stop()
        await net.start(1)
        await unseal(net)
        await end(net)
        for node in net.nodes:
            assert node.told("rating.rated")[0]["reason"] == "rated"
            assert node.told("rating.rated")[0]["missed"] == 0


@pytest.mark.parametrize("passes", ["a block", "a slot"])
async def test_what_happens_while_a_duty_is_done_wakes_it_again(passes: str) -> None:
    chain = SharedChain(1)
    parts = RatingParts(chain, *[None] * 4)  # type: ignore[arg-type, call-arg]
    seen = parts.view()
    if passes == "a block":
        chain.go(chain.slot)
    else:
        chain.pass_slot(chain.slot + 1)
    with trio.fail_after(5):
        await parts.wait(seen)


async def test_who_comes_when_the_window_runs_misses_it_and_says_so(tmp_path: Path) -> None:
    async with rated_net(tmp_path) as net:
        await net.start(0, 1, 2)
        await net.announce()
        await net.until(lambda: all(node.told("rating.window") for node in net.nodes[:3]))
        net.chain.pass_slot(net.chain.state().window().start + 1)
        await net.start(3)
        await net.until(lambda: net.nodes[3].told("rating.missed"))
        assert "was not there when the window began" in net.nodes[3].told("rating.missed")[0]["reason"]
        await net.commit(3)
        await reveal(net, 3)
        await seal(net)
        await unseal(net)
        await end(net)
        assert net.nodes[3].told("rating.rated")[0]["reason"] == "no_claim"
        assert net.nodes[3].told("rating.rated")[0]["missed"] == 0  # what it was drawn for it did


async def test_without_the_data_set_a_node_takes_no_part_and_says_so(tmp_path: Path) -> None:
    async with rated_net(tmp_path) as net:
        await net.start()
        node = net.nodes[3]
        await net.announce()
        node.service.baselines.problems[BUNDLED] = "nobody has it"
        del node.service.baselines._ready[BUNDLED]
        node.service.baselines._retry_at[BUNDLED] = trio.current_time() + 60
        net.chain.pass_slot(start := net.chain.state().window().start)
        await trio.testing.wait_all_tasks_blocked(0.1)
        net.chain.pass_slot(start + 1)
        await net.until(lambda: node.told("rating.missed"))
        assert "is not here: nobody has it" in node.told("rating.missed")[0]["reason"]


async def test_data_that_are_ready_in_the_window_s_first_slot_are_trained_on(tmp_path: Path) -> None:
    async with rated_net(tmp_path) as net:
        await net.start(0)
        node = net.nodes[0]
        baselines = node.service.baselines
        del baselines._ready[BUNDLED]
        baselines._retry_at[BUNDLED] = math.inf
        await net.announce()
        start = net.chain.state().window().start
        net.chain.pass_slot(start)
        await trio.testing.wait_all_tasks_blocked(0.1)
        del baselines._retry_at[BUNDLED]
        net.chain.go(start)
        await net.until(lambda: node.told("rating.committed") or node.told("rating.missed"))
        assert not node.told("rating.missed")


async def test_data_that_the_disk_has_spoiled_since_are_prepared_anew_before_anybody_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rating_baseline, "load_baseline", lambda path: SMALL)
    sound: list[bool] = []

    async def lanes(plan: Plan, progress: Callable[[Look], None]) -> Window:
        sound.append(read_kept(plan.folder) is not None)
        return await train_two_episodes(plan, progress)

    async with rated_net(tmp_path) as net:
        node = net.nodes[0]
        node.lanes = lanes
        await net.start(0)
        samples = node.service.baselines.folder_of(BUNDLED) / "x.npy"
        data = bytearray(samples.read_bytes())
        data[-2] ^= 1
        samples.write_bytes(data)
        await net.announce()
        net.chain.pass_slot(net.chain.state().window().start)
        await net.until(lambda: node.told("rating.committed"))
        assert sound == [True]


async def test_lanes_that_fail_are_a_miss_and_no_more(tmp_path: Path) -> None:
    async def fail(plan: Plan, progress: Callable[[Look], None]) -> Window:
        await trio.lowlevel.checkpoint()
        raise LanesFailed("its process ended")

    async def nothing(plan: Plan, progress: Callable[[Look], None]) -> Window:
        await trio.lowlevel.checkpoint()
        return Window((), 0, None, 1)

    async with rated_net(tmp_path) as net:
        net.nodes[2].lanes, net.nodes[3].lanes = fail, nothing
        await net.start()
        await net.announce()
        net.chain.pass_slot(net.chain.state().window().start)
        await net.until(lambda: net.nodes[2].told("rating.missed") and net.nodes[3].told("rating.missed"))
        assert "no lane could train: its process ended" in net.nodes[2].told("rating.missed")[0]["reason"]
        assert "finished an episode of 8 segments" in net.nodes[3].told("rating.missed")[0]["reason"]
        assert net.nodes[2].rests[-1:] in ([], [False])


async def test_another_branch_with_another_challenge_is_trained_for_anew(tmp_path: Path) -> None:
    challenges: list[bytes] = []

    async def lanes(plan: Plan, progress: Callable[[Look], None]) -> Window:
        challenges.append(plan.challenge)
        if len(challenges) == 1:
            await trio.sleep_forever()
        return await train_two_episodes(plan, progress)

    async with rated_net(tmp_path) as net:
        node = net.nodes[0]
        node.lanes = lanes
        await net.start()
        await net.announce()
        await net.until(lambda: challenges)
        window = net.chain.state().window()
        net.chain.pass_slot(window.start + 2)
        net.chain.turn_to(replace(window, mix=b"\x0b" * 32))
        await net.until(lambda: node.told("rating.committed"))
        assert challenges[1] == challenge(b"\x0b" * 32, window.start, node.account) != challenges[0]
        assert node.rests[-1] is False


async def test_nobody_is_accused_before_a_second_replay_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Court, "judge", lambda court, case: False)
    async with rated_net(tmp_path) as net:
        net.nodes[1].lanes = liar(5)  # type: ignore[assignment]
        await net.start()
        await net.announce()
        await net.commit(4)
        await reveal(net)
        await seal(net)
        assert any(audit["false"] for node in net.nodes for audit in node.told("rating.audit"))
        assert net.chain.waiting(Accusation) == 0
        assert not any(node.told("rating.accused") for node in net.nodes)


async def test_those_who_only_say_that_they_are_a_subject_hide_it_from_nobody(tmp_path: Path) -> None:
    """Neither five who never answer, nor more than are asked at once who are nowhere."""
    async with rated_net(tmp_path) as net, trio.open_nursery() as nursery:
        await net.start()
        node = net.nodes[0]
        own = net.network[node.account]
        for i in range(5):
            host = await nursery.start(silent_host, bytes([i + 70]) * 32)
            own.learn(host.peer_id, host.addrs())
            node.namesakes.append(host.peer_id)
        await net.announce()
        await net.commit(4)
        await reveal(net)
        await net.until(lambda: len(node.told("rating.audit")) == 3)
        assert all(audit["served"] for audit in node.told("rating.audit"))
        node.namesakes[:] = [Host(bytes([i]) * 32).peer_id for i in range(MAX_NAMESAKES + 40)]
        question = Question(net.chain.state().window().start, net.nodes[1].account, (0, 3))
        shown: tuple[ProvenLeaf, ...] = ()
        while not shown:
            shown = await node.service._ask(question)
        assert sorted(leaf.index for leaf in shown) == [0, 2, 3]
        nursery.cancel_scope.cancel()


async def silent_host(seed: bytes, *, task_status: trio.TaskStatus[Host] = trio.TASK_STATUS_IGNORED) -> None:
    """A node that takes questions for leaves and never answers."""

    async def wait(stream: object) -> None:
        await trio.sleep_forever()

    async with Host(seed).running() as host:
        host.handle(PROTOCOL, wait)
        task_status.started(host)
        await trio.sleep_forever()


async def test_who_serves_nothing_is_challenged_and_answers_on_the_chain(tmp_path: Path) -> None:
    async with rated_net(tmp_path) as net:
        await net.start()
        await net.announce()
        await net.commit(4)
        silent = net.nodes[0]
        net.unreachable.add(silent.account)
        await reveal(net)
        borders = net.chain.windows.borders
        net.chain.pass_slot(borders.audit_commit_end - 3)
        await net.until(lambda: net.chain.waiting(AuditCommit) == 4 and net.chain.waiting(Challenge) == 3)
        net.chain.go(borders.audit_commit_end - 1)
        await net.until(lambda: net.chain.waiting(Answer) == 3)
        assert [len(node.told("rating.accused")) for node in net.nodes] == [0, 0, 0, 0]
        await unseal(net)
        await end(net)
        assert silent.told("rating.rated")[0]["reason"] == "rated"


def liar(place: int) -> Callable[[Plan, Callable[[Look], None]], object]:
    """Lanes that did not train the segment at one place."""

    async def lanes(plan: Plan, progress: Callable[[Look], None]) -> Window:
        window = await train_two_episodes(plan, progress)
        leaves = list(window.leaves)
        leaves[place] = replace(leaves[place], digest=bytes(32))
        return replace(window, leaves=tuple(leaves))

    return lanes


async def test_a_false_segment_is_accused_ruled_on_and_punished(tmp_path: Path) -> None:
    async with rated_net(tmp_path) as net:
        net.nodes[1].lanes = liar(5)  # type: ignore[assignment]
        await net.start()
        await net.announce()
        await net.commit(4)
        await reveal(net)
        await rule(net)
        assert convicted(net) == [1]
        [accused] = [data for node in net.nodes for data in node.told("rating.accused")]
        assert accused["accused"] == net.nodes[1].account.hex()
        assert accused["charge"] == "segment"


async def test_what_is_shown_only_when_it_was_challenged_is_replayed_too(tmp_path: Path) -> None:
    """Or made-up work would be rated whose author shows it to nobody but the chain."""
    async with rated_net(tmp_path) as net:
        silent = net.nodes[0]
        silent.lanes = liar(5)  # type: ignore[assignment]
        net.unreachable.add(silent.account)
        await net.start()
        await net.announce()
        await net.commit(4)
        await reveal(net)
        borders = net.chain.windows.borders
        net.chain.pass_slot(borders.audit_commit_end - 3)
        await net.until(lambda: net.chain.waiting(Challenge) == 3)
        net.chain.go(borders.audit_commit_end - 1)
        await net.until(lambda: net.chain.waiting(Answer) == 3)
        net.chain.go(borders.audit_commit_end)
        await rule(net)
        assert convicted(net) == [0]


async def test_who_computed_wrongly_says_nothing_rather_than_be_convicted(tmp_path: Path) -> None:
    async with rated_net(tmp_path) as net:
        faulty = net.nodes[1]

        async def lanes(plan: Plan, progress: Callable[[Look], None]) -> Window:
            window = await train_two_episodes(plan, progress)
            spoiled = [
                replace(leaf, digest=bytes(32)) if leaf.segment == 7 else leaf for leaf in window.leaves
            ]
            return replace(window, leaves=tuple(spoiled))

        faulty.lanes = lanes
        await net.start()
        await net.announce()
        await net.commit(4)
        await reveal(net, 3)
        assert "computes wrongly" in faulty.told("rating.missed")[0]["reason"]
        await seal(net)
        await unseal(net)
        await end(net)
        assert convicted(net) == []
        assert faulty.told("rating.rated")[0]["reason"] == "not_revealed"


async def test_a_challenge_that_a_full_pool_refused_is_sent_again(tmp_path: Path) -> None:
    async with rated_net(tmp_path) as net:
        await net.start()
        await net.announce()
        await net.commit(4)
        net.unreachable.add(net.nodes[0].account)
        await reveal(net)
        full, send = True, net.chain.send_rating

        async def refusing(point: Point) -> None:
            if full and isinstance(point, Challenge):
                raise UserError("the pool of waiting rating items is full")
            await send(point)

        net.chain.send_rating = refusing  # type: ignore[method-assign]
        borders = net.chain.windows.borders
        net.chain.pass_slot(borders.audit_commit_end - 3)
        await net.until(lambda: net.chain.waiting(AuditCommit) == 4)
        assert net.chain.waiting(Challenge) == 0
        full = False
        net.chain.pass_slot(borders.audit_commit_end - 2)
        await net.until(lambda: net.chain.waiting(Challenge) == 3)


async def test_an_auditor_with_a_false_mark_is_accused_by_the_next_one(tmp_path: Path) -> None:
    async with rated_net(tmp_path) as net:
        await net.start()
        await net.announce()
        await net.commit(4)
        await reveal(net)
        lazy = net.nodes[2]
        audits = lazy.service._audits
        net.chain.pass_slot(net.chain.windows.borders.reveal_end)
        await net.until(lambda: len(audits._found) == 3)
        for subject, finding in audits._found.items():
            made_up = replace(finding.report, marks=b"\x07" * len(finding.report.marks))
            audits._found[subject] = replace(finding, report=made_up)
        await seal(net)
        await unseal(net)
        await rule(net)
        assert convicted(net) == [2]


async def test_strangers_who_ask_for_leaves(tmp_path: Path) -> None:
    """Garbage resets the stream; a trace that is not here is an answer without leaves; the node lives on."""
    async with rated_net(tmp_path) as net:
        await net.start()
        await net.announce()
        await net.commit(4)
        node, host = net.nodes[0], net.network[net.nodes[1].account]
        peer = net.peer_of(node, host)
        window = net.chain.state().window().start
        for garbage in (b"", b"\xc1", b"\x94\x01\x02", bytes(2000)):
            with pytest.raises(RemoteError):
                await host.request(peer, PROTOCOL, garbage, 5)
        for wrong in (
            Question(window, net.nodes[1].account, (0,)),
            Question(window + 1, node.account, (0,)),
            Question(window, node.account, (10**9,)),
        ):
            assert await ask_leaves(host, peer, wrong) == ()
        with pytest.raises(RemoteError):
            await ask_leaves(host, peer, Question(window, node.account, tuple(range(MAX_POSITIONS + 1))))
        leaves = await ask_leaves(host, peer, Question(window, node.account, (0, 3, 10**9)))
        assert [leaf.index for leaf in leaves] == [0, 2, 3]
