"""The way of programs on this machine to a daemon: HTTP over the Unix socket in its home.

Synchronous; what it imports at module level is light.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from p2pml.errors import ExitCode, UserError
from p2pml.home import Home
from p2pml.node.lock import holder
from p2pml.socket_path import reachable

if TYPE_CHECKING:
    import httpx

PREFIX = "/api/v1"
TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class ApiEvent:
    """One event of the daemon's stream."""

    id: int
    kind: str
    data: dict[str, Any]


class NodeClient:
    """A connection to the daemon of one home; use it in a `with` block.

    Every method raises `UserError`: code 3 when no daemon answers, else what the daemon says.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._stack = ExitStack()

    def __enter__(self) -> NodeClient:
        try:
            self._path = self._stack.enter_context(reachable(self._home.api_socket))
        except OSError as error:
            raise self._down(error) from error
        try:
            self._knock()
        except UserError:
            self._stack.close()
            raise
        import httpx  # 0.1 s, and needed only when there is a daemon to talk to

        # No TLS on a socket of this machine: reading the system's certificates would take 50 ms.
        transport = httpx.HTTPTransport(uds=self._path, verify=False)
        self._http = self._stack.enter_context(
            httpx.Client(transport=transport, base_url="http://localhost", timeout=TIMEOUT_S, trust_env=False)
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def get(self, path: str, *, timeout_s: float | None = TIMEOUT_S, **query: Any) -> Any:
        """The JSON answer of a GET below `/api/v1`; `timeout_s` None waits for as long as it takes."""
        params = {key: value for key, value in query.items() if value is not None}
        return self._request("GET", path, timeout_s, params=params)

    def post(self, path: str, body: Any = None, *, timeout_s: float | None = TIMEOUT_S) -> Any:
        """The JSON answer of a POST; `timeout_s` None waits for as long as it takes."""
        return self._request("POST", path, timeout_s, json=body)

    def delete(self, path: str, *, timeout_s: float | None = TIMEOUT_S, **query: Any) -> Any:
        """The JSON answer of a DELETE; `timeout_s` None waits for as long as it takes."""
        return self._request("DELETE", path, timeout_s, params=query)

    def events(self, after: int | None = None, job: str | None = None) -> Generator[ApiEvent, None, None]:
        """Events with ids greater than `after` (0: all that are kept; default: only new ones), until the
        daemon ends. One of kind `gap` stands for events that are not kept any more.
        """
        import httpx

        self._knock()
        params = {key: value for key, value in {"after": after, "job": job}.items() if value is not None}
        timeout = httpx.Timeout(TIMEOUT_S, read=60.0)  # the daemon sends a keep-alive every 10 s
        try:
            with self._http.stream("GET", PREFIX + "/events", params=params, timeout=timeout) as response:
                if response.is_error:
                    response.read()
                    raise _as_user_error(response)
                yield from _parse_events(response.iter_lines())
        except httpx.ConnectError as error:
            raise self._down(error) from error
        except httpx.HTTPError as error:
            raise self._lost() from error

    def _request(self, method: str, path: str, timeout_s: float | None, **options: Any) -> Any:
        import httpx

        self._knock()
        try:
            response = self._http.request(method, PREFIX + path, timeout=timeout_s, **options)
        except httpx.ConnectError as error:
            raise self._down(error) from error
        except httpx.TimeoutException as error:
            raise UserError(
                f"the daemon did not answer within {timeout_s:.0f} s",
                f"look at {self._home.logs / 'node.log'}",
                ExitCode.NETWORK,
            ) from error
        except httpx.HTTPError as error:
            raise self._lost() from error
        if response.is_error:
            raise _as_user_error(response)
        return response.json()

    def _knock(self) -> None:
        """Refuse a daemon that is gone: the HTTP library would leave its end of the socket open."""
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(self._path)
            except OSError as error:
                raise self._down(error) from error

    def _down(self, error: Exception) -> UserError:
        """Why nobody answers: not allowed to ask, a daemon that does not listen (any more), or no daemon."""
        root = self._home.root
        if isinstance(error, PermissionError):
            cause = f"the home {root} is another user's, and its daemon answers to that user alone"
            fix = "run this as that user, or name another --home"
        elif found := holder(self._home.lock_file):
            cause = f"the daemon of the home {root} is starting or ending: PID {found.pid} holds the home"
            fix = f"wait for it; {self._home.logs / 'node.log'} tells how far it is"
        else:
            cause = f"no daemon is running for the home {root}"
            fix = f"start it with `p2pml daemon --home {root}`, or name another --home"
        return UserError(cause, fix, ExitCode.DAEMON_DOWN)

    def _lost(self) -> UserError:
        return UserError(
            "the daemon closed the connection", f"see {self._home.logs / 'node.log'}", ExitCode.DAEMON_DOWN
        )


def _parse_events(lines: Iterator[str]) -> Iterator[ApiEvent]:
    event_id, kind, data = 0, "", ""
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "id":
            event_id = int(value)
        elif name == "event":
            kind = value
        elif name == "data":
            data = value
        elif not line and data:
            yield ApiEvent(event_id, kind, json.loads(data))
            data = ""


def _as_user_error(response: httpx.Response) -> UserError:
    try:
        problem = response.json()
        detail, fix = str(problem["detail"]), str(problem.get("fix", ""))
        number = int(problem.get("code", ExitCode.FAILURE))
    except (ValueError, KeyError, TypeError):
        return UserError(f"the daemon answered with HTTP status {response.status_code}")
    known = number in ExitCode.__members__.values()  # not if the daemon is of a later version
    return UserError(detail, fix, ExitCode(number) if known else ExitCode.FAILURE)
