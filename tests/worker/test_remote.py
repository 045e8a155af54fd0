"""A node and a worker over loopback with TLS, where the process that computes is a stand-in: who gets in, how
samples travel, and what becomes of calls when the connection breaks."""

from __future__ import annotations

import hashlib
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import WebSocketConnection

from p2pml.formats.optimizers import Optimizer
from p2pml.worker import offers, remote, tls
from p2pml.worker.contents import Contents
from p2pml.worker.protocol import (
    Build,
    Built,
    Evaluate,
    Evaluated,
    Hello,
    Progress,
    Span,
    Spanned,
    Train,
    Trained,
)
from p2pml.worker.remote import Place, RemoteWorker
from p2pml.worker.rests import lasting
from p2pml.worker.serving import WorkerServer
from p2pml.worker.session import WorkerDied, WorkerError, WorkerUnavailable

pytestmark = pytest.mark.slow

TOKEN = "t" * 64
ANSWERS: dict[type, Any] = {
    Train: Trained(b"u", 1, 1, 0.0, 0.0, 1),
    Evaluate: Evaluated(0.1, 0.9, 5),
    Span: Spanned(b"w", b"s"),
}


@dataclass
class StandIn:
    """What `WorkerSupervisor` is on the serving machine; a request's samples are what it reads."""

    rests: tuple[str, ...] = ()
    told: list[tuple[str, bool]] = field(default_factory=list)
    seen: list[bytes] = field(default_factory=list)
    begun: trio.Event = field(default_factory=trio.Event)
    cancelled: int = 0
    hold: bool = False
    fail: Exception | None = None

    async def wait_ready(self) -> Hello:
        await trio.lowlevel.checkpoint()
        if isinstance(self.fail, WorkerUnavailable):
            raise self.fail
        return Hello(remote_version(), 7, {"python": "3"}, 1, 1.0, 1)

    async def rest(self, reason: str, resting: bool) -> None:
        await trio.lowlevel.checkpoint()
        self.told.append((reason, resting))

    async def call(self, request: Any, progress: Callable[[Progress], None]) -> Any:
        self.begun.set()
        if self.fail is not None:
            raise self.fail
        progress(Progress(1, 2, 0.5))
        try:
            await trio.sleep(1000 if self.hold else 0.05)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        match request:
            case Train(shard=path) | Evaluate(data=path) | Span(shard=path):
                self.seen.append(Path(path).read_bytes())  # noqa: ASYNC240
                return ANSWERS[type(request)]
        return Built(b"w", "{}", 3)


def remote_version() -> int:
    from p2pml.worker.protocol import PROTOCOL_VERSION

    return PROTOCOL_VERSION


@dataclass
class Pair:
    """Both sides; `connect` makes another node."""

    worker: StandIn
    port: int
    fingerprint: str
    folder: Path
    nursery: trio.Nursery
    serving: trio.CancelScope
    serve: Callable[..., Any]

    async def connect(self, token: str = TOKEN, fingerprint: str | None = None) -> RemoteWorker:
        pin = self.fingerprint if fingerprint is None else fingerprint
        node = RemoteWorker(Place(f"wss://127.0.0.1:{self.port}", token, pin), backoff=0.05)
        await self.nursery.start(node.run)
        return node

    async def restart(self) -> None:
        """End the serving side, and start it again on the same port."""
        self.serving.cancel()
        self.serving = await self.nursery.start(self.serve, self.port)


@asynccontextmanager
async def pair(folder: Path, limit: int = 1 << 30) -> AsyncIterator[Pair]:
    certificate, key = folder / "w.crt", folder / "w.key"
    tls.make_certificate(certificate, key)
    context = tls.server_context(certificate, key)
    worker = StandIn()
    ports: list[int] = []

    async def serve(port: int, *, task_status: Any) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as inner:
                server = WorkerServer(worker, TOKEN, Contents(folder / "kept", limit))  # type: ignore[arg-type]
                listening = await inner.start(server.run, "127.0.0.1", port, context)
                ports.append(listening.port)
                task_status.started(scope)

    async with trio.open_nursery() as nursery:
        scope = await nursery.start(serve, 0)
        yield Pair(worker, ports[0], tls.file_fingerprint(certificate), folder, nursery, scope, serve)
        nursery.cancel_scope.cancel()


def training(path: Path) -> Train:
    return Train("{}", b"w", str(path), Optimizer("sgd", 0.1), 1, 1, 1, 0, 0)


def evaluation(path: Path) -> Evaluate:
    return Evaluate("{}", b"w", str(path))


def span(path: Path) -> Span:
    return Span("{}", b"w", b"", str(path), Optimizer("sgd", 0.1), 1, 1, 0, 1)


READERS = pytest.mark.parametrize("reader", [training, evaluation, span])


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110  (what it waits for has no event)
            await trio.sleep(0.01)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where the node was asked to read from, and small parts."""
    monkeypatch.setattr(offers, "PART_BYTES", 1000)
    read, asked = offers._read, []

    def spy(path: Path, want: Any) -> Any:
        asked.append(want.offset)
        return read(path, want)

    monkeypatch.setattr(offers, "_read", spy)
    return asked


async def test_samples_travel_once_and_are_kept_by_content(tmp_path: Path, sent: list[int]) -> None:
    data = os.urandom(2500)
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "b").write_bytes(data)
    async with pair(tmp_path) as both:
        node = await both.connect()
        reports: list[Progress] = []
        await node.call(training(tmp_path / "a"), reports.append)
        assert sent == [0, 1000, 2000]
        assert reports == [Progress(1, 2, 0.5)]
        assert (await node.call(evaluation(tmp_path / "b"))).accuracy == 0.9
        await both.restart()
        await until(lambda: node.starts == 2)
        await node.call(training(tmp_path / "a"))
        assert sent == [0, 1000, 2000]
        (tmp_path / "a").write_bytes(b"other")  # the path is not the content
        await node.call(training(tmp_path / "a"))
    assert both.worker.seen == [data, data, data, b"other"]
    assert (tmp_path / "kept" / f"{hashlib.sha256(data).hexdigest()}.shard").read_bytes() == data


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
        first = await both.connect()
        await first.wait_ready()
        second = RemoteWorker(Place(f"wss://127.0.0.1:{both.port}", TOKEN, both.fingerprint), backoff=9)
        await both.nursery.start(second.run)
        assert (await second.call(Build("{}", 1))).params == 3


@READERS
async def test_samples_of_every_request_travel(tmp_path: Path, reader: Callable[[Path], Any]) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    async with pair(tmp_path) as both:
        node = await both.connect()
        request = reader(tmp_path / "a")
        assert await node.call(request) == ANSWERS[type(request)]
    assert both.worker.seen == [b"abc"]


@READERS
async def test_paths_of_the_serving_machine_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: Callable[[Path], Any]
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"private")

    async def as_it_is(self: object, request: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return request

    monkeypatch.setattr(offers.Offers, "by_content", as_it_is)
    async with pair(tmp_path) as both:
        node = await both.connect()
        for name in (str(secret), "../secret", "", "A" * 64, "0" * 63 + "/"):
            with pytest.raises(WorkerError, match="by their SHA-256") as caught:
                await node.call(reader(Path(name) if name else Path()))
            assert caught.value.refused
        assert both.worker.seen == []


async def test_samples_that_are_whole_but_were_not_put_in_place_are_finished(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abcdef")
    begun = tmp_path / "kept" / f"{hashlib.sha256(b'abcdef').hexdigest()}.part"
    begun.parent.mkdir()
    begun.write_bytes(b"abcdef")
    async with pair(tmp_path) as both:
        node = await both.connect()
        await node.call(training(tmp_path / "a"))
    assert both.worker.seen == [b"abcdef"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda part: part.__class__(part.digest, part.offset, 0, b""), "does not have the samples"),
        (lambda part: part.__class__(part.digest, part.offset, part.size, b""), "another part"),
        (lambda part: part.__class__(part.digest, part.offset, part.size, b"x" * len(part.data)), "the hash"),
        (lambda part: part.__class__(part.digest, part.offset + 1, part.size, part.data), "another part"),
        (lambda part: part.__class__(part.digest, part.offset, 2, part.data), "another part"),
        (lambda part: part.__class__(part.digest, part.offset, 1 << 40, part.data), "at most"),
    ],
)
async def test_wrong_samples_are_refused_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Any], Any], words: str
) -> None:
    (tmp_path / "a").write_bytes(b"abcdef")
    read = offers._read
    monkeypatch.setattr(offers, "_read", lambda path, want: spoil(read(path, want)))
    async with pair(tmp_path) as both:
        node = await both.connect()
        with pytest.raises(WorkerError, match=words) as caught:
            await node.call(training(tmp_path / "a"))
        assert caught.value.refused
        monkeypatch.setattr(offers, "_read", read)
        await node.call(training(tmp_path / "a"))
    assert both.worker.seen == [b"abcdef"]


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
