"""The little that the HTTP API needs of a node, so that it can be served and tested without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from p2pml.node import views


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

    async def account(self, address: str) -> views.AccountView: ...

    async def transaction(self, tx_id: str) -> views.TransactionView: ...

    async def blocks(self, first: int | None, count: int) -> list[views.BlockView]:
        """Blocks from height `first` upward; the newest `count` ones when it is None. Ascending."""
        ...

    async def block(self, id_or_height: str) -> views.BlockView: ...

    def validators(self) -> list[views.ValidatorView]: ...

    def supply(self) -> views.SupplyView: ...

    def datasets(self) -> list[views.DatasetView]: ...

    def dataset(self, name_or_hash: str) -> views.DatasetView: ...

    def jobs(self) -> list[dict[str, Any]]: ...

    def job(self, job_id: str) -> dict[str, Any]: ...

    async def submit(self, encoded: bytes) -> views.SubmittedView:
        """Take a signed, encoded transaction."""
        ...

    async def seed(
        self, path: Path, name: str | None, private: bool, allowed: tuple[str, ...]
    ) -> views.DatasetView:
        """Hash a file or folder and offer it to others."""
        ...

    async def get(
        self, name_or_hash: str, metainfo: bytes | None, wanted: tuple[int, ...] | None
    ) -> views.DatasetView:
        """Start to fetch a dataset; returns once its metainfo is known."""
        ...

    async def start_job(self, spec: str, base_dir: Path, origin: str) -> views.StartedJobView: ...

    async def stop_job(self, job_id: str) -> None: ...

    def events_since(self, after: int) -> list[views.EventView]: ...

    @property
    def last_event_id(self) -> int: ...

    async def wait_for_events(self, after: int) -> None:
        """Return as soon as there is an event with a greater id."""
        ...

    def request_shutdown(self) -> None: ...
