"""A node made of canned answers, behind the real application."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from p2pml.errors import ExitCode, UserError
from p2pml.node import views
from p2pml.node.data_views import MemberView, RemovedView, TarView, VerifiedView
from p2pml.node.events import Events
from p2pml.node.job_views import MaterialView
from p2pml.node.net_views import BanView, ConnectionView, PingView, UnbannedView
from p2pml.node.rating_views import (
    EnergyView,
    OddsView,
    OutcomeView,
    PhaseView,
    RankView,
    RatingView,
    WindowsView,
    WindowView,
)
from p2pml.node.validator_views import (
    AdoptedView,
    BaselineView,
    ParametersView,
    ProposalView,
    RegistrationView,
    SponsorInviteView,
    ValidatorDetailView,
)
from p2pml.node.worker_views import WorkerView
from p2pml.storage.torrent_files import Choice

ADDRESS = "pml1someone"


class FakeNode:
    """Implements `p2pml.api.facade.NodeFacade`; remembers what it was asked to do."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.events = Events(keep=10)
        self.data = FakeData(self.calls)
        self.net = FakeNet(self.calls)
        self.validating = FakeValidating(self.calls)
        self.rating = FakeRating()
        self.worker = FakeWorker(self.calls)
        self.reason = ""
        self.shutdown = trio.Event()

    def status(self) -> views.StatusView:
        head = views.HeadView(id="ab" * 32, height=3, slot=5, final_height=1)
        return views.StatusView(
            version="0",
            name="fake",
            pid=1,
            uptime_s=1.0,
            peer_id="12D3",
            addresses=[],
            account=ADDRESS,
            network="test",
            chain_id="cd" * 32,
            transport="fast",
            head=head,
            slot=6,
            slot_ms=2000,
            behind=0,
            peers=2,
            trainer=True,
            worker="starting",
            worker_reason="",
            balance=5,
            rating=10,
            datasets=0,
            jobs_running=0,
        )

    def not_ready_reason(self) -> str:
        return self.reason

    def peers(self) -> list[views.PeerView]:
        return [views.PeerView("12D3b", "b\x1b[2J", ADDRESS, 10, True, False, 3, True, [])]

    async def reachability(self) -> list[views.ReachView]:
        return [views.ReachView("12D3KooWpeer", "fake", "192.0.2.7", {"/ip4/192.0.2.7/tcp/9470": False})]

    async def account(self, address: str) -> views.AccountView:
        if address != ADDRESS:
            raise UserError(f"{address!r} is not an address", "copy it again", ExitCode.USAGE)
        return views.AccountView(ADDRESS, 5, 0, 1, 10, 7, 3, 12, [self._transaction()])

    async def transaction(self, tx_id: str) -> views.TransactionView:
        if tx_id != "11" * 32:
            raise views.NotFound(f"there is no transaction {tx_id}")
        return self._transaction()

    async def blocks(self, first: int | None, count: int) -> list[views.BlockView]:
        self.calls.append(("blocks", first, count))
        return []

    async def block(self, id_or_height: str) -> views.BlockView:
        raise views.NotFound(f"there is no block {id_or_height}")

    def validators(self) -> list[views.ValidatorView]:
        return [views.ValidatorView(ADDRESS, "fake", 10, 1.0)]

    def supply(self) -> views.SupplyView:
        return views.SupplyView(100, 5, 0, 85, 10, 5, 5, True)

    def checkpoint(self) -> views.CheckpointView:
        return views.CheckpointView(7, "22" * 32, "33" * 32, f"7:{'22' * 32}:{'33' * 32}")

    def jobs(self) -> list[dict[str, Any]]:
        return []

    def job(self, job_id: str) -> dict[str, Any]:
        raise RuntimeError("a bug with a secret in it")

    async def job_log(self, job_id: str, after: int) -> list[dict[str, Any]]:
        self.calls.append(("log", job_id, after))
        return [{"number": after + 1, "at": 0.0, "text": "begun"}]

    async def job_spec(self, job_id: str) -> str:
        return f"name: {job_id}"

    async def submit_batch(self, encoded: Sequence[bytes]) -> views.BatchView:
        self.calls.append(("batch", *encoded))
        return views.BatchView(["11" * 32], [views.RefusedView(1, "the nonce is 3")])

    async def submit(self, encoded: bytes) -> views.SubmittedView:
        self.calls.append(("submit", encoded))
        return views.SubmittedView("11" * 32)

    async def start_job(self, spec: str, base_dir: Path, origin: str) -> views.StartedJobView:
        raise UserError(f"{origin}:2: unknown key 'epoch'", "did you mean 'epochs'?", ExitCode.BAD_CONFIG)

    async def quote_job(self, spec: str, base_dir: Path, origin: str) -> views.QuoteView:
        self.calls.append(("quote", spec, base_dir, origin))
        return views.QuoteView("job", 3, 0, 0, 1, 0, 1, [])

    async def job_material(self, job_id: str) -> MaterialView:
        self.calls.append(("material", job_id))
        return MaterialView(job_id, "/folder", "/data", "/output")

    async def resume_job(self, job_id: str) -> views.StartedJobView:
        self.calls.append(("resume", job_id))
        return views.StartedJobView(job_id, 7)

    async def stop_job(self, job_id: str) -> None:
        self.calls.append(("stop", job_id))

    def events_since(self, after: int) -> list[views.EventView]:
        return [views.EventView(event.id, event.kind, event.data) for event in self.events.since(after)]

    @property
    def first_event_id(self) -> int:
        return self.events.first_id

    @property
    def last_event_id(self) -> int:
        return self.events.last_id

    async def wait_for_events(self, after: int) -> None:
        await self.events.wait(after)

    def request_shutdown(self) -> None:
        self.shutdown.set()

    def _transaction(self) -> views.TransactionView:
        return views.TransactionView("11" * 32, "transfer", ADDRESS, 0, 1, 9, {"amount": 1}, 2, "ab" * 32)


class FakeData:
    """Implements `p2pml.api.facade.DataFacade`; knows one dataset and notes what it is asked to do."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self.calls = calls

    def datasets(self) -> list[views.DatasetView]:
        return [self._dataset()]

    def dataset(self, key: str) -> views.DatasetView:
        if key != "d & co?":
            raise views.NotFound(f"there is no data set {key}")
        return self._dataset()

    async def tars(self, key: str, limit: int) -> list[TarView]:
        self.calls.append(("tars", key, limit))
        return [TarView(0, [MemberView("a", 512, 3)], True)]

    async def seed(
        self,
        path: Path,
        name: str | None,
        private: bool,
        allowed: tuple[str, ...],
        hybrid: bool,
        trackers: tuple[str, ...] = (),
    ) -> views.DatasetView:
        self.calls.append(("seed", path, name, private, allowed, hybrid, trackers))
        return self._dataset()

    async def get(
        self,
        key: str,
        metainfo: bytes | None,
        wanted: tuple[int, ...] | None,
        peers: tuple[str, ...] = (),
        choices: tuple[Choice, ...] = (),
    ) -> views.DatasetView:
        self.calls.append(("get", key, metainfo, wanted, peers, *choices))
        return self._dataset()

    async def remove(self, key: str, with_data: bool) -> RemovedView:
        self.calls.append(("remove", key, with_data))
        return RemovedView("ef" * 20, key, "/kept")

    async def verify(self, key: str) -> VerifiedView:
        self.calls.append(("verify", key))
        return VerifiedView("ef" * 20, key, 9, 7, [3, 5], True)

    async def pause(self, key: str) -> views.DatasetView:
        self.calls.append(("pause", key))
        return self._dataset()

    async def resume(self, key: str) -> views.DatasetView:
        self.calls.append(("resume", key))
        return self._dataset()

    def _dataset(self) -> views.DatasetView:
        return views.DatasetView(
            infohash="ef" * 20,
            name="d",
            size=1,
            private=False,
            in_place=True,
            complete=True,
            have=1,
            pieces=1,
            wanted=1,
            peers=0,
            rate_down=0.0,
            rate_up=0.0,
            sources={},
            sent={},
            files=[],
            folder="/",
            torrent_file="/d.torrent",
        )


class FakeNet:
    """Implements `p2pml.api.facade.NetFacade`; notes what it is asked to do."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self.calls = calls

    def connections(self) -> list[ConnectionView]:
        return [ConnectionView("12D3", "b", "in", False, "192.0.2.1:9", 1.5, -3, 12.0)]

    def bans(self) -> list[BanView]:
        return [BanView("12D3", "b", 5000, 3, 2, "lied")]

    async def ping(self, peer: str) -> PingView:
        self.calls.append(("ping", peer))
        return PingView(peer, "b", 1.25)

    def ban(self, peer: str, seconds: float | None, reason: str) -> BanView:
        self.calls.append(("ban", peer, seconds, reason))
        return BanView(peer, "b", 5000, 3, 1, reason)

    def unban(self, peer: str) -> UnbannedView:
        self.calls.append(("unban", peer))
        return UnbannedView(peer)


class FakeValidating:
    """Implements `p2pml.api.facade.ValidatorFacade`; notes what it is asked to do."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self.calls = calls

    def parameters(self) -> ParametersView:
        baseline = BaselineView("00" * 20, "bundled digits", 1, 2)
        proposal = ProposalView("44" * 32, ADDRESS, "fake\x1b[2J", baseline, 70, [ADDRESS], 10, 20)
        coming = [AdoptedView(5, BaselineView("55" * 20, "", 3, 4))]
        return ParametersView({"slot_ms": 2000, "min_fee": 10**7}, 66, 4, baseline, coming, [proposal])

    def validator(self, who: str | None) -> ValidatorDetailView:
        if who not in (None, "fake", ADDRESS):
            raise views.NotFound(f"no validator is called {who!r}")
        return ValidatorDetailView(
            ADDRESS, "fake", who is None, False, 0, 0, 0.0, 0.0, 10**8, 5, 0, "66" * 32, 1
        )

    async def register(self, name: str | None, bond: int | None) -> views.SubmittedView:
        self.calls.append(("register", name, bond))
        return views.SubmittedView("11" * 32)

    async def registration(self, name: str | None, bond: int | None, sponsor: str) -> RegistrationView:
        self.calls.append(("registration", name, bond, sponsor))
        return RegistrationView("00", 1, 2)

    async def propose(self, dataset: str, q_min: int | None, q_ref: int | None) -> views.SubmittedView:
        self.calls.append(("propose", dataset, q_min, q_ref))
        return views.SubmittedView("11" * 32)

    async def approve(self, proposal: str) -> views.SubmittedView:
        self.calls.append(("approve", proposal))
        return views.SubmittedView("11" * 32)

    async def invite(self, bond: int | None, uses: int, hours: int) -> SponsorInviteView:
        self.calls.append(("invite", bond, uses, hours))
        return SponsorInviteView(ADDRESS, "77" * 16, 10**8, 2**42)


class FakeRating:
    """Implements `p2pml.api.facade.RatingFacade`."""

    def rating(self, who: str | None) -> RatingView:
        if who not in (None, "fake", ADDRESS):
            raise views.NotFound(f"no validator is called {who!r}")
        outcome = OutcomeView(64, 130_000, 10_000, 30, 6, 940_000, 990_000, 1_010_000, "rated", 3, 1)
        return RatingView(
            ADDRESS, "fake\x1b[2J", who is None, 28, 0, 11, 500_000, 5, [outcome], 30, 933_334, 28,
            [OddsView(4, 28, 0.25), OddsView(7, 30, 0.3)], EnergyView(64, 6, 10, 4915), ["add lanes"],
        )  # fmt: skip

    def leaderboard(self) -> list[RankView]:
        return [
            RankView(
                1, ADDRESS, "fake\x1b[2J", True, 28, 0.25, 6, 940_000, "rated", 2, 1, 11,
                EnergyView(64, 6, 10, 4915),
            ),
            RankView(2, ADDRESS, "new", False, 0, 0.0, None, None, None, 0, 0, None, None),
        ]  # fmt: skip

    def windows(self) -> WindowsView | None:
        phases = [PhaseView("training", 64, 69, 130_000, 140_000)]
        latest = WindowView(64, 130_000, 5, False, False, False, phases[0], phases, 4, 3, 1, 2, 0)
        return WindowsView(66, 2000, 64, 13, 128, 120, 242_000, latest)


class FakeWorker:
    """Implements `p2pml.api.facade.WorkerFacade`; notes what it is asked to do."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self.calls = calls
        self.rests: list[str] = []

    def status(self) -> WorkerView:
        return WorkerView("ready", "", self.rests, 77, {"python": "3"}, True, 1, None, 60)

    async def pause(self) -> WorkerView:
        self.calls.append(("pause worker",))
        self.rests = ["paused"]
        return self.status()

    async def resume(self) -> WorkerView:
        self.calls.append(("resume worker",))
        self.rests = []
        return self.status()


@pytest.fixture
def fake_node() -> FakeNode:
    return FakeNode()
