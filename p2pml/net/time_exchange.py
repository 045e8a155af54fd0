"""Asking peers for the time: `/p2pml/time/1.0.0`: `[1]`, answered by `[1, received, answered]`, both in
milliseconds since 1970.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import trio

from p2pml.net.clock import Estimate, Offsets, Sample
from p2pml.net.errors import Malformed, RemoteError
from p2pml.net.host import Host

log = logging.getLogger(__name__)

PROTOCOL = "/p2pml/time/1.0.0"
VERSION = 1
MAX_MS = 2**48
ASK_S = 60.0
"""Between two questions to the same peer."""
LOOK_S = 1.0
WITHIN_S = 5.0
MAX_BYTES = 64


class PeerTime:
    """Answers others and asks them.

    Args:
        host: running while this runs.
        unix_ms: this machine's clock.
        tell: called with each new estimate, and with None while nobody has been heard lately.
    """

    def __init__(
        self, host: Host, unix_ms: Callable[[], int], tell: Callable[[Estimate | None], None] = lambda _: None
    ) -> None:
        self._host, self._unix_ms, self._tell = host, unix_ms, tell
        self._offsets = Offsets()
        self._asked: dict[str, float] = {}

    def estimate(self) -> Estimate | None:
        """What the peers say; None before any has answered."""
        return self._offsets.estimate(trio.current_time())

    def offset_of(self, peer: str) -> float | None:
        """One peer's clock against ours, in seconds; None when it has not been heard lately."""
        return self._offsets.offset_of(peer, trio.current_time())

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Ask each connected peer now and then, one after the other, until cancelled."""
        self._host.serve(PROTOCOL, self._answer, MAX_BYTES)
        task_status.started()
        while True:
            connected = self._host.connected()
            self._offsets.keep(connected)
            self._asked = {peer: at for peer, at in self._asked.items() if peer in connected}
            if self.estimate() is None:
                self._tell(None)
            for peer in connected:
                if self._asked.get(peer, float("-inf")) <= trio.current_time() - ASK_S:
                    self._asked[peer] = trio.current_time()
                    await self._ask(peer)
            await trio.sleep(LOOK_S)

    async def _ask(self, peer: str) -> None:
        try:
            stream = await self._host.open(peer, PROTOCOL, WITHIN_S)
            try:
                sent = self._unix_ms()
                await stream.send([VERSION], WITHIN_S)
                answer = await stream.recv(MAX_BYTES, WITHIN_S)
                back = self._unix_ms()
                await stream.close()
            finally:
                await stream.reset()
            self._offsets.add(peer, _parse(sent, answer, back), trio.current_time())
        except RemoteError as error:
            log.debug("%s does not tell the time: %s", peer, error)
            self._host.standing.note(peer, error)
            return
        except ValueError as error:
            log.debug("the time of %s: %s", peer, error)  # either clock may have been set meanwhile
            return
        estimate = self.estimate()
        if estimate is not None:
            self._tell(estimate)

    async def _answer(self, peer: str, message: Any) -> list[int]:
        received = self._unix_ms()
        if message != [VERSION]:
            raise Malformed("not a question for the time")
        return [VERSION, received, self._unix_ms()]


def _parse(sent: int, answer: Any, back: int) -> Sample:
    if not isinstance(answer, list) or len(answer) != 3 or answer[0] != VERSION:
        raise Malformed("an answer has a version and two times")
    _, received, answered = answer
    if any(type(time) is not int or not 0 <= time < MAX_MS for time in (received, answered)):
        raise Malformed("a time is a number of milliseconds")
    return Sample.of(sent / 1000, received / 1000, answered / 1000, back / 1000)
