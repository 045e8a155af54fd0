"""The job spec: what is accepted, and what each error tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pml.errors import ExitCode, UserError
from p2pml.formats.optimizers import Optimizer
from p2pml.training.dataset import Reading
from p2pml.training.spec import JobSpec, parse_spec

EXAMPLES = Path(__file__).parents[2] / "examples"
MINIMAL = """\
name: tiny
model: {builder: mlp, args: {hidden: [8]}}
data: {train: digits.npz}
"""


def refused(text: str) -> UserError:
    with pytest.raises(UserError) as caught:
        parse_spec(text, "job.yaml")
    assert caught.value.code == ExitCode.BAD_CONFIG
    return caught.value


def test_a_minimal_spec_has_working_defaults() -> None:
    spec = parse_spec(MINIMAL)
    assert (spec.train.algorithm, spec.train.batch, spec.rounds.max) == ("fedavg", 32, 10)
    assert (spec.budget, spec.peers.stall, spec.data.partition.kind) == (0, 30.0, "iid")


@pytest.mark.parametrize("name", ["mnist.yaml", "digits.yaml"])
def test_examples_are_valid(name: str) -> None:
    spec = parse_spec((EXAMPLES / name).read_text(), name)
    assert spec.budget > 0
    assert spec.rounds.target is not None


@pytest.mark.parametrize(
    ("line", "key", "near"),
    [
        ("roundz: {max: 3}", "roundz", "rounds"),
        ("train: {learning_rate: 0.1, epoch: 2}", "train.learning_rate", None),
        ("train: {epoch: 2}", "train.epoch", "epochs"),
        ("peers:\n  min: 1\n  stal: 3s", "peers.stal", "stall"),
        ("rounds: {target: {metrik: accuracy, value: 0.9}}", "rounds.target.metrik", "metric"),
    ],
)
def test_an_unknown_key_names_line_and_nearest_key(line: str, key: str, near: str | None) -> None:
    error = refused(MINIMAL + line + "\n")
    wrong_line = 4 + line.count("\n")
    assert error.cause == f"job.yaml:{wrong_line}: unknown key {key!r}"
    assert error.fix == f"did you mean {near!r}?" if near else error.fix.startswith("known keys here:")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train: {algorithm: sync_sgd, epochs: 2}", ["sync_sgd takes one step of plain sgd a round"]),
        ("train: {algorithm: sync_sgd, optimizer: adam}", ["sync_sgd takes one step of plain sgd a round"]),
        ("train: {algorithm: fedprox}", ["'fedprox' is unknown", "fedavg"]),
        ("train: {prox: -0.1}", ["prox is -0.1", "from 0 to 1000"]),
        ("transport: {broadcast: swarm}", ["'swarm' is not supported by this version", "stream"]),
        ("transport: {upload: int4}", ["'int4' is unknown", "did you mean 'int8'?"]),
        ("audit: {mode: replay}", ["'replay' is not supported by this version", "trusted"]),
        ("peers: {sample: 0}", ["peers.sample", "greater than 0"]),
        ("peers: {backup: 1}", ["backup needs a sample below 1"]),
        ("aggregate: {rule: krum}", ["'krum' is unknown", "trimmed_mean"]),
        ("aggregate: {trim: 0.2}", ["rule 'mean' has no argument 'trim'; it takes none"]),
        ("aggregate: {rule: trimmed_mean, trim: 0.5}", ["trim is 0.5", "below 0.5"]),
        ("aggregate: {rule: robust}", ["rule 'robust' needs zero, clip or both"]),
        ("aggregate: {rule: robust, clip: 0}", ["clip is 0.0", "over 0"]),
        ("aggregate: {rule: dp, clip: 1}", ["rule 'dp' needs noise"]),
        ("aggregate: {rule: dp, clip: 1, noise: 1, delta: 1}", ["delta is 1.0"]),
        ("aggregate: {max_norm: 0}", ["max_norm"]),
        ("train: {optimizer: sgdd}", ["'sgdd' is unknown", "did you mean 'sgd'?"]),
        ("train: {lr: .nan}", ["train.lr"]),
        ("train: {lr: true}", ["must be a number"]),
        ("train: {epochs: 1.5}", ["train.epochs"]),
        ("seed: yes", ["seed"]),
        ("peers: {min: 4, max: 2}", ["min is greater than max"]),
        ("peers: {stall: soon}", ["'soon' is not a duration"]),
        ("reward: {budget: 0.123456789}", ["more than 8 decimals"]),
        ("reward: {budget: -1}", ["reward.budget"]),
        ("aggregate: {server_optimizer: {name: adam, momentum: 0.9}}", ["momentum"]),
        ("train: {lr: 0}", ["lr is 0.0"]),
        ("train: {optimizer: adam, momentum: 0.5}", ["which belongs to sgdm; it takes lr, beta_1"]),
        ("train: {momentum: 0.5}", ["'sgd' has no argument 'momentum', which belongs to sgdm; it takes lr"]),
        ("train: {optimizer: sgdm, momentum: 1}", ["momentum is 1.0"]),
        ("train: {algorithm: sync_sgd, optimizer: sgdm}", ["sync_sgd takes one step of plain sgd a round"]),
        ("aggregate: {server_optimizer: {name: rmsprop}}", ["rmsprop", "adagrad"]),
    ],
)
def test_a_wrong_value_says_what_is_accepted(line: str, words: list[str]) -> None:
    error = refused(MINIMAL + line + "\n")
    assert error.cause.startswith("job.yaml:4: ")
    for word in words:
        assert word in error.cause


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be a mapping"),
        ("- 1", "must be a mapping"),
        ("name: [", "not valid YAML"),
        ("name: a\nname: b", "the key 'name' is there twice"),
        ("a: &x [1]\nb: *x", "anchors"),
        ("1: 2", "a key must be text"),
        ("name: !!python/object/apply:os.system ['true']", "is not allowed"),
        ("name: 2024-01-01", "put text in quotes"),
        ("name: \x00", "not readable"),
        ("name: tiny\ndata: {train: x}", "the key 'model' is missing"),
        ("name: tiny\nmodel: {}\ndata: {train: x}", "give either a builder"),
    ],
)
def test_what_is_not_a_spec(text: str, words: str) -> None:
    assert words in refused(text).cause


def test_a_wrong_builder_is_found_before_anything_starts() -> None:
    error = refused(MINIMAL.replace("mlp", "mpl"))
    assert error.cause.startswith("job.yaml:2: ")
    assert "did you mean 'mlp'?" in error.cause
    assert "'hiden'" in refused(MINIMAL.replace("hidden", "hiden")).cause


@pytest.mark.parametrize(
    ("text", "units"),
    [("100", 100 * 10**8), ("0.1", 10**7), ("0.00000001", 1), ("'12.5'", 1_250_000_000), ("1e-3", 10**5)],
)
def test_a_budget_is_exact(text: str, units: int) -> None:
    assert parse_spec(MINIMAL + f"reward: {{budget: {text}}}").budget == units


def test_reward_none_means_unpaid() -> None:
    assert parse_spec(MINIMAL + "reward: none").budget == 0


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("2m", 120), ("1.5h", 5400), ("45", 45)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_spec(MINIMAL + f"peers: {{stall: {text}}}").peers.stall == seconds


def test_a_spec_survives_a_round_trip() -> None:
    spec = parse_spec(MINIMAL + "rounds: {max: 3, target: {metric: accuracy, value: 0.9}}")
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec


def test_arguments_of_builders_are_checked_before_anything_starts() -> None:
    error = refused(MINIMAL.replace("[8]", "[0]"))
    assert error.cause.startswith("job.yaml:2: ")
    assert "args.hidden.0: Input should be greater than or equal to 1" in error.cause
    resnet = MINIMAL.replace("mlp, args: {hidden: [8]}", "resnet, args: {blocks: 99}")
    assert "args.blocks: Input should be less than or equal to 9" in refused(resnet).cause


def test_how_data_is_read() -> None:
    text = MINIMAL.replace(
        "digits.npz", "d, format: csv, member: sub, label: -1, sample: s, shape: [8, 8], scale: 2"
    )
    assert parse_spec(text).data.reading() == Reading("csv", "sub", -1, "s", (8, 8), 2.0)
    assert parse_spec(MINIMAL).data.reading() == Reading()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("format: cvs", "data.format: 'cvs' is unknown; did you mean 'csv'?"),
        ("shape: []", "data.shape"),
        ("shape: [0]", "data.shape"),
        ("shape: 8", "data.shape"),
        ("scale: 0", "data.scale"),
        ("scale: .inf", "data.scale"),
        ("label: 1.5", "data.label"),
        ("lable: y", "unknown key 'data.lable'"),
    ],
)
def test_wrong_ways_of_reading_are_named(data: str, words: str) -> None:
    error = refused(MINIMAL.replace("digits.npz", f"digits.npz, {data}"))
    assert error.cause.startswith("job.yaml:3: ")
    assert words in error.cause


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("{train: wards, partition: {kind: by_owner}}", "by_owner needs validation: {path: …}"),
        (
            "{train: d.npz, validation: {path: v.npz}}",
            "validation.path belongs to the partitions by_owner and by_seed",
        ),
        (
            "{train: wards, clients: 3, partition: {kind: by_owner}, validation: {path: v.npz}}",
            "by_owner makes a client of each owner: leave clients out",
        ),
        (
            "{train: ../wards, partition: {kind: by_owner}, validation: {path: v.npz}}",
            "train is the name that the owners gave their data",
        ),
        ("{train: d, partition: {kind: by_seed, samples: 9}}", "by_seed needs validation: {path: …}"),
        (
            "{train: d, partition: {kind: by_seed}}",
            "samples, how many the data has, belongs to kind: by_seed",
        ),
        ("{train: d, partition: {kind: iid, samples: 9}}", "samples, how many the data has, belongs to kind"),
        ("{train: d.npz, partition: {kind: by_ownr}}", "did you mean 'by_owner'?"),
    ],
)
def test_what_private_data_needs(data: str, words: str) -> None:
    error = refused(MINIMAL.replace("{train: digits.npz}", data))
    assert error.cause.startswith("job.yaml:3: ")
    assert words in error.cause


def test_a_job_on_private_data() -> None:
    data = "{train: wards, partition: {kind: by_owner}, validation: {path: v.npz}}"
    spec = parse_spec(MINIMAL.replace("{train: digits.npz}", data))
    assert (spec.data.partition.kind, spec.data.validation.path) == ("by_owner", "v.npz")


@pytest.mark.parametrize(
    ("line", "args"),
    [("optimizer: sgd", {}), ("optimizer: sgdm", {}), ("optimizer: sgdm, momentum: 0.5", {"momentum": 0.5})],
)
def test_the_optimizers_of_clients(line: str, args: dict[str, float]) -> None:
    optimizer = parse_spec(MINIMAL + f"train: {{{line}, lr: 0.2}}").train.client_optimizer()
    assert optimizer == Optimizer(line.split()[1].strip(","), 0.2, args)
