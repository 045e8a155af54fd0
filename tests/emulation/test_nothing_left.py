"""However a lab ends, nothing of it stays: processes, namespaces, interfaces, rules, containers, networks,
images, files."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from p2pml.lab import cleanup, engine, procs
from p2pml.lab.hosts.session import open_lab

pytestmark = pytest.mark.slow

_PROGRAM = str(Path(__file__).with_name("lab_program.py"))
_EVERY = pytest.mark.parametrize("kind", ["processes", "namespaces", "containers"])


@dataclass
class _Seen:
    """What a lab had made, noted while it ran."""

    run: str
    registry: Path
    pids: list[int]
    namespaces: set[str]
    interfaces: set[str] = field(default_factory=set)

    def left(self) -> list[str]:
        """What of it is still there."""
        left = [f"process {pid}" for pid in procs.find(self.run)]
        left += [f"namespace {name}" for name in sorted(self.namespaces & set(_namespaces()))]
        left += [f"interface {name}" for name in sorted(self.interfaces & _interfaces())]
        left += [f"file {self.registry}"] if self.registry.exists() else []
        rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=False).stdout
        left += [
            f"rule {line}" for line in rules.splitlines() if any(name in line for name in self.interfaces)
        ]
        return left + _in_engine(self.run)


def _namespaces() -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                yield str((entry / "ns/net").readlink())


def _interfaces() -> set[str]:
    return {entry.name for entry in Path("/sys/class/net").iterdir()}


def _in_engine(run: str) -> list[str]:
    if not engine.is_there():
        return []
    with engine.connect() as client:
        found: list[Any] = client.containers.list(all=True, filters=engine.of_run(run), ignore_removed=True)
        found += client.networks.list(filters=engine.of_run(run))
        found += client.images.list(filters=engine.of_run(run))
    return [repr(item) for item in found]


def _bridges(run: str) -> set[str]:
    """The engine's interfaces of a run's network, in this machine's own namespace."""
    if not engine.is_there():
        return set()
    with engine.connect() as client:
        bridges = {f"br-{network.id[:12]}" for network in client.networks.list(filters=engine.of_run(run))}
    ports = {port.name for bridge in bridges for port in Path(f"/sys/class/net/{bridge}/brif").iterdir()}
    return bridges | ports


@contextlib.contextmanager
def _program(kind: str, registry: Path, end: str) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, _PROGRAM, kind, str(registry), end]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "begin\n"
            yield program
        finally:
            program.kill()


def _seen(program: subprocess.Popen[str], registry: Path) -> _Seen:
    assert program.stdout is not None
    line = program.stdout.readline()
    assert line, program.stderr.read() if program.stderr else ""
    told = json.loads(line)
    own = str(Path("/proc/self/ns/net").readlink())
    seen = _Seen(told["run"], registry, told["pids"], set(told["namespaces"]) - {own})
    seen.interfaces = _bridges(seen.run)
    return seen


@_EVERY
@pytest.mark.parametrize(("end", "status"), [("success", 0), ("failure", 1)])
def test_the_end_of_a_program(usable: str, runs: Path, end: str, status: int) -> None:
    with _program(usable, runs, end) as program:
        seen = _seen(program, runs)
        _, errors = program.communicate(timeout=60)
    assert program.returncode == status, errors
    assert ("the scenario failed" in errors) == (end == "failure")
    assert seen.left() == []


@_EVERY
@pytest.mark.parametrize(
    ("signum", "status"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal(usable: str, runs: Path, signum: int, status: int) -> None:
    with _program(usable, runs, "wait") as program:
        seen = _seen(program, runs)
        assert seen.left() != []
        program.send_signal(signum)
        time.sleep(0.05)
        program.send_signal(signal.SIGINT)  # an impatient second Ctrl-C
        program.communicate(timeout=60)
    assert seen.left() == []
    assert program.returncode in {status, -signal.SIGINT}


@_EVERY
def test_ctrl_c_while_it_starts(usable: str, runs: Path) -> None:
    for delay in (0.1, 0.3, 0.5, 0.8, 1.2):
        with _program(usable, runs, "wait") as program:
            time.sleep(delay)
            names = [entry.name for entry in runs.iterdir()] if runs.exists() else []
            program.send_signal(signal.SIGINT)
            _, errors = program.communicate(timeout=60)
        assert program.returncode == -signal.SIGINT, errors
        for name in names:
            assert _Seen(name, runs, [], set()).left() == []
        assert not runs.exists()


@_EVERY
def test_cleanup_after_sigkill_and_only_of_the_dead(usable: str, runs: Path) -> None:
    with open_lab(usable, runs=runs) as alive:
        alive.start(["a"])
        bystander = alive.run("a", ["sleep", "1000"], {}, alive.folder("a") / "log")
        with _program(usable, runs, "wait") as program:
            seen = _seen(program, runs)
            assert seen.run not in {removed.run for removed in cleanup.cleanup(runs)}
            program.kill()
            program.wait()
        assert procs.find(seen.run), "the hosts' programs outlive a killed lab"
        (removed,) = [each for each in cleanup.cleanup(runs) if each.run == seen.run]
        assert removed.processes >= (2 if usable != "containers" else 1)
        assert (removed.containers, removed.networks, removed.images) == (
            (2, 1, 1) if usable == "containers" else (0, 0, 0)
        )
        assert [item for item in seen.left() if item != f"file {runs}"] == []
        assert not (runs / seen.run).exists()
        assert bystander.returncode is None
        assert alive.run("a", ["true"], {}, alive.folder("a") / "log").wait(10) == 0
    assert not runs.exists()


@pytest.mark.parametrize("kind", ["namespaces"])
def test_a_lab_that_cannot_clear_up_leaves_that_to_cleanup(
    usable: str, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(run: str, *, containers: bool) -> cleanup.Removed:
        raise TimeoutError("it does not end")

    lab = open_lab(usable, runs=runs)
    hosts = lab.__enter__()
    hosts.start(["a"])
    handle = hosts.run("a", ["sleep", "1000"], {}, hosts.folder("a") / "log")
    with monkeypatch.context() as broken:
        broken.setattr(cleanup, "remove", refuse)
        with pytest.raises(TimeoutError):
            lab.__exit__(None, None, None)
    assert handle.returncode is None
    (removed,) = [each for each in cleanup.cleanup(runs) if each.run == hosts.run_id]
    assert removed.processes == 1
    assert handle.wait(5) == -signal.SIGKILL
    assert not runs.exists()


def test_cleanup_as_a_command_prints_json(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "p2pml.lab.cleanup", str(tmp_path / "runs")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [json.loads(line) for line in done.stdout.splitlines()] == []


@pytest.mark.parametrize("kind", ["containers"])
def test_containers_without_a_registry_are_cleaned_up(usable: str, runs: Path, tmp_path: Path) -> None:
    with _program(usable, runs, "wait") as program:
        seen = _seen(program, runs)
        program.kill()
        program.wait()
    # As after a restart of the machine, which empties /run.
    runs.rename(tmp_path / "gone")
    assert seen.run in {removed.run for removed in cleanup.cleanup(runs)}
    assert seen.left() == []
