"""A node's answers about ratings and their windows: `p2pml.api.facade.RatingFacade`."""

from __future__ import annotations

from collections.abc import Callable

from p2pml.node import views
from p2pml.node.chain_service import ChainService
from p2pml.node.rating_explained import leaderboard, rating_view
from p2pml.node.rating_views import RankView, RatingView, WindowsView
from p2pml.node.rating_windows import latest_window, phase_at, windows_view
from p2pml.node.validator_api import no_validator, public_of


class RatingApi:
    """See the facade for what each method promises.

    Args:
        chain: to look at.
        account: this node's, 32 bytes.
        segments: how many this node has trained in the window that is under way; None where it does not.
    """

    def __init__(
        self, chain: ChainService, account: bytes, segments: Callable[[], int | None] = lambda: None
    ) -> None:
        self._chain, self._account, self._segments = chain, account, segments

    def rating(self, who: str | None) -> RatingView:
        state = self._chain.state()
        public = self._account if who is None else public_of(state, who)
        own = public == self._account
        found = rating_view(state, self._chain.next_slot(), public, own)
        if found is None:
            raise no_validator(who, own)
        return found

    def leaderboard(self) -> list[RankView]:
        return leaderboard(self._chain.state(), self._chain.next_slot(), self._account)

    def progress(self) -> views.RatingProgressView | None:
        """The window that is planned or under way, for `p2pml status`; None while there is none."""
        state, slot = self._chain.state(), self._chain.slot_now()
        window = latest_window(state)
        if window is None or window.over:
            return None
        phase = phase_at(state, slot, window)
        if phase is None:
            return None
        committed = state.claim(self._account, window.start) is not None
        return views.RatingProgressView(window.start, phase.name, phase.end_ms, self._segments(), committed)

    def windows(self) -> WindowsView | None:
        if not self._chain.genesis.params.window_every_slots:
            return None
        return windows_view(self._chain.state(), self._chain.slot_now())
