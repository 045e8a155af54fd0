"""One victim per stack meets every kind of hostile peer while it serves two honest ones.

For each kind: the honest transfers end with the right bytes and undisturbed, as `honest` has it, memory stays
bounded, and once the attacker is gone no task, stream, connection, slot, buffered byte or file is left.
What the library's own stack is known not to survive (`Case.stock`) is asked of ours only.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from p2pml.config import TRANSPORTS
from tests.net.hostile import dialled, gossiping, handshakes, muxing, processes, protocols, records
from tests.net.hostile.arena import Arena
from tests.net.hostile.cases import CASES

pytestmark = pytest.mark.slow
MODULES = (
    handshakes,
    records,
    muxing,
    protocols,
    gossiping,
    dialled,
    processes,
)  # importing them filled the list


class Arenas:
    """The present victim of each stack; a new one where an attack ended it."""

    def __init__(self, transport: str) -> None:
        self.transport = transport
        self._arena = Arena(transport)
        self._waited: dict[str, Exception] | None = None

    def arena(self) -> Arena:
        if not self._arena.alive:
            self._arena = Arena(self.transport)
        return self._arena

    def face(self, name: str) -> None:
        """Raises what went wrong; attacks that wait for the victim's time limits have run together."""
        if not CASES[name].waits:
            self.arena().face(name, CASES[name].attack)
            return
        if self._waited is None:
            waiting = {n: c.attack for n, c in CASES.items() if c.waits and survives(self.transport, n)}
            self._waited = self.arena().face_all(waiting)
        if name in self._waited:
            raise self._waited[name]

    def close(self) -> None:
        print(f"\n{self.transport}: {self._arena.record.summary()}")  # `pytest -s` shows it
        self._arena.close()


def survives(transport: str, name: str) -> bool:
    return transport == "fast" or not CASES[name].stock


class Victims:
    """The arenas of the stack that is attacked; those of the other have ended by then."""

    def __init__(self) -> None:
        self._arenas: Arenas | None = None

    def of(self, transport: str) -> Arenas:
        if self._arenas is None or self._arenas.transport != transport:
            self.close()
            self._arenas = Arenas(transport)
        return self._arenas

    def close(self) -> None:
        if self._arenas is not None:
            arenas, self._arenas = self._arenas, None
            arenas.close()


@pytest.fixture(scope="module")
def victims() -> Iterator[Victims]:
    found = Victims()
    yield found
    found.close()


@pytest.mark.parametrize(
    ("transport", "name"),
    [(transport, name) for transport in TRANSPORTS for name in CASES if survives(transport, name)],
)
def test_the_victim_survives(victims: Victims, transport: str, name: str) -> None:
    victims.of(transport).face(name)
