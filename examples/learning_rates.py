"""Train the same model with several learning rates, one job after the other, and keep the best.

    python examples/learning_rates.py --home net/n0 --data digits.tar 0.3 0.1 0.03

A job is given up as soon as its loss is twice what it was after the first round.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from safetensors.numpy import load_file

from p2pml import Client, Job, Round, UserError
from p2pml.errors import ExitCode


def spec(rate: float, data: str, rounds: int) -> dict[str, object]:
    return {
        "version": 1,
        "name": f"digits-{rate:g}",
        "model": {"builder": "mlp", "args": {"hidden": [32]}},
        "data": {"train": data},
        "train": {"lr": rate, "batch": 16, "epochs": 2},
        "rounds": {"max": rounds},
        "peers": {"min": 1, "join": "120s"},
        "reward": {"budget": 2},
    }


def train(client: Client, rate: float, data: str, rounds: int) -> tuple[float, Job]:
    """One job to its end; returns the accuracy that it reached."""
    done: list[Round] = []
    job = client.train(spec(rate, data, rounds))

    def look(each: Round) -> None:
        done.append(each)
        print(
            f"lr {rate:g}: round {each.round}, accuracy {each.accuracy:.1%}, loss {each.loss:.3f}", flush=True
        )
        if each.loss > 2 * done[0].loss:
            job.stop()

    try:
        client.job(job.id, on_round=look).wait()
    except UserError as error:
        if error.code is not ExitCode.STOPPED:
            raise
        print(f"lr {rate:g}: given up")
    return done[-1].accuracy, job


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rates", nargs="+", type=float)
    parser.add_argument("--home", type=Path, help="of a running node with tokens")
    parser.add_argument("--data", required=True, help="a file, or a data set's name on the network")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("best"))
    asked = parser.parse_args()
    client = Client(asked.home)
    found = [train(client, rate, asked.data, asked.rounds) for rate in asked.rates]
    accuracy, best = max(found, key=lambda pair: pair[0])
    weights = load_file(best.result(asked.out) / "model.safetensors")
    parameters = sum(array.size for array in weights.values())
    print(f"best: {accuracy:.1%} with {parameters:,} parameters, in {asked.out}")


if __name__ == "__main__":
    main()
