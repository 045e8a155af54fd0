"""`p2pml.Client` with real daemons: rounds across a kill of the node, and the example as one runs it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from p2pml import Client, Round, UserError
from p2pml.cli.local_network import LocalNetwork
from p2pml.errors import ExitCode
from p2pml.job_output import RESULT_FILES
from p2pml.training.bundled import write_digits

REPO = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        importlib.util.find_spec("tensorflow") is None,
        reason="TENSORFLOW IS NOT INSTALLED: nothing can be trained (install the extra `train`)",
    ),
]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNetwork]:
    with LocalNetwork(tmp_path_factory.mktemp("net"), 2, params={"window_every_epochs": 0}) as network:
        write_digits(network.root)
        network.start()

        def warm() -> bool | None:
            ready = all(node.get("/status")["worker"] == "ready" for node in network.nodes)
            return True if ready and any(peer["trainer"] for peer in network.nodes[0].get("/peers")) else None

        network.wait("the workers did not get ready", warm, 300)
        yield network


def test_every_round_is_told_once_although_the_node_is_killed(network: LocalNetwork, tmp_path: Path) -> None:
    requester = network.nodes[0]
    client = Client(requester.home.root)
    told: list[Round] = []
    third = threading.Event()

    def kill_and_start() -> None:
        third.wait(300)
        requester.kill()
        requester.start()

    def on_round(each: Round) -> None:
        told.append(each)
        if each.round == 3:
            third.set()

    killing = threading.Thread(target=kill_and_start)
    killing.start()
    spec = {
        "name": "killed",
        "model": {"builder": "softmax"},
        "data": {"train": "digits.tar"},
        "train": {"lr": 0.1, "batch": 4, "epochs": 3},
        "rounds": {"max": 12},
        "peers": {"min": 1, "join": "300s"},
        "reward": {"budget": 5},
    }
    job = client.train(spec, on_round, base_dir=network.root).wait()
    killing.join()
    assert third.is_set()
    assert [each.round for each in told] == list(range(1, 13))
    assert told == job.rounds()
    assert told[-1].accuracy > 0.5
    folder = job.result(tmp_path / "model")
    assert {path.name for path in folder.iterdir()} == set(RESULT_FILES)
    assert sum(array.size for array in load_file(folder / "model.safetensors").values()) == 650
    assert job.id in [each.id for each in client.jobs()]


def test_a_stopped_job_ends_its_wait(network: LocalNetwork) -> None:
    client = Client(network.nodes[0].home.root)
    spec = {
        "name": "stopped",
        "model": {"builder": "softmax"},
        "data": {"train": "digits.tar"},
        "rounds": {"max": 500},
        "peers": {"min": 1, "join": "300s"},
        "reward": {"budget": 5},
    }
    job = client.train(spec, base_dir=network.root)
    with pytest.raises(UserError) as ended:
        client.job(job.id, on_round=lambda each: job.stop() if each.round == 2 else None).wait()
    assert ended.value.code is ExitCode.STOPPED
    assert job.show()["end"] == "stopped"


def test_the_example(network: LocalNetwork, tmp_path: Path) -> None:
    home, data = str(network.nodes[0].home.root), str(network.root / "digits.tar")
    arguments = ["--home", home, "--data", data, "--rounds", "2", "--out", "best", "0.1", "0.03"]
    done = subprocess.run(
        [sys.executable, str(REPO / "examples" / "learning_rates.py"), *arguments],
        cwd=tmp_path, capture_output=True, text=True, timeout=500, env={**os.environ},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "lr 0.03: round 2" in done.stdout
    assert "with 2,410 parameters, in best" in done.stdout
    assert (tmp_path / "best" / "model.safetensors").stat().st_size > 4 * 2410
