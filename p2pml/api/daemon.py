"""The daemon: one node and its HTTP API in one trio run, behind the lock of its home."""

from __future__ import annotations

import logging
import os
import sys
from functools import partial
from logging.handlers import RotatingFileHandler

import trio

from p2pml.api.app import create_app
from p2pml.api.server import bind_loopback, bind_unix, serve
from p2pml.config import Config
from p2pml.errors import UserError
from p2pml.home import Home
from p2pml.node.lock import exclusive
from p2pml.node.node import Node, run_node
from p2pml.node.node_api import NodeApi
from p2pml.stopping import stop_on_signal

logger = logging.getLogger("p2pml")

LOG_BYTES = 5 * 1024 * 1024


def run_daemon(home: Home, config: Config, *, stop_with_stdin: bool = False) -> None:
    """Run a node until it is told to stop (SIGTERM, SIGINT, the API).

    Args:
        home: made already; its lock is held all the time.
        config: what config.toml and the command line say.
        stop_with_stdin: stop also when stdin ends, that is, when whoever started this process is gone.

    Raises:
        UserError: another daemon holds the home, a port is in use, the home has no genesis, …
    """
    with exclusive(home.lock_file):
        _start_logging(home)
        failure: UserError | None = None
        try:
            trio.run(partial(_main, home, config, stop_with_stdin), strict_exception_groups=True)
        except* UserError as group:
            failure = _first(group)  # raised below: CPython before 3.11.4 wraps what an except* raises
        except* KeyboardInterrupt:
            logger.info("interrupted")
        except* Exception:
            logger.exception("this node failed")
            raise
        if failure is not None:
            raise failure


async def _main(home: Home, config: Config, stop_with_stdin: bool) -> None:
    with bind_loopback(config.api_port) as tcp, bind_unix(home.api_socket) as unix:
        async with trio.open_nursery() as nursery:
            await nursery.start(stop_on_signal, nursery.cancel_scope)
            if stop_with_stdin:
                nursery.start_soon(_stop_on_eof, nursery.cancel_scope)
            node: Node = await nursery.start(run_node, home, config)
            api = NodeApi(node)
            await nursery.start(serve, create_app(api, full=False), tcp)
            await nursery.start(serve, create_app(api, full=True), unix)
            logger.info("API on http://127.0.0.1:%d and %s", tcp.getsockname()[1], home.api_socket)
            await node.shutdown_requested.wait()
            logger.info("stopping: asked through the API")
            await trio.sleep(0.1)  # the answer to that request goes out first
            nursery.cancel_scope.cancel()
    logger.info("stopped")


async def _stop_on_eof(scope: trio.CancelScope) -> None:
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stream:
        while await stream.receive_some(4096):
            pass
    logger.info("stopping: whoever started this node is gone")
    scope.cancel()


def _start_logging(home: Home) -> None:
    """Log to stderr and to `logs/node.log`; the noise of libraries only from warnings upward."""
    style = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    file = RotatingFileHandler(home.logs / "node.log", maxBytes=LOG_BYTES, backupCount=2, encoding="utf-8")
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr), file]
    for handler in handlers:
        handler.setFormatter(style)
    logging.basicConfig(level=logging.WARNING, handlers=handlers, force=True)
    logging.getLogger("p2pml.api.http").setLevel(logging.WARNING)  # else a line for each bound socket
    logging.getLogger("p2pml").setLevel(logging.DEBUG if os.environ.get("P2PML_DEBUG") else logging.INFO)


def _first(group: BaseExceptionGroup[UserError]) -> UserError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, UserError)
    return error
