"""The node's events as a server-sent event stream (WHATWG HTML, section 9.2), resumable by
`Last-Event-ID`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing

import trio
from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse
from starlette.types import Send

from p2pml.api.facade import NodeFacade
from p2pml.node.views import EventView

GAP = "gap"
KEEPALIVE_S = 10.0
"""A comment line is sent after this silence, so that a dead connection is noticed."""


def router(node: NodeFacade) -> APIRouter:
    """The `/events` route."""
    routes = APIRouter()

    @routes.get("/events", response_class=StreamingResponse)
    async def events(
        after: int | None = Query(
            None, ge=0, description="start behind this event id, 0: all that is kept; default: only new ones"
        ),
        job: str | None = Query(None, description="only events of this job"),
        last_event_id: str | None = Header(None),
    ) -> StreamingResponse:
        start = node.last_event_id if after is None else after
        if last_event_id is not None and last_event_id.isascii() and last_event_id.isdigit():
            start = int(last_event_id)
        return EventResponse(stream(node, start, job))

    return routes


class EventResponse(StreamingResponse):
    """An event stream whose generator is closed with its connection; Starlette leaves that to the
    collector.
    """

    media_type = "text/event-stream"

    def __init__(self, frames: AsyncGenerator[str, None]) -> None:
        super().__init__(frames, headers={"Cache-Control": "no-store"})
        self._frames = frames

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self._frames):
            await super().stream_response(send)


async def stream(node: NodeFacade, after: int, job: str | None = None) -> AsyncGenerator[str, None]:
    """Frames of events with ids greater than `after`, for ever; only those of one job when it is given.

    An event `gap` stands for those that are not kept: the reader was too slow, or its last id is of an
    earlier run of the node. Its `after` is the last id before them. What they told is in the records.
    """
    seen = after or node.first_event_id - 1
    yield ": connected\n\n"
    while True:
        missed = node.first_event_id - 1
        if not missed <= seen <= node.last_event_id:
            gap = EventView(missed, GAP, {"after": seen})
            seen = missed
            yield frame(gap)
            continue  # it may have been too slow again
        for event in node.events_since(seen):
            seen = event.id
            if job is None or event.data.get("job") == job:
                yield frame(event)
        with trio.move_on_after(KEEPALIVE_S) as waited:
            await node.wait_for_events(seen)
        if waited.cancelled_caught:
            yield ": keep-alive\n\n"


def frame(event: EventView) -> str:
    """One event as text: JSON has no raw line breaks, so one `data:` line holds it."""
    data = json.dumps(event.data, separators=(",", ":"), ensure_ascii=True)
    return f"id: {event.id}\nevent: {event.kind}\ndata: {data}\n\n"
