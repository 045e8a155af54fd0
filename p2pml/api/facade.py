"""The little that the HTTP API needs of a node, so that it can be served and tested without one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from p2pml.node import views
from p2pml.node.data_views import RemovedView, TarView, VerifiedView
from p2pml.node.job_views import MaterialView
from p2pml.node.net_views import BanView, ConnectionView, PingView, UnbannedView
from p2pml.node.rating_views import RankView, RatingView, WindowsView
from p2pml.node.validator_views import (
    ParametersView,
    RegistrationView,
    SponsorInviteView,
    ValidatorDetailView,
)
from p2pml.node.worker_views import WorkerView
from p2pml.storage.torrent_files import Choice


class NodeFacade(Protocol):
    """A node as the API sees it.

    Every method may raise `p2pml.errors.UserError`, which becomes an RFC 9457 problem; `views.NotFound` a
    404.
    """

    def status(self) -> views.StatusView: ...

    def not_ready_reason(self) -> str:
        """Why this node does not serve yet; empty when it does."""
        ...

    def peers(self) -> list[views.PeerView]: ...

    async def reachability(self) -> list[views.ReachView]:
        """Let peers dial this node back, or tell what they found within the last minute."""
        ...

    async def account(self, address: str) -> views.AccountView: ...

    async def transaction(self, tx_id: str) -> views.TransactionView: ...

    async def blocks(self, first: int | None, count: int) -> list[views.BlockView]:
        """Blocks from height `first` upward; the newest `count` ones when it is None. Ascending."""
        ...

    async def block(self, id_or_height: str) -> views.BlockView: ...

    def validators(self) -> list[views.ValidatorView]: ...

    def supply(self) -> views.SupplyView: ...

    def checkpoint(self) -> views.CheckpointView:
        """The newest final block, for others to begin at."""
        ...

    @property
    def data(self) -> DataFacade: ...

    @property
    def net(self) -> NetFacade: ...

    @property
    def validating(self) -> ValidatorFacade: ...

    @property
    def rating(self) -> RatingFacade: ...

    @property
    def worker(self) -> WorkerFacade: ...

    def jobs(self) -> list[dict[str, Any]]: ...

    def job(self, job_id: str) -> dict[str, Any]: ...

    async def job_log(self, job_id: str, after: int) -> list[dict[str, Any]]:
        """The lines of its log with numbers greater than `after`."""
        ...

    async def submit(self, encoded: bytes) -> views.SubmittedView:
        """Take a signed, encoded transaction."""
        ...

    async def submit_batch(self, encoded: Sequence[bytes]) -> views.BatchView:
        """Take several in their order; one that is refused does not keep the others back."""
        ...

    async def job_spec(self, job_id: str) -> str:
        """Its spec as it was given."""
        ...

    async def start_job(self, spec: str, base_dir: Path, origin: str) -> views.StartedJobView: ...

    async def quote_job(self, spec: str, base_dir: Path, origin: str) -> views.QuoteView:
        """What a job would take; nothing is begun."""
        ...

    async def job_material(self, job_id: str) -> MaterialView:
        """Where the files of a job that is over are, and its data set."""
        ...

    async def resume_job(self, job_id: str) -> views.StartedJobView: ...

    async def stop_job(self, job_id: str) -> None: ...

    def events_since(self, after: int) -> list[views.EventView]: ...

    @property
    def first_event_id(self) -> int:
        """The id of the oldest event that is kept; of the first one to come while there is none."""
        ...

    @property
    def last_event_id(self) -> int: ...

    async def wait_for_events(self, after: int) -> None:
        """Return as soon as there is an event with a greater id."""
        ...

    def request_shutdown(self) -> None: ...


class DataFacade(Protocol):
    """A node's datasets; `key` is a name or an info-hash. Raises as `NodeFacade`."""

    def datasets(self) -> list[views.DatasetView]: ...

    def dataset(self, key: str) -> views.DatasetView: ...

    async def tars(self, key: str, limit: int) -> list[TarView]:
        """The first `limit` members of each tar file in it that is wholly here."""
        ...

    async def seed(
        self,
        path: Path,
        name: str | None,
        private: bool,
        allowed: tuple[str, ...],
        hybrid: bool,
        trackers: tuple[str, ...] = (),
    ) -> views.DatasetView:
        """Hash a file or folder and offer it to others."""
        ...

    async def get(
        self,
        key: str,
        metainfo: bytes | None,
        wanted: tuple[int, ...] | None,
        peers: tuple[str, ...] = (),
        choices: tuple[Choice, ...] = (),
    ) -> views.DatasetView:
        """Start to fetch a dataset; returns once its metainfo is known. `peers`: clients by `host:port`.
        `choices`: what of it, and what first.
        """
        ...

    async def remove(self, key: str, with_data: bool) -> RemovedView:
        """Forget it, and delete what was fetched if asked; the user's own files are never touched."""
        ...

    async def verify(self, key: str) -> VerifiedView:
        """Hash it anew; what is damaged is fetched again."""
        ...

    async def pause(self, key: str) -> views.DatasetView:
        """Neither fetch nor serve it."""
        ...

    async def resume(self, key: str) -> views.DatasetView:
        """Undo `pause`."""
        ...


class NetFacade(Protocol):
    """A node's connections; `peer` is an id, a part of one, or a name. Raises as `NodeFacade`."""

    def connections(self) -> list[ConnectionView]: ...

    def bans(self) -> list[BanView]: ...

    async def ping(self, peer: str) -> PingView:
        """One round trip; connects first where needed."""
        ...

    def ban(self, peer: str, seconds: float | None, reason: str) -> BanView:
        """Disconnect a peer and keep it away; without `seconds`, longer at each repetition."""
        ...

    def unban(self, peer: str) -> UnbannedView: ...


class ValidatorFacade(Protocol):
    """Validators, what they decide, and who pays for them. Raises as `NodeFacade`."""

    def parameters(self) -> ParametersView: ...

    def validator(self, who: str | None) -> ValidatorDetailView:
        """One validator by address or name; this node itself when None."""
        ...

    async def register(self, name: str | None, bond: int | None) -> views.SubmittedView:
        """Make this node a validator, or change its name and add to its bond; its own account pays."""
        ...

    async def registration(self, name: str | None, bond: int | None, sponsor: str) -> RegistrationView:
        """The same for another account to sign and pay, with this node's consent; nothing is sent."""
        ...

    async def propose(self, dataset: str, q_min: int | None, q_ref: int | None) -> views.SubmittedView:
        """Propose another baseline."""
        ...

    async def approve(self, proposal: str) -> views.SubmittedView: ...

    async def invite(self, bond: int | None, uses: int, hours: int) -> SponsorInviteView:
        """Promise to pay for newcomers."""
        ...


class RatingFacade(Protocol):
    """Ratings and their windows. Raises as `NodeFacade`."""

    def rating(self, who: str | None) -> RatingView:
        """By name or address; this node's own when it is None."""
        ...

    def leaderboard(self) -> list[RankView]:
        """Every validator, the highest rating first."""
        ...

    def windows(self) -> WindowsView | None:
        """When the next window starts, and how far the latest one is; None where the network has none."""
        ...


class WorkerFacade(Protocol):
    """The process that trains. Raises as `NodeFacade`."""

    def status(self) -> WorkerView: ...

    async def pause(self) -> WorkerView:
        """Let it rest until it is resumed, also over a restart of the node."""
        ...

    async def resume(self) -> WorkerView:
        """Undo `pause`; it may rest for other reasons."""
        ...
