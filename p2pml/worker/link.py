"""The worker's side of the connection: read requests in one task, carry them out one by one in a thread, and
end with the node."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from p2pml.formats import FormatError
from p2pml.worker.lanes.duty import Duty
from p2pml.worker.limits import WorkerLimits
from p2pml.worker.memory import confine_memory, resident
from p2pml.worker.protocol import (
    MAX_MESSAGE,
    PROTOCOL_VERSION,
    Cancel,
    Failed,
    Hello,
    Message,
    Progress,
    Rest,
    Unable,
    decode,
    encode,
)
from p2pml.worker.sockets import BUFFER

LOOK_S = 0.2
"""How often a call that rests looks whether it may go on."""
MOST_REST_S = 10.0
"""At one step; what is owed beyond that is rested at the next, so that the node hears of each in time."""
UNABLE_STATUS = 3
"""Exit status when this machine cannot run a worker at all."""


class Cancelled(Exception):
    """The node has cancelled the running call."""


class UnableError(Exception):
    """This machine cannot run the worker as it is configured; the message says why."""


class Engine(Protocol):
    """What carries out requests; `p2pml.worker.engine`, whose import takes seconds."""

    def versions(self) -> dict[str, str]:
        """Of the libraries that decide what bits an update has."""

    def carry_out(self, request: Message, control: Control) -> Message:
        """Carry out one request."""


@dataclass(frozen=True, slots=True)
class Control:
    """How the running call speaks to the node and hears from it.

    Args:
        report: sends a progress report.
        cancelled: set when the call shall end.
        resting: set while the machine is needed for something else.
        duty: bounds the processor time.
    """

    report: Callable[[Progress], None]
    cancelled: threading.Event = field(default_factory=threading.Event)
    resting: threading.Event = field(default_factory=threading.Event)
    duty: Duty = field(default_factory=lambda: Duty(100))

    def check(self) -> None:
        """Rest as long as the node and the bound on processor time want it. Raises `Cancelled` if the call
        shall end."""
        self.cancelled.wait(min(self.duty.rest(time.process_time(), time.monotonic()), MOST_REST_S))
        while self.resting.is_set() and not self.cancelled.wait(LOOK_S):
            pass
        if self.cancelled.is_set():
            raise Cancelled


async def serve(end: int, limits: WorkerLimits, isolated: bool, started: float) -> None:
    """Serve one node; never returns: the process ends with the connection.

    Args:
        end: our end of a pair of sockets, whose other end the node has.
        limits: of this process.
        isolated: whether this process has no network.
        started: monotonic time at which the process started.
    """
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(socket.socket(fileno=end)))
    requests, inbox = trio.open_memory_channel[tuple[int, Message, Control]](8)
    async with stream, trio.open_nursery() as nursery:
        ws = await wrap_client_stream(
            nursery, stream, "node", "/", max_message_size=MAX_MESSAGE, receive_buffer_size=BUFFER
        )
        nursery.start_soon(_read, ws, requests, Duty(limits.cpu, limits.threads))
        try:
            engine = await trio.to_thread.run_sync(_load, limits)
        except (ImportError, UnableError) as error:
            cause = "" if isinstance(error, UnableError) else "TensorFlow cannot be imported: "
            await ws.send_message(encode(0, Unable(f"{cause}{error}")))
            await ws.aclose()
            os._exit(UNABLE_STATUS)
        confine_memory(limits.memory_bytes)
        await ws.send_message(encode(0, _hello(engine, limits.threads, isolated, started)))
        async for call, request, control in inbox:
            answer = await trio.to_thread.run_sync(_answer, engine, request, control)
            await ws.send_message(encode(call, answer))


def _load(limits: WorkerLimits) -> Engine:
    from p2pml.worker import engine

    return engine.TensorFlowEngine(limits.trainers, limits.devices)


def _hello(engine: Engine, threads: int, isolated: bool, started: float) -> Hello:
    seconds = time.monotonic() - started
    return Hello(PROTOCOL_VERSION, os.getpid(), engine.versions(), threads, isolated, seconds, resident())


async def _read(
    ws: WebSocketConnection, requests: trio.MemorySendChannel[tuple[int, Message, Control]], duty: Duty
) -> None:
    """Take in messages while the engine works, so that Cancel and the node's end are noticed at once."""
    token = trio.lowlevel.current_trio_token()
    running: dict[int, Control] = {}
    resting = threading.Event()

    def control_of(call: int) -> Control:
        def report(progress: Progress) -> None:
            trio.from_thread.run(ws.send_message, encode(call, progress), trio_token=token)

        return Control(report, resting=resting, duty=duty)

    while True:
        try:
            call, message = decode(await ws.get_message())
        except ConnectionClosed:
            # Nothing is worth finishing without the node, and the engine's thread cannot be interrupted.
            os._exit(0)
        if isinstance(message, Cancel):
            if call in running:
                running[call].cancelled.set()
            continue
        if isinstance(message, Rest):
            (resting.set if message.resting else resting.clear)()
            continue
        running = {call: control_of(call)}
        await requests.send((call, message, running[call]))


def _answer(engine: Engine, request: Message, control: Control) -> Message:
    try:
        return engine.carry_out(request, control)
    except Cancelled:
        return Failed("cancelled", cancelled=True)
    except FormatError as error:
        return Failed(str(error), traceback.format_exc(), refused=True)
    except MemoryError:
        return Failed("it needs more memory than this worker may use", traceback.format_exc(), refused=True)
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        return Failed(f"{type(error).__name__}: {error}"[:2000], traceback.format_exc())
