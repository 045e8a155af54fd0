"""A node and a lent worker: who gets in, and what becomes of calls when the connection breaks."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import WebSocketConnection

from p2pml.worker import alive, remote, serving, session, tls
from p2pml.worker.protocol import (
    MAX_MESSAGE,
    Build,
    Progress,
)
from p2pml.worker.remote import Place, RemoteWorker
from p2pml.worker.rests import lasting
from p2pml.worker.session import WorkerDied, WorkerError, WorkerUnavailable
from tests.worker.lent import TOKEN, pair, training, until

pytestmark = pytest.mark.slow


async def test_a_wrong_token_is_told_and_gets_nothing(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        node = await both.connect(token="x" * 64)
        await until(lambda: node.status.startswith("unavailable"))
        assert "refuses the token" in node.status
        with pytest.raises(WorkerUnavailable, match="refuses the token"):
            await node.call(Build("{}", 1))
        assert not both.worker.begun.is_set()


async def test_the_token_is_not_shown_to_another_certificate(tmp_path: Path) -> None:
    heard = bytearray()

    async def listen(stream: trio.SSLStream) -> None:
        try:
            while data := await stream.receive_some(4096):
                heard.extend(data)
        except trio.BrokenResourceError:
            pass

    tls.make_certificate(tmp_path / "i.crt", tmp_path / "i.key")
    context = tls.server_context(tmp_path / "i.crt", tmp_path / "i.key")
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_ssl_over_tcp, listen, 0, context)
        port = listeners[0].transport_listener.socket.getsockname()[1]
        for pin, words in (("ab" * 32, "another fingerprint"), ("", "not trusted: self-signed")):
            node = RemoteWorker(Place(f"wss://localhost:{port}", TOKEN, pin), backoff=0.05)
            await nursery.start(node.run)
            await until(lambda node=node: node.status.startswith("unavailable"))
            assert words in node.status
        await trio.sleep(0.3)
        nursery.cancel_scope.cancel()
    assert heard == b""


async def test_a_pin_may_be_written_with_colons_and_capitals(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        digits = both.fingerprint.upper()
        node = await both.connect(fingerprint=":".join(digits[i : i + 2] for i in range(0, 64, 2)))
        assert (await node.call(Build("{}", 1))).params == 3


async def test_a_broken_connection_is_an_error_of_its_call_and_comes_back(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    async with pair(tmp_path) as both:
        node = await both.connect()
        both.worker.hold = True
        async with trio.open_nursery() as nursery:

            async def lose() -> None:
                with pytest.raises(WorkerDied, match="the connection to the worker broke"):
                    await node.call(training(tmp_path / "a"))

            nursery.start_soon(lose)
            await both.worker.begun.wait()
            await both.restart()
        await until(lambda: both.worker.cancelled)  # nobody computes for a node that is gone
        assert both.worker.told == [("node", False)]  # nor rests for it
        both.worker.hold = False
        await node.call(training(tmp_path / "a"))
        assert node.starts == 2


async def test_calls_wait_for_a_worker_that_cannot_be_reached_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PATIENCE_S", 1.0)
    async with trio.open_nursery() as nursery:
        node = RemoteWorker(Place("ws://127.0.0.1:9", TOKEN), backoff=0.05)
        await nursery.start(node.run)
        await until(lambda: "cannot be reached" in node.status)
        assert node.status.startswith("starting: ")
        with pytest.raises(WorkerUnavailable, match="cannot be reached"):
            await node.call(Build("{}", 1))
        nursery.cancel_scope.cancel()


async def test_a_call_to_a_process_that_dies_again_and_again_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "READY_S", 0.3)
    async with pair(tmp_path) as both:
        node = await both.connect()
        await node.wait_ready()
        both.worker.loads, both.worker.status = True, "starting: the one before died: exit status 1"
        with trio.fail_after(10), pytest.raises(WorkerDied, match=r"not ready within .* exit status 1"):
            await node.call(Build("{}", 1))
        both.worker.loads = False
        await node.call(Build("{}", 1))


async def says_nothing(stream: trio.SocketStream) -> None:
    await trio.sleep(1000)


async def refers_elsewhere(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
    await trio.sleep(1000)


@pytest.mark.parametrize(
    ("other", "url", "words"),
    [
        (says_nothing, "ws://127.0.0.1:{}", "does not answer as a worker does: no answer within 0.5 s"),
        (says_nothing, "wss://127.0.0.1:{}", "cannot be reached: no answer within 0.5 s"),
        (refers_elsewhere, "ws://127.0.0.1:{}", "the answer has status 404"),
        (refers_elsewhere, "wss://127.0.0.1:{}", r"cannot be reached: .*SSL"),
        (None, "ws://127.0.0.1:9", "cannot be reached: .*refused"),
        (None, "ws://" + "a" * 70 + ":9", "cannot be reached: .*label"),
    ],
)
async def test_what_is_no_worker_is_named(
    monkeypatch: pytest.MonkeyPatch,
    nursery: trio.Nursery,
    other: Callable[[trio.SocketStream], Awaitable[None]] | None,
    url: str,
    words: str,
) -> None:
    monkeypatch.setattr(remote, "CONNECT_S", 0.5)
    if other is not None:
        [listener] = await nursery.start(partial(trio.serve_tcp, other, 0, host="127.0.0.1"))
        url = url.format(listener.socket.getsockname()[1])
    node = RemoteWorker(Place(url, TOKEN), backoff=0.05)
    await nursery.start(node.run)
    await until(lambda: node.status != "starting")
    assert re.search(words, node.status)


async def test_a_dead_link_is_found_by_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, connect = [], trio.open_tcp_stream

    async def spy(*place: Any) -> trio.SocketStream:
        found.append(await connect(*place))
        return found[0]

    monkeypatch.setattr(trio, "open_tcp_stream", spy)
    async with pair(tmp_path) as both:
        await (await both.connect()).wait_ready()
        assert found[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 120_000


def test_a_sign_of_life_may_wait_behind_the_longest_message() -> None:
    assert alive.WITHIN_S >= session.SEND_TIMEOUT + MAX_MESSAGE / session.SEND_RATE


async def test_cancelling_the_caller_stops_the_work(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        node = await both.connect()
        both.worker.hold = True
        with trio.CancelScope() as scope:
            await node.call(Build("{}", 1), lambda _: scope.cancel())
        assert scope.cancelled_caught
        assert both.worker.cancelled == 1
        both.worker.hold = False
        assert (await node.call(Build("{}", 1))).params == 3
        assert node.starts == 1


@pytest.fixture
def cut_short(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Messages of the serving side whose sending was cancelled; each one takes a while."""
    send, found = WebSocketConnection.send_message, []

    async def slow(self: WebSocketConnection, message: bytes) -> None:
        if self.is_server:
            try:
                await trio.sleep(0.2)
            except trio.Cancelled:
                found.append(message)
                raise
        await send(self, message)

    monkeypatch.setattr(WebSocketConnection, "send_message", slow)
    return found


async def test_an_answer_does_not_cut_a_report_short(tmp_path: Path, cut_short: list[bytes]) -> None:
    async with pair(tmp_path) as both:
        node = await both.connect()
        reports: list[Progress] = []
        assert (await node.call(Build("{}", 1), reports.append)).params == 3
        assert (reports, cut_short) == ([Progress(1, 2, 0.5)], [])


async def test_a_cancelled_call_does_not_cut_its_question_short(
    tmp_path: Path, cut_short: list[bytes]
) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    async with pair(tmp_path) as both:
        node = await both.connect()
        await node.wait_ready()
        with trio.move_on_after(0.1) as scope:
            await node.call(training(tmp_path / "a"))
        assert (scope.cancelled_caught, cut_short) == (True, [])
        assert (await node.call(Build("{}", 1))).params == 3


@pytest.mark.parametrize(
    ("failure", "kind", "refused"),
    [
        (WorkerError("too large", "Traceback", True), WorkerError, True),
        (WorkerDied("the worker died: killed by SIGKILL"), WorkerDied, False),
    ],
)
async def test_failures_are_what_they_were(
    tmp_path: Path, failure: WorkerError, kind: type[WorkerError], refused: bool
) -> None:
    async with pair(tmp_path) as both:
        node = await both.connect()
        await node.wait_ready()
        both.worker.fail = failure
        with pytest.raises(kind, match=failure.reason) as caught:
            await node.call(Build("{}", 1))
        assert (caught.value.refused, caught.value.traceback) == (refused, failure.traceback)
        both.worker.fail = None
        assert (await node.call(Build("{}", 1))).params == 3


async def test_a_machine_that_can_run_no_worker_says_so(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        both.worker.fail = WorkerUnavailable("TensorFlow cannot be imported")
        node = await both.connect()
        with pytest.raises(WorkerUnavailable, match="TensorFlow cannot be imported"):
            await node.call(Build("{}", 1))


async def test_a_process_that_is_started_anew_says_hello_again(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        node = await both.connect()
        assert (await node.wait_ready()).pid == 7
        both.worker.pid = 8
        await until(lambda: node.hello is not None and node.hello.pid == 8)
        assert node.starts == 1  # the connection is the same
        both.worker.fail = WorkerUnavailable("TensorFlow is gone")
        await until(lambda: node.status == "unavailable: TensorFlow is gone")
        assert not node.ready
        with pytest.raises(WorkerUnavailable, match="is gone"):
            await node.call(Build("{}", 1))
        both.worker.fail = None
        await until(lambda: node.ready)
        assert (await node.call(Build("{}", 1))).params == 3


async def test_calls_wait_for_a_process_that_does_not_start_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PATIENCE_S", 0.5)
    async with pair(tmp_path) as both:
        both.worker.loads = True
        node = await both.connect()
        with pytest.raises(WorkerUnavailable, match="has not started within"), trio.fail_after(20):
            await node.call(Build("{}", 1))
        assert node.starts == 0


async def test_each_side_knows_why_the_other_rests(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        node = await both.connect()
        await node.wait_ready()
        await node.rest("paused", True)
        await until(lambda: both.worker.told == [("node", True)])
        both.worker.rests = ("node", "load")
        await until(lambda: node.rests == ("paused", "load"))
        await node.rest("paused", False)
        both.worker.rests = ()
        await until(lambda: node.rests == ())
        assert both.worker.told == [("node", True), ("node", False)]


async def test_a_reason_to_rest_that_nobody_knows_ends_the_connection(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        node = await both.connect()
        await node.wait_ready()
        both.worker.rests = ("moonlight",)
        await until(lambda: "an unknown reason to rest: 'moonlight'" in node.status)
        assert node.rests == ()
        both.worker.rests = ()
        assert (await node.call(Build("{}", 1))).params == 3


def test_a_rest_without_words_is_named_as_it_is() -> None:
    assert lasting(["rating", "load"]) == "its machine is busy with other work"
    assert lasting(["moonlight"]) == "moonlight"


async def test_a_newer_connection_replaces_one_that_may_be_dead(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        first = await both.connect(backoff=1)
        await first.wait_ready()
        second = await both.connect(backoff=9)
        assert (await second.call(Build("{}", 1))).params == 3
        await until(lambda: "another node took over" in first.status)


async def test_two_nodes_do_not_fight_for_a_worker(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        nodes = [await both.connect(), await both.connect()]
        await trio.sleep(3)
        assert sum(node.starts for node in nodes) < 14  # each one waits longer and longer


async def test_plain_connections_get_nowhere(tmp_path: Path) -> None:
    async with pair(tmp_path) as both:
        for junk in (b"", b"GET / HTTP/1.1\r\n\r\n", bytes(300)):
            async with await trio.open_tcp_stream("127.0.0.1", both.port) as stream:
                await stream.send_all(junk)
        unverified = ssl.create_default_context()
        unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
        stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", both.port, ssl_context=unverified)
        await stream.send_all(b"\xff" * 500)
        await trio.aclose_forcefully(stream)
        node = await both.connect()
        assert (await node.call(Build("{}", 1))).params == 3
