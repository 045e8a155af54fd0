"""Whoever asks for work and goes away does not want it any more."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from p2pml.api.app import create_app
from p2pml.api.server import bind_loopback, bind_unix, serve
from tests.api.conftest import FakeData

REQUESTS = [{"action": "seed", "path": "/data"}, {"action": "get", "dataset": "d"}]


class EndlessData(FakeData):
    """Hashes, or looks for a data set, until it is cancelled."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        super().__init__(calls)
        self.begun, self.cancelled = trio.Event(), trio.Event()

    async def seed(self, *_arguments: Any) -> Any:
        self.begun.set()
        try:
            await trio.sleep_forever()
        finally:
            self.cancelled.set()

    async def get(self, *_arguments: Any) -> Any:
        await self.seed()


@pytest.mark.parametrize("request_", REQUESTS)
async def test_a_request_whose_sender_is_gone_is_cancelled(
    fake_node: Any, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, request_: dict[str, str]
) -> None:
    fake_node.data = data = EndlessData(fake_node.calls)
    listener = bind_loopback(0)
    base = f"http://127.0.0.1:{listener.getsockname()[1]}/api/v1"
    await nursery.start(serve, create_app(fake_node, full=True), listener)
    async with httpx.AsyncClient() as client:
        with trio.CancelScope() as asking:
            async with trio.open_nursery() as askers:
                askers.start_soon(lambda: client.post(f"{base}/datasets", json=request_))
                await data.begun.wait()
                asking.cancel()  # which closes its connection
    with trio.fail_after(20):
        await data.cancelled.wait()
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{base}/status")).status_code == 200
    assert not caplog.records
    nursery.cancel_scope.cancel()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "told"), [(["seed"], "does not offer"), (["data", "get"], "does not fetch")]
)
async def test_ctrl_c_in_a_command_ends_the_nodes_work_too(
    fake_node: Any, nursery: trio.Nursery, tmp_path: Path, command: list[str], told: str
) -> None:
    fake_node.data = data = EndlessData(fake_node.calls)
    (tmp_path / "run").mkdir()
    (tmp_path / "set").write_bytes(b"data")
    arguments = ["-m", "p2pml", *command, str(tmp_path / "set"), "--home", str(tmp_path)]
    with bind_unix(tmp_path / "run" / "api.sock") as listener:
        await nursery.start(serve, create_app(fake_node, full=True), listener)
        process = await trio.lowlevel.open_process([sys.executable, *arguments], stderr=subprocess.PIPE)
        assert process.stderr is not None
        await data.begun.wait()
        process.send_signal(signal.SIGINT)
        with trio.fail_after(60):
            await data.cancelled.wait()
            printed = b"".join([part async for part in process.stderr]).decode()
            assert await process.wait() == 130
        nursery.cancel_scope.cancel()
    assert f"the node {told} " in printed
    assert "Traceback" not in printed
