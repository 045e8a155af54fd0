"""The victim and two honest peers of it, in a trio run of their own that outlives the attacks.

All attacks of one stack meet the same victim, one after the other: what one of them breaks or leaves behind
shows at the next one at the latest.
"""

# ruff: noqa: ASYNC110  (a test polls what has no event)
from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio

from p2pml.net.gossip import Gossip, Verdict
from p2pml.net.host import Host
from p2pml.net.streams import Stream
from tests.net.hostile.attacker import Attacker
from tests.net.hostile.honest import BULK, Record, Trip, digest, trip

ECHO, BROKEN, SINK = "/test/echo/1.0.0", "/test/broken/1.0.0", "/test/sink/1.0.0"
TOPIC = "blocks"
QUIET = 10
"""Trips of each honest peer before the first attack."""
UPGRADE_S = 4.0
"""Seconds for security and muxer, instead of the library's thirty: silent peers are waited for here."""
PEAK_BYTES = 96 << 20
"""Memory that an attack may cost for a moment: attacker, victim and the honest transfers in one process."""

Attack = Callable[["Arena", Attacker], Awaitable[None]]


class Arena:
    """Runs attacks on one victim.

    Args:
        transport: the victim's stack; its honest peers' is the same.
    """

    def __init__(self, transport: str) -> None:
        self.strict = transport == "fast"
        """Whether our own stack is attacked: it ends connections where the library's only survives."""
        self.victim = Host(b"\x71" * 32, transport=transport)
        self.honest = Host(b"\x72" * 32, transport=transport)
        self.other = Host(b"\x73" * 32, transport=transport)
        self.record = Record()
        self.gossip = Gossip(self.victim, bytes(32), heartbeat=0.3)
        self._peer_gossip = Gossip(self.honest, bytes(32), heartbeat=0.3)
        self._heard: set[bytes] = set()
        self._attackers = 0
        self._ready = threading.Event()
        self._over: trio.Event | None = None
        self._token: Any = None
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(30)
        if self.failure is not None:
            raise self.failure

    @property
    def alive(self) -> bool:
        """Whether the victim's run goes on."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End the run; an error that ended it before is raised."""
        if self.alive and self._over is not None:
            trio.from_thread.run_sync(self._over.set, trio_token=self._token)
        self._thread.join(30)
        if self.failure is not None:
            raise self.failure

    def face(self, name: str, attack: Attack) -> None:
        """One attack, with everything that must hold meanwhile and afterwards."""
        trio.from_thread.run(self._face, name, [attack], trio_token=self._token)
        self.record.check(name)

    def face_all(self, attacks: dict[str, Attack]) -> dict[str, Exception]:
        """Attacks at the same time; which of them failed, by name."""
        failed: dict[str, Exception] = {}

        def collecting(name: str, attack: Attack) -> Attack:
            async def run(arena: Arena, attacker: Attacker) -> None:
                try:
                    await attack(arena, attacker)
                except Exception as error:
                    failed[name] = error

            return run

        all_of_them = [collecting(name, attack) for name, attack in attacks.items()]
        trio.from_thread.run(self._face, "all that wait", all_of_them, trio_token=self._token)
        self.record.check("all that wait")
        return failed

    def muxer(self, attacker: Attacker) -> Any:
        """The victim's end of the attacker's connection."""
        (conn,) = self.victim.raw.get_network().get_connections(attacker.id)
        return conn.muxed_conn

    def remembers(self, attacker: Attacker) -> bool:
        """Whether the victim's libp2p still holds anything about a peer."""
        network, store = self.victim.raw.get_network(), self.victim.raw.get_peerstore()
        tables = (store.peer_data_map, store.peer_record_map, network.auto_connector._recent_disconnects)
        return any(attacker.id in table for table in tables)

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as error:
            self.failure = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        async with (
            self.victim.running(), self.honest.running(), self.other.running(), trio.open_nursery() as nursery
        ):  # fmt: skip
            for host in (self.victim, self.honest):
                host.handle(BULK, digest)
            self.victim.serve(ECHO, _echo)
            self.victim.handle(BROKEN, _broken)
            self.victim.handle(SINK, _sink)
            for gossip in (self.gossip, self._peer_gossip):
                gossip.subscribe(TOPIC, lambda data: Verdict.ACCEPT, lambda peer, data: self._heard.add(data))
                await nursery.start(gossip.run)
            for host in (self.honest, self.other):
                await host.connect(self.victim.addrs()[0])
            config = self.victim.raw.get_network().connection_config
            config.inbound_upgrade_timeout = UPGRADE_S
            config.inbound_stream_protocol_negotiation_timeout = UPGRADE_S
            with trio.fail_after(10):
                while not self.gossip.peers(TOPIC):
                    await trio.sleep(0.02)
            for _ in range(QUIET):
                self.record.quiet += await self._trips()
            self._token, self._over = trio.lowlevel.current_trio_token(), trio.Event()
            self._ready.set()
            await self._over.wait()
            nursery.cancel_scope.cancel()

    async def _face(self, name: str, attacks: list[Attack]) -> None:
        self.record.quiet += await self._trips()
        before = await self._settled(None)
        _forget_peak()
        resident = _resident("VmRSS")
        async with trio.open_nursery() as nursery:
            over = trio.Event()
            nursery.start_soon(self._honest_work, self.record.attacked.setdefault(name, []), over)
            try:
                async with trio.open_nursery() as hostile:
                    for attack in attacks:
                        hostile.start_soon(self._attack, attack)
            finally:
                over.set()
        grown = _resident("VmHWM") - resident
        assert grown < PEAK_BYTES, f"{grown >> 20} MiB at the peak"
        await self._settled(before)

    async def _attack(self, attack: Attack) -> None:
        self._attackers += 1
        seed = hashlib.sha256(b"attacker %d" % self._attackers).digest()
        attacker = Attacker(seed, int(self.victim.addrs()[0].split("/")[4]))
        try:
            with trio.fail_after(60):
                await attack(self, attacker)
        finally:
            await attacker.aclose()

    async def _honest_work(self, trips: list[Trip], over: trio.Event) -> None:
        """Transfers, pings and gossip, while the attack lasts and at least once after its beginning."""
        with trio.fail_after(60):
            while True:
                trips += await self._trips()
                await self._rumour()
                if over.is_set():
                    return

    async def transfer(self) -> None:
        """One honest transfer."""
        await trip(self.honest, self.victim.peer_id)

    async def _trips(self) -> list[Trip]:
        """A trip of each honest peer, at the same time."""
        found: list[Trip] = []

        async def go(host: Host) -> None:
            found.append(await trip(host, self.victim.peer_id))

        async with trio.open_nursery() as nursery:
            for host in (self.honest, self.other):
                nursery.start_soon(go, host)
        return found

    async def _rumour(self) -> None:
        """What the honest peer publishes reaches the victim; again where it was lost."""
        rumour, self._heard = os.urandom(16), set()
        while True:
            await self._peer_gossip.publish(TOPIC, rumour)
            with trio.move_on_after(1):
                while rumour not in self._heard:
                    await trio.sleep(0.005)
                return

    async def _settled(self, before: dict[str, int] | None) -> dict[str, int]:
        """What the process holds once nothing of an attack is left; no more than `before`."""
        now = self._holds()
        with trio.move_on_after(15):
            while any(now[name] > (before or {}).get(name, 10**9) for name in now) or now["peers"] != 2:
                await trio.sleep(0.02)
                now = self._holds()
        for name in before or {}:
            assert now[name] <= (before or now)[name], f"{name} left behind: {before} before, {now} now"
        assert now["peers"] == 2, "an honest connection was lost, or a hostile one stayed"
        return now

    def _holds(self) -> dict[str, int]:
        network = self.victim.raw.get_network()
        holds = {
            "tasks": trio.lowlevel.current_statistics().tasks_living,
            "files": len(os.listdir("/proc/self/fd")),
            "slots": network._inbound_limiter.borrowed_tokens,
            "peers": len(self.victim.connected()),
            "streams": sum(len(c.get_streams()) for cs in network.connections.values() for c in cs),
        }
        if self.strict:
            budget = network.upgrader.muxer_multistream._budget
            holds |= {"unread": budget.used, "connections": len(budget.holders)}
        return holds


async def _echo(peer: str, message: object) -> object:
    return message


async def _broken(stream: Stream) -> None:
    raise RuntimeError("a mistake in a handler")


async def _sink(stream: Stream) -> None:
    """A reader that is slower than any writer."""
    while await stream.read_some(100):
        await trio.sleep(0.05)


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _resident(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024
