"""The end points of ratings and their windows; all only look."""

from __future__ import annotations

from fastapi import APIRouter

from p2pml.api.facade import RatingFacade
from p2pml.node.rating_views import RankView, RatingView, WindowsView


def read_rating_routes(node: RatingFacade) -> APIRouter:
    """This node's rating or another's, term by term; the leaderboard; when windows are."""
    routes = APIRouter(tags=["ratings"])

    @routes.get("/rating")
    async def own() -> RatingView:
        return node.rating(None)

    @routes.get("/rating/windows")
    async def windows() -> WindowsView | None:
        return node.windows()

    @routes.get("/ratings")
    async def leaderboard() -> list[RankView]:
        return node.leaderboard()

    @routes.get("/ratings/{who}")
    async def rating(who: str) -> RatingView:
        return node.rating(who)

    return routes
