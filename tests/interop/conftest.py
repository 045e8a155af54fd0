"""A rust-libp2p process that the interop tests drive; built once per session by cargo."""

# ruff: noqa: ASYNC110  (libp2p's table of connections has no event)
from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from p2pml.net.host import Host

CRATE = Path(__file__).parent / "rust_peer"
ANSWER_S = 60.0
BUILD_S = 1500.0


@pytest.fixture(scope="session")
def rust_binary() -> Path:
    cargo = shutil.which("cargo")
    if cargo is None:
        pytest.skip("cargo is not installed: NOTHING is tested against rust-libp2p (see CONTRIBUTING.md)")
    target = CRATE / "target"
    command = [cargo, "build", "--locked", "-j", "2", "--target-dir", str(target)]
    built = subprocess.run(command, cwd=CRATE, capture_output=True, text=True, timeout=BUILD_S)
    assert built.returncode == 0, built.stderr
    return target / "debug" / "rust-peer"


class RustError(Exception):
    """The rust peer could not do what it was told."""


class RustPeer:
    """One rust-libp2p process: orders go in, answers and events come out.

    Attributes:
        Refused: what `call` raises.
        addr: where it listens, `/ip4/127.0.0.1/tcp/…/p2p/<id>`.
        peer: its id.
        pid: of the process.
        silent: set once it has said its last word.
    """

    Refused = RustError

    def __init__(self, process: trio.Process) -> None:
        self.addr = self.peer = ""
        self.pid = process.pid
        self._process = process
        self._answers: dict[int, dict[str, Any]] = {}
        self._events: list[dict[str, Any]] = []
        self._changed = trio.Event()
        self.silent = trio.Event()
        self._orders = 0
        self._order = trio.Lock()

    async def call(self, do: str, **what: Any) -> Any:
        """Give an order and wait for its answer. Raises `RustError` with the peer's own words."""
        self._orders += 1
        number = self._orders
        line = json.dumps({"id": number, "do": do, **what}) + "\n"
        assert self._process.stdin is not None
        async with self._order:
            await self._process.stdin.send_all(line.encode())
        answer = await self._when(lambda: self._answers.pop(number, None), f"the answer to {line}")
        if "error" in answer:
            raise RustError(answer["error"])
        return answer["ok"]

    async def event(self, kind: str, **match: Any) -> dict[str, Any]:
        """The first event of that kind with those values, which is then forgotten; waits for it."""
        wanted = {"event": kind, **match}

        def take() -> dict[str, Any] | None:
            found = next((each for each in self._events if wanted.items() <= each.items()), None)
            if found is not None:
                self._events.remove(found)
            return found

        return await self._when(take, f"the event {wanted}; those so far are {self._events}")

    async def meet(self, host: Host, rust_dials: bool = False) -> None:
        """Connect to a host of ours, at its call or at ours, and wait until both sides know."""
        if rust_dials:
            await self.call("dial", addr=host.addrs()[0])
        else:
            await host.connect(self.addr)
        event = await self.event("connected", peer=host.peer_id)
        assert event["dialled"] == rust_dials
        with trio.fail_after(ANSWER_S):
            while not host.is_connected(self.peer):
                await trio.sleep(0.01)

    async def leave(self) -> None:
        """Let the process end by itself."""
        assert self._process.stdin is not None
        await self._process.stdin.aclose()
        assert await self._process.wait() == 0

    async def _when(self, take: Callable[[], Any], what: str) -> Any:
        with trio.move_on_after(ANSWER_S):
            while True:
                changed = self._changed
                found = take()
                if found is not None:
                    return found
                if self.silent.is_set():
                    break
                await changed.wait()
        raise AssertionError(f"{'the rust peer died' if self.silent.is_set() else 'timed out'} before {what}")

    async def listen(self) -> None:
        """Take in what the process says, until it ends."""
        assert self._process.stdout is not None
        rest = b""
        try:
            async for data in self._process.stdout:
                *lines, rest = (rest + data).split(b"\n")
                for message in map(json.loads, lines):
                    if "id" in message:
                        self._answers[message["id"]] = message
                    else:
                        self._events.append(message)
                self._wake()
        finally:
            self.silent.set()
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


@asynccontextmanager
async def running(binary: Path) -> AsyncIterator[RustPeer]:
    async with trio.open_nursery() as nursery:
        command = [str(binary)]
        process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        peer = RustPeer(process)
        nursery.start_soon(peer.listen)
        try:
            peer.addr = (await peer.event("listening"))["addr"]
            peer.peer = peer.addr.rpartition("/")[2]
            yield peer
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
                await peer.silent.wait()  # or a pipe would be closed under its reader
                for pipe in (process.stdin, process.stdout):
                    assert pipe is not None
                    await pipe.aclose()
        nursery.cancel_scope.cancel()


@pytest.fixture(params=["fast", "stock"])
def transport(request: pytest.FixtureRequest) -> str:
    """The code under our streams."""
    return str(request.param)


@pytest.fixture
async def rust(rust_binary: Path) -> AsyncIterator[RustPeer]:
    async with running(rust_binary) as peer:
        yield peer
