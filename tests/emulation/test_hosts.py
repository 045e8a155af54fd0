"""Every place to run does what its interface says."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pml.lab import netns
from p2pml.lab.errors import LabError, UnsupportedError
from p2pml.lab.hosts.base import Backend, Handle
from p2pml.lab.hosts.session import open_lab
from p2pml.scenario.links import Link

pytestmark = pytest.mark.slow

_MEASURE = [sys.executable, "-m", "p2pml.lab.measure"]
_Serve = Callable[[Backend, str], None]
_EVERY = pytest.mark.parametrize("kind", ["processes", "namespaces", "containers"])
_SHAPED = pytest.mark.parametrize("kind", ["namespaces", "containers"])


def _python(lab: Backend, name: str, code: str, log: Path | None = None, **env: str) -> Handle:
    return lab.run(name, [sys.executable, "-c", code], env, log or lab.folder(name) / "out.log")


def _rtt(lab: Backend, source: str, target: str, count: int = 9) -> float | None:
    """The shortest round trip in ms, which a busy machine hardly changes, or None when nothing came back."""
    log = lab.folder(source) / "rtt.json"
    log.unlink(missing_ok=True)
    status = lab.run(source, [*_MEASURE, "rtt", lab.address(target), "7000", str(count)], {}, log).wait(30)
    assert status == 0, log.read_text()
    answer = json.loads(log.read_text())
    return answer.get("min_ms")


@_EVERY
def test_programs_run_and_report_how_they_ended(usable: str, runs: Path) -> None:
    code = "import os, sys, p2pml.lab; print(os.environ['WORD'], os.getcwd(), flush=True); sys.exit(3)"
    with open_lab(usable, runs=runs) as lab:
        lab.start(["a"])
        log = lab.folder("a") / "deep" / "er" / "out.log"
        ended = _python(lab, "a", code, log, WORD="hello")
        assert ended.wait(20) == 3
        assert log.read_text() == f"hello {lab.folder('a')}\n"
        running = lab.run("a", ["sleep", "100"], {}, log)
        assert running.returncode is None
        with pytest.raises(TimeoutError):
            running.wait(0.1)
        running.kill(signal.SIGTERM)
        assert running.wait(5) == -signal.SIGTERM
        running.kill()
        if usable == "containers":  # its shell finds out, inside
            assert lab.run("a", ["no-such-program"], {}, log).wait(5) == 127
        else:
            with pytest.raises(LabError, match="cannot start no-such-program"):
                lab.run("a", ["no-such-program"], {}, log)


@_EVERY
def test_mistakes_are_named(usable: str, runs: Path) -> None:
    with open_lab(usable, runs=runs) as lab:
        lab.start(["a"])
        with pytest.raises(LabError, match="exists already"):
            lab.start(["a"])
        with pytest.raises(LabError, match="no host name"):
            lab.start(["../a"])
        with pytest.raises(LabError, match="no host is called 'b'"):
            lab.run("b", ["true"], {}, lab.folder("a") / "log")
        lab.kill("a")
        with pytest.raises(LabError, match="is down"):
            lab.run("a", ["true"], {}, lab.folder("a") / "log")
        if usable != "processes":
            with pytest.raises(LabError, match="no host is called 'x'"):
                lab.partition([["x"]])
            with pytest.raises(LabError, match="two groups"):
                lab.partition([["a"], ["a"]])


@_EVERY
def test_a_killed_host_loses_its_programs_and_keeps_its_folder(usable: str, runs: Path) -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(100)'])"
    with open_lab(usable, runs=runs) as lab:
        lab.start(["a", "b"])
        (lab.folder("a") / "kept").write_text("yes")
        address = lab.address("a")
        parent, bystander = (
            _python(lab, "a", code),
            lab.run("b", ["sleep", "100"], {}, lab.folder("b") / "log"),
        )
        time.sleep(0.3)
        lab.kill("a")
        assert parent.wait(5) == -signal.SIGKILL
        assert bystander.returncode is None
        lab.restart("a")
        assert lab.address("a") == address
        assert lab.run("a", ["cat", "kept"], {}, lab.folder("a") / "cat.log").wait(5) == 0
        assert (lab.folder("a") / "cat.log").read_text() == "yes"


@_EVERY
def test_a_paused_host_is_frozen(usable: str, runs: Path) -> None:
    code = "import sys, time\nfor n in range(2000): open('ticks', 'a').write('x'); time.sleep(0.02)"
    with open_lab(usable, runs=runs) as lab:
        lab.start(["a"])
        _python(lab, "a", code)
        ticks = lab.folder("a") / "ticks"
        while not ticks.exists() or ticks.stat().st_size < 5:
            time.sleep(0.05)
        lab.pause("a")
        time.sleep(0.1)
        before = ticks.stat().st_size
        time.sleep(0.4)
        assert ticks.stat().st_size == before
        lab.resume("a")
        time.sleep(0.4)
        assert ticks.stat().st_size > before
        lab.pause("a")
        lab.restart("a")
        assert lab.run("a", ["true"], {}, lab.folder("a") / "log").wait(5) == 0


@pytest.mark.parametrize("kind", ["processes"])
def test_processes_say_that_they_have_no_links(usable: str, runs: Path, serve: _Serve) -> None:
    with open_lab(usable, runs=runs) as lab:
        lab.start(["a", "b"])
        assert lab.shaping == "none"
        assert "not shaped" in lab.describe()
        with pytest.raises(UnsupportedError):
            lab.shape("a", Link(delay_ms=1))
        with pytest.raises(UnsupportedError):
            lab.partition([["a"], ["b"]])
        assert lab.address("a") != lab.address("b")
        serve(lab, "a")
        assert _rtt(lab, "b", "a") is not None


@_SHAPED
def test_partition_heal_and_restart_keep_the_link(usable: str, runs: Path, serve: _Serve) -> None:
    with open_lab(usable, runs=runs) as lab:
        lab.start(["a", "b", "c"])
        assert lab.shaping in lab.describe()
        for name in lab.names:
            lab.shape(name, Link(rate=20_000_000, delay_ms=15))
        serve(lab, "a")
        assert _rtt(lab, "b", "a") == pytest.approx(30, abs=5)

        lab.partition([["a"], ["b"]])
        serve(lab, "c")
        assert _rtt(lab, "b", "a", count=1) is None
        assert _rtt(lab, "b", "c", count=1) is None
        lab.partition([["a", "b"]])
        assert _rtt(lab, "b", "a") == pytest.approx(30, abs=5)
        assert _rtt(lab, "b", "c", count=1) is None

        lab.restart("b")
        assert _rtt(lab, "b", "a") == pytest.approx(30, abs=5)
        assert _rtt(lab, "b", "c", count=1) is None
        lab.heal()
        assert _rtt(lab, "b", "c") == pytest.approx(30, abs=5)

        lab.shape("b", Link(delay_ms=40))
        assert _rtt(lab, "b", "c") == pytest.approx(55, abs=5)
        lab.start(["d"])
        serve(lab, "d")
        assert _rtt(lab, "b", "d") == pytest.approx(40, abs=5)


@_SHAPED
def test_a_late_joiner_is_cut_off_by_a_standing_partition(usable: str, runs: Path, serve: _Serve) -> None:
    with open_lab(usable, runs=runs) as lab:
        lab.start(["a", "b"])
        lab.partition([["a"], ["b"]])
        lab.start(["c"])
        serve(lab, "c")
        assert _rtt(lab, "a", "c", count=1) is None


@_SHAPED
def test_nothing_leads_out(usable: str, runs: Path) -> None:
    # Connecting a datagram socket looks a route up and sends nothing.
    code = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))"
    with open_lab(usable, runs=runs) as lab:
        lab.start(["a"])
        log = lab.folder("a") / "route.log"
        assert _python(lab, "a", code, log).wait(10) == 1
        assert "Network is unreachable" in log.read_text()


@_SHAPED
def test_a_dead_delay_process_is_noticed(usable: str, runs: Path) -> None:
    with open_lab(usable, runs=runs, shaping="nfqueue") as lab:
        lab.start(["a"])
        lab.shape("a", Link(delay_ms=5))
        for pid in _delay_processes(lab.run_id):
            subprocess.run(["kill", "-9", str(pid)], check=True)
        time.sleep(0.2)
        with pytest.raises(LabError, match="delay process is gone"):
            lab.shape("a", Link(delay_ms=6))


def _delay_processes(run: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            except OSError:
                continue
            if b"p2pml.lab.pump" in command and f"P2PML_LAB_RUN={run}".encode() in environment:
                found.append(int(entry.name))
    assert found
    return found


def test_an_unknown_place_is_refused(runs: Path) -> None:
    with pytest.raises(LabError, match="no such place"), open_lab("moon", runs=runs):
        pass
    assert not runs.exists()


@pytest.mark.parametrize("kind", ["namespaces"])
def test_work_in_a_namespace_stays_there(usable: str) -> None:
    own = Path("/proc/self/ns/net").readlink()
    fd = netns.create()
    with open(fd, closefd=True):
        inside = netns.call(netns.held(fd), lambda: Path("/proc/thread-self/ns/net").readlink())
    assert inside != own
    assert Path("/proc/thread-self/ns/net").readlink() == own
