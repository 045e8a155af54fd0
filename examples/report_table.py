"""The table of the project's interim report, made fair: federated against conventional training on MNIST.

    python examples/report_table.py --mnist mnist.npz --out report-table
    python examples/report_table.py --quick --out report-table       # bundled digits, one seed, minutes

Real nodes on this machine train a job of ten participants in ten rounds of one epoch: ten passes over all
data. `p2pml compare` trains the same again: simulated by TensorFlow Federated, and in one place for ten
passes and for as many steps. Each run is kept in --out as it ends; started again, the command goes on with
the next. Writes table.md, table.json and two plots.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pml.cli.local_network import LocalNetwork, LocalNode
from p2pml.client import NodeClient
from p2pml.errors import UserError
from p2pml.job_output import FINAL_STATES
from p2pml.report.svg import line_chart
from p2pml.training.dataset import digits_path

SPEC = """\
version: 1
name: report-table
seed: {seed}
model: {{builder: sequential}}
data: {{train: {data}, partition: {{kind: iid}}, clients: {clients}}}
train: {{optimizer: sgd, lr: 0.01, batch: 32, epochs: 1}}
rounds: {{max: {rounds}}}
peers: {{min: {clients}, max: {clients}, stall: 300s, join: 600s}}
reward: none
output: {{dir: runs}}
"""
REPORTED = {"federated": 0.5592, "conventional": 0.8820}
"""Table 3.1 of the interim report."""
ARMS = {
    "network": "federated, networked",
    "simulation": "federated, simulated by TFF",
    "epochs": "conventional, equal passes",
    "steps": "conventional, equal steps",
}
START_S, JOB_S = 900.0, 3600.0


@dataclass(frozen=True)
class Setting:
    """What is run.

    Args:
        data: an npz.
        clients: participants, each a node.
        rounds: of one epoch each: passes over all data.
        seeds: one job each.
    """

    data: Path
    clients: int
    rounds: int
    seeds: Sequence[int]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mnist", type=Path, help="mnist.npz: x_train, y_train, x_test, y_test")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs, table and plots")
    parser.add_argument("--quick", action="store_true", help="bundled digits, 3 nodes, 2 rounds, one seed")
    given = parser.parse_args()
    if not given.quick and (given.mnist is None or not given.mnist.is_file()):
        parser.error("name MNIST's npz with --mnist, or take --quick")
    small = Setting(digits_path(), 3, 2, [1])
    setting = small if given.quick else Setting(given.mnist.resolve(), 10, 10, [1, 2, 3])
    out = given.out.resolve()
    try:
        run_missing(setting, out)
        report(setting, out)
    except UserError as error:
        print(f"error: {error.cause}\n  fix: {error.fix}", file=sys.stderr)
        return 1
    return 0


# -- the runs ------------------------------------------------------------------------------------------------


def run_file(out: Path, seed: int) -> Path:
    """What `p2pml compare` wrote of a seed's job."""
    return out / f"seed-{seed}" / "compare.json"


def run_missing(setting: Setting, out: Path) -> None:
    """Train with every seed that has no run yet, all on one network."""
    missing = [seed for seed in setting.seeds if not run_file(out, seed).exists()]
    if not missing:
        return
    root = out / "network"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    trainers = [False] + [True] * setting.clients
    # No rating windows: in its minutes they would only take turns with the training.
    params = {"window_every_epochs": 0}
    with LocalNetwork(root, len(trainers), niceness=3, trainers=trainers, params=params) as network:
        start(network)
        for seed in missing:
            job = train(network, setting, seed)
            compare(network.nodes[0], job, out / f"seed-{seed}")
    shutil.rmtree(root)


def start(network: LocalNetwork) -> None:
    """Start the nodes and wait until all can train; one by one, since TensorFlow takes a while to load."""
    for number, node in enumerate(network.nodes, 1):
        node.start()
        network.wait(f"{node.name} did not get ready", ready(node), START_S)
        print(f"{number} of {len(network.nodes)} nodes are ready", file=sys.stderr)
    others = len(network.nodes) - 1

    def known() -> bool | None:
        peers = network.nodes[0].get("/peers")
        return True if sum(peer["trainer"] for peer in peers) == others else None

    network.wait("the nodes did not find each other", known, START_S)


def ready(node: LocalNode) -> Callable[[], bool | None]:
    return lambda: True if node.get("/status")["worker"] == "ready" else None


def train(network: LocalNetwork, setting: Setting, seed: int) -> str:
    """One job to its end; its id."""
    spec = SPEC.format(seed=seed, data=setting.data, clients=setting.clients, rounds=setting.rounds)
    with NodeClient(network.nodes[0].home) as client:
        body = {"spec": spec, "base_dir": str(network.root), "origin": "report_table.py"}
        job: str = client.post("/jobs", body, timeout_s=None)["id"]

    def over() -> dict[str, Any] | None:
        found: dict[str, Any] = network.nodes[0].get(f"/jobs/{job}")
        return found if found["state"] in FINAL_STATES else None

    print(f"seed {seed}: {setting.clients} participants train", file=sys.stderr)
    found = network.wait(f"the job of seed {seed} did not end", over, JOB_S)
    if found["state"] != "done":
        raise UserError(f"the job of seed {seed} {found['state']}: {found['reason']}", found["fix"])
    return job


def compare(node: LocalNode, job: str, folder: Path) -> None:
    """`p2pml compare` by its command line."""
    command = ["compare", job, "--out", str(folder), "--home", str(node.home.root)]
    done = subprocess.run([sys.executable, "-m", "p2pml", *command], stdout=subprocess.DEVNULL)
    if done.returncode:
        raise UserError(f"the comparison of the job {job} failed", "see above; run the command again")


# -- the table -----------------------------------------------------------------------------------------------


def report(setting: Setting, out: Path) -> None:
    """Write and print the table, and write the plots."""
    runs = [json.loads(run_file(out, seed).read_text()) for seed in setting.seeds]
    arms = {name: title for name, title in ARMS.items() if all(name in run["arms"] for run in runs)}
    found = {
        "seeds": list(setting.seeds),
        "fair": {name: ends(runs, name, -1) for name in arms},
        "as in the report": {"federated": ends(runs, "network", 0), "conventional": ends(runs, "epochs", -1)},
        "reported": REPORTED,
        "largest difference of network and simulation": max(
            (run["distances"]["simulation"]["largest"] for run in runs if "simulation" in run["distances"]),
            default=None,
        ),
    }
    text = "\n".join(markdown(found, setting))
    (out / "table.json").write_text(json.dumps(found, indent=2) + "\n")
    (out / "table.md").write_text(text + "\n")
    for name, x_label, x in (
        ("passes", "passes over all data", "samples"),
        ("seconds", "seconds", "seconds"),
    ):
        (out / f"{name}.svg").write_text(plot(runs, arms, x_label, x))
    print(text)


def ends(runs: Sequence[dict[str, Any]], arm: str, at: int) -> dict[str, Any]:
    """An arm after its round `at`, over all seeds."""
    rows = [run["arms"][arm][at] for run in runs]
    accuracies = [row["accuracy"] for row in rows]
    return {
        "accuracy": statistics.mean(accuracies),
        "accuracies": accuracies,
        "seconds": statistics.mean(row["seconds"] for row in rows),
        "samples": rows[0]["samples"],
        "steps": rows[0]["steps"],
    }


def markdown(found: dict[str, Any], setting: Setting) -> list[str]:
    """The fair table, and the report's own setting below it."""
    one_pass = found["as in the report"]["federated"]["samples"]
    lines = [
        f"| fair: {setting.rounds} passes over all data on both sides | accuracy (lowest to highest) "
        "| seconds | passes | steps one after another |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [line(ARMS[name], each, one_pass) for name, each in found["fair"].items()]
    lines += [
        "",
        f"| as in the report: {setting.rounds} passes against one, in {setting.clients} parts | accuracy "
        "(lowest to highest) | seconds | passes | steps one after another | the report's figure |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, each in found["as in the report"].items():
        lines.append(f"{line(name, each, one_pass)} {found['reported'][name]:.2%} |")
    return lines


def line(title: str, each: dict[str, Any], one_pass: int) -> str:
    low, high = min(each["accuracies"]), max(each["accuracies"])
    return (
        f"| {title} | {each['accuracy']:.2%} ({low:.2%} to {high:.2%}) | {each['seconds']:.1f} | "
        f"{each['samples'] / one_pass:.1f} | {each['steps']:,} |"
    )


def plot(runs: Sequence[dict[str, Any]], arms: dict[str, str], x_label: str, x: str) -> str:
    """Accuracy, the mean over the seeds."""
    one_pass = runs[0]["arms"]["network"][0]["samples"]
    scale = one_pass if x == "samples" else 1.0
    series = {}
    for name, title in arms.items():
        rounds = zip(*(run["arms"][name] for run in runs), strict=True)
        series[title] = [
            (
                statistics.mean(row[x] for row in rows) / scale,
                statistics.mean(row["accuracy"] for row in rows),
            )
            for rows in rounds
        ]
    return line_chart(f"Accuracy by {x_label}", x_label, "accuracy", series)


if __name__ == "__main__":
    sys.exit(main())
