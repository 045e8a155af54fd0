"""`p2pml train` and `p2pml job` against two real nodes with real training processes."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pml.cli.local_network import LocalNetwork
from p2pml.job_output import RESULT_FILES
from p2pml.training.bundled import write_digits

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        importlib.util.find_spec("tensorflow") is None,
        reason="TENSORFLOW IS NOT INSTALLED: nothing can be trained (install the extra `train`)",
    ),
]

SPEC = """\
version: 1
name: small
model: {{builder: softmax}}
data: {{train: digits.tar}}
train: {{lr: 0.1, batch: 32, epochs: 1}}
rounds: {{max: {rounds}}}
peers: {{min: {least}, join: {join}}}
reward: {{budget: 5}}
"""


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "p2pml", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNetwork]:
    with LocalNetwork(tmp_path_factory.mktemp("net"), 2) as network:
        write_digits(network.root)
        network.start()

        def warm() -> bool | None:
            status = [node.get("/status") for node in network.nodes]
            peers = network.nodes[0].get("/peers")
            ready = all(item["worker"] == "ready" for item in status)
            return True if ready and any(peer["trainer"] for peer in peers) else None

        network.wait("the workers did not get ready", warm, 200)
        yield network


def write_spec(
    network: LocalNetwork, name: str, *, rounds: int = 2, least: int = 1, join: str = "60s"
) -> str:
    path = network.root / f"{name}.yaml"
    path.write_text(SPEC.format(rounds=rounds, least=least, join=join))
    return str(path)


def test_a_job_is_followed_to_its_model(network: LocalNetwork) -> None:
    home = str(network.nodes[0].home.root)
    train = start("train", "--job", write_spec(network, "full"), "--home", home, "--json")
    out, err = train.communicate(timeout=200)
    assert train.returncode == 0, err
    job = json.loads(out)
    assert (job["state"], job["round"], len(job["history"])) == ("done", 2, 2)
    assert job["accuracy"] > 0.5
    lines = [line for line in err.splitlines() if ": round " in line and "accuracy" in line]
    assert len(lines) == 2, "one plain line per round when there is no terminal"
    assert "\x1b" not in err
    folder = Path(job["output"])
    assert folder.parent == network.root / "runs", "the output folder is relative to the spec"
    assert {"model.json", "model.safetensors", "report.json", "metrics.csv"} <= {
        p.name for p in folder.iterdir()
    }
    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    assert float(rows[-1]["accuracy"]) == pytest.approx(job["accuracy"], abs=1e-5)
    shown = start("job", "show", job["id"][:6], "--home", home).communicate(timeout=60)[0]
    assert "done" in shown
    assert "node2" in shown
    earned = job["peers"][0]["earned"]
    assert earned > 0
    assert network.nodes[1].get("/status")["balance"] >= 1000 * 10**8 + earned


def test_ctrl_c_detaches_and_the_job_can_be_watched_and_stopped(network: LocalNetwork) -> None:
    home = str(network.nodes[0].home.root)
    train = start("train", "--job", write_spec(network, "long", rounds=500), "--home", home)
    assert train.stderr is not None
    for line in train.stderr:
        if "round 1/500" in line:
            break
    train.send_signal(signal.SIGINT)
    _, err = train.communicate(timeout=60)
    assert train.returncode == 130
    assert "detached; the job goes on" in err
    job = err.split("p2pml job watch ")[1].split("`")[0]
    watch = start("job", "watch", job, "--home", home)
    assert watch.stderr is not None
    for line in watch.stderr:
        if "round 3/500" in line:
            break
    logs = start("job", "logs", job, "--follow", "--home", home)
    assert logs.stdout is not None
    assert logs.stdout.readline()
    logs.send_signal(signal.SIGINT)
    _, err = logs.communicate(timeout=60)
    assert logs.returncode == 130
    assert "Traceback" not in err
    stop = start("job", "stop", job, "--home", home, "--json")
    told = json.loads(stop.communicate(timeout=60)[0])
    assert stop.returncode == 0
    assert told["id"].startswith(job)
    assert told["end"] in ("", "stopped")
    _, err = watch.communicate(timeout=120)
    assert watch.returncode == 10
    assert "ended as stopped" in err
    assert network.nodes[0].get(f"/jobs/{job}")["output"], "what was trained so far is kept"


def test_a_job_that_nobody_joins_fails_with_its_reason(network: LocalNetwork) -> None:
    home = str(network.nodes[0].home.root)
    spec = write_spec(network, "lonely", least=5, join="2s")
    train = start("train", "--job", spec, "--home", home, "--json")
    out, err = train.communicate(timeout=120)
    assert train.returncode == 12
    assert json.loads(out)["end"] == "no-trainers"
    assert "of 5 peers" in err
    assert "Traceback" not in err


def test_a_dry_run_begins_nothing(network: LocalNetwork) -> None:
    home = str(network.nodes[0].home.root)
    before = network.nodes[0].get("/jobs")
    quote = start("train", "--dry-run", "--job", write_spec(network, "dry"), "--home", home)
    out, err = quote.communicate(timeout=60)
    assert quote.returncode == 0, err
    for words in ("1 would be invited now, 1 are needed", "650 parameters", "5 tokens at most"):
        assert words in out
    assert network.nodes[0].get("/jobs") == before


def test_detached_from_the_start(network: LocalNetwork) -> None:
    home = str(network.nodes[0].home.root)
    train = start("train", "--detach", "--job", write_spec(network, "away", rounds=1), "--home", home)
    out, _ = train.communicate(timeout=60)
    assert train.returncode == 0
    job = out.strip()

    def over() -> str | None:
        state = network.nodes[0].get(f"/jobs/{job}")["state"]
        return state if state in ("done", "failed", "stopped") else None

    assert network.wait("the job did not end", over, 120) == "done"
    watch = start("job", "watch", job, "--home", home)
    watch.communicate(timeout=60)
    assert watch.returncode == 0, "watching a job that is over returns at once"
    logs = start("job", "logs", job[:8], "--follow", "--home", home)
    out, err = logs.communicate(timeout=60)
    assert logs.returncode == 0, err
    assert "round 1 of 1 done: accuracy" in out
    assert out.splitlines()[-1].endswith("  done")
    page = Path(home).parent / "report.html"
    report = start("job", "report", job[:8], "-o", str(page), "--home", home)
    _, err = report.communicate(timeout=60)
    assert report.returncode == 0, err
    assert "accuracy, %</text>" in page.read_text()
    assert "name: small" in page.read_text()
    again = start("job", "report", job[:8], "-o", str(page), "--home", home, "--json")
    assert json.loads(again.communicate(timeout=60)[0]) == {"id": job, "file": str(page)}
    events = start(
        "job", "tensorboard", job[:8], "-o", str(Path(home).parent / "events"), "--home", home, "--json"
    )
    out, err = events.communicate(timeout=200)
    assert events.returncode == 0, err
    told = json.loads(out)
    assert told["id"] == job
    assert [path.name[:19] for path in Path(told["folder"]).iterdir()] == ["events.out.tfevents"]
    copied = Path(home).parent / "copied"
    result = start("job", "result", job[:8], "-o", str(copied), "--home", home)
    out, err = result.communicate(timeout=60)
    assert result.returncode == 0, err
    assert out.split() == [str(copied / name) for name in RESULT_FILES]
    assert all((copied / name).stat().st_size for name in RESULT_FILES)
