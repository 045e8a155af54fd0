from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from p2pml.training import models
from p2pml.training.models import SpecError


def test_the_two_hidden_layers_of_mcmahan() -> None:
    spec = models.build("mlp", {}, (28, 28), 10)
    assert spec.params == 199_210  # as the paper says


def test_the_cnn_of_mcmahan() -> None:
    spec = models.build("cnn", {}, (28, 28), 10)
    assert spec.params == 1_663_370  # as the paper says


def test_logistic_regression_and_colour_images() -> None:
    assert models.build("logistic", {}, (28, 28), 10).params == 7850
    assert models.build("softmax", {}, (8, 8), 10) == models.build("logistic", {}, (8, 8), 10)
    assert models.build("cnn", {"filters": [8], "kernel": 3, "dense": 32}, (32, 32, 3), 10).classes == 10


@pytest.mark.parametrize(
    ("builder", "args", "message"),
    [
        ("mpl", {}, "unknown model builder 'mpl'; did you mean 'mlp'"),
        ("mlp", {"hiden": [2]}, "no argument 'hiden'; did you mean 'hidden'"),
        ("logistic", {"hidden": [2]}, "it takes none"),
        ("mlp", {"hidden": 200}, "not a list of whole numbers"),
        ("mlp", {"hidden": [True]}, "not a list of whole numbers"),
        ("mlp", {"hidden": [10**9]}, "units"),
        ("mlp", {"activation": "gulu"}, "activation"),
        ("mlp", {"activation": {1}}, "builder 'mlp'"),
        ("mlp", {"dropout": 2.0}, "rate"),
        ("mlp", {"hidden": [200_000, 200_000]}, "parameters"),
        ("cnn", {"filters": [4] * 6}, "does not fit"),
    ],
)
def test_wrong_arguments_are_named(builder: str, args: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        models.build(builder, args, (28, 28), 10)


def test_a_cnn_needs_images() -> None:
    with pytest.raises(SpecError, match="needs images"):
        models.build("cnn", {}, (64,), 10)


def test_a_users_own_json(tmp_path: Path) -> None:
    spec = models.build("mlp", {"hidden": [5]}, (3,), 2)
    path = tmp_path / "model.json"
    path.write_text(spec.to_json(), encoding="utf-8")
    assert models.load(path) == spec
    path.write_bytes(b"\x89HDF\r\n\x1a\nrest")
    with pytest.raises(SpecError, match="may run code when loaded"):
        models.load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match="UTF-8"):
        models.load(path)


@pytest.mark.slow
def test_none_of_it_loads_tensorflow() -> None:
    code = (
        "import sys, p2pml.training.models, p2pml.training.dataset, p2pml.worker.process\n"
        "assert not {'tensorflow', 'tensorflow_federated', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
