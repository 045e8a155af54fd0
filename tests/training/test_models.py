from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from p2pml.formats import tensors
from p2pml.formats.initial import initial_weights
from p2pml.training import models
from p2pml.training.models import SpecError


def test_the_two_hidden_layers_of_mcmahan() -> None:
    spec = models.build("mlp", {}, (28, 28), 10)
    assert spec.params == 199_210  # as the paper says


def test_the_cnn_of_mcmahan() -> None:
    spec = models.build("cnn", {}, (28, 28), 10)
    assert spec.params == 1_663_370  # as the paper says


def test_the_other_builders_have_the_counts_of_their_sources() -> None:
    assert models.build("sequential", {}, (28, 28), 10).params == 7850
    # He et al. say 0.27 million. By hand: 268,346 in convolutions and the dense layer, 2 values for each of
    # 688 normalised channels, and the two projections with their 96.
    assert models.build("resnet", {}, (32, 32, 3), 10).params == 268_346 + 2 * 688 + 512 + 2048 + 2 * 96
    lstm = models.build("lstm", {"vocabulary": 80}, (80,), 80)
    first, second = 4 * 256 * (8 + 256 + 1), 4 * 256 * (256 + 256 + 1)
    assert lstm.params == 80 * 8 + first + second + 257 * 80


@pytest.mark.parametrize("builder", ["sequential", "resnet", "lstm"])
def test_the_canonical_text_of_each_is_a_fixed_point(builder: str) -> None:
    shape = (80,) if builder == "lstm" else (32, 32, 3)
    spec = models.build(builder, {}, shape, 10)
    assert models.parse(spec.to_json()) == spec
    assert models.parse(spec.to_json()).to_json() == spec.to_json()


def test_weights_of_an_earlier_job(tmp_path: Path) -> None:
    spec = models.build("mlp", {"hidden": [5]}, (3,), 2)
    path = tmp_path / "w.safetensors"
    weights = tensors.encode(initial_weights(spec, 1))
    path.write_bytes(weights)
    assert models.load_weights(path, spec) == weights
    for wrong in (tensors.encode([np.zeros(3)]), b"\x80\x04junk", b""):
        path.write_bytes(wrong)
        with pytest.raises(SpecError, match="no weights for this model"):
            models.load_weights(path, spec)


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
        ("mlp", {"hidden": 200}, "args.hidden: .*valid list"),
        ("mlp", {"hidden": [True]}, "args.hidden.0: .*valid integer"),
        ("mlp", {"hidden": [10**9]}, "args.hidden.0: .*less than"),
        ("mlp", {"activation": "gulu"}, "activation"),
        ("mlp", {"activation": {1}}, "builder 'mlp'"),
        ("mlp", {"dropout": 2.0}, "args.dropout: .*less than"),
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
    for saved in (b"\x89HDF\r\n\x1a\nrest", b"PK\x03\x04rest", b"\x80\x04\x95rest"):
        path.write_bytes(saved)
        with pytest.raises(SpecError, match="may run code when loaded"):
            models.load(path)
    with pytest.raises(SpecError, match=r"is a folder.*may run code when loaded"):
        models.load(tmp_path)
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
