from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pml.formats import SpecError
from p2pml.formats.keras_json import Limits, parse


def layer(kind: str, **config: Any) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": kind, "config": config, "registered_name": None}


def description(*layers: dict[str, Any]) -> dict[str, Any]:
    first = layer(
        "InputLayer", batch_input_shape=[None, 4, 4], dtype="float32", sparse=False, ragged=False, name="i"
    )
    return {
        "class_name": "Sequential",
        "config": {"name": "m", "layers": [first, *layers]},
        "keras_version": "2.14.0",
        "backend": "tensorflow",
    }


def good() -> dict[str, Any]:
    return description(
        layer("Flatten", name="f", trainable=True, dtype="float32", data_format="channels_last"),
        layer("Dense", name="d", units=8, activation="relu", use_bias=True, kernel_regularizer=None),
        layer("Dense", name="e", units=3, activation="linear"),
    )


def test_a_dense_model_and_its_sizes() -> None:
    spec = parse(json.dumps(good()))
    assert spec.input_shape == (4, 4)
    assert spec.classes == 3
    assert spec.from_logits
    assert not spec.random
    assert spec.weight_shapes == ((16, 8), (8,), (8, 3), (3,))
    assert spec.params == 16 * 8 + 8 + 8 * 3 + 3
    assert spec.flops == 2 * (16 * 8 + 8 * 3)


def test_the_canonical_text_is_a_fixed_point_and_forgets_names() -> None:
    spec = parse(json.dumps(good()))
    renamed = good()
    renamed["config"]["layers"][2]["config"]["name"] = "other"
    renamed["config"]["layers"][2]["build_config"] = {"input_shape": [None, 16]}
    assert parse(spec.to_json()) == spec
    assert parse(json.dumps(renamed)).to_json() == spec.to_json()


def test_a_convolutional_model() -> None:
    spec = parse(
        json.dumps(
            description(
                layer("Reshape", target_shape=[4, 4, 1]),
                layer("Conv2D", filters=2, kernel_size=[3, 3], padding="same", activation="relu"),
                layer("MaxPooling2D", pool_size=[2, 2], strides=[2, 2], padding="valid"),
                layer("LayerNormalization", axis=[3], epsilon=0.001, center=True, scale=True),
                layer("Dropout", rate=0.5, noise_shape=None, seed=None),
                layer("GlobalAveragePooling2D"),
                layer("Dense", units=5, use_bias=False),
                layer("Activation", activation="softmax"),
            )
        )
    )
    assert spec.weight_shapes == ((3, 3, 1, 2), (2,), (2,), (2,), (2, 5))
    assert not spec.from_logits
    assert spec.random


Change = Callable[[dict[str, Any]], None]


def _layer_two(**changes: Any) -> Change:
    return lambda model: model["config"]["layers"][2].update(changes)


def _config(**changes: Any) -> Change:
    return lambda model: model["config"]["layers"][2]["config"].update(changes)


def _insert(raw: Any) -> Change:
    return lambda model: model["config"]["layers"].insert(2, raw)


def _first(raw: Any) -> Change:
    return lambda model: model["config"]["layers"].insert(1, raw)


INITIALIZER = {"module": "keras.initializers", "class_name": "GlorotUniform", "config": {"seed": None}}

HOSTILE: dict[str, tuple[Change, str]] = {
    "lambda": (_insert(layer("Lambda", function=["4wAA", None, None])), "Lambda.*not accepted"),
    "op lambda": (_insert(layer("TFOpLambda", function="io.write_file")), "TFOpLambda.*not accepted"),
    "nested model": (_insert(description(layer("Flatten"))), "Sequential.*not accepted"),
    "subclassed": (lambda m: m.update(class_name="MyModel"), "only 'Sequential'"),
    "functional without wiring": (lambda m: m.update(class_name="Functional"), "no name of its own"),
    "deep in a value": (_config(units=json.loads("[" * 40 + "]" * 40)), "nested over 16 deep"),
    "deep almost as the stack": (_config(units=json.loads("[" * 900 + "]" * 900)), "nested over 16 deep"),
    "embedding absurd": (_insert(layer("Embedding", input_dim=1 << 25, output_dim=8)), "input_dim"),
    "embedding of what a layer makes": (_insert(layer("Embedding", input_dim=9, output_dim=8)), "the first"),
    "lstm units": (_first(layer("LSTM", units=1 << 20)), "at most 1024"),
    "lstm stateful": (_first(layer("LSTM", units=2, stateful=True)), "stateful"),
    "lstm activation": (_first(layer("LSTM", units=2, activation="relu")), "activation"),
    "groups": (_insert(layer("GroupNormalization", groups=3)), "do not divide"),
    "custom class": (_insert(layer("os>system")), "not accepted"),
    "batch norm": (_insert(layer("BatchNormalization")), "not accepted"),
    "foreign module": (_layer_two(module="os"), "module"),
    "keras internal module": (_layer_two(module="keras.src.utils"), "module"),
    "registered name": (_layer_two(registered_name="builtins>eval"), "registered_name"),
    "extra envelope key": (_layer_two(compile_config={}), "compile_config"),
    "unknown config key": (_config(call_hook="x"), "call_hook"),
    "callable activation": (_config(activation={"class_name": "function", "config": "eval"}), "activation"),
    "unknown activation": (_config(activation="os.system"), "activation"),
    "regularizer": (_config(kernel_regularizer={"class_name": "L2", "config": {}}), "kernel_regularizer"),
    "constraint": (_config(kernel_constraint={"class_name": "X"}), "kernel_constraint"),
    "activity regularizer": (_config(activity_regularizer={"class_name": "X"}), "activity_regularizer"),
    "other initializer": (_config(kernel_initializer={"class_name": "Constant"}), "kernel_initializer"),
    "foreign initializer": (_config(kernel_initializer={**INITIALIZER, "module": "os"}), "initializer"),
    "initializer settings": (
        _config(kernel_initializer={**INITIALIZER, "config": {"seed": {"class_name": "x"}}}),
        "initializer",
    ),
    "initializer key": (_config(kernel_initializer={**INITIALIZER, "x": 1}), "initializer"),
    "frozen": (_config(trainable=False), "trainable"),
    "float64": (_config(dtype="float64"), "dtype"),
    "policy": (_config(dtype={"class_name": "Policy", "config": {}}), "dtype"),
    "units a bool": (_config(units=True), "units"),
    "units a float": (_config(units=8.0), "units"),
    "units zero": (_config(units=0), "units"),
    "units a text": (_config(units="8"), "units"),
    "units absurd": (_config(units=10**30), "units"),
    "too many units": (_config(units=1 << 24), "values a sample"),
    "use_bias a number": (_config(use_bias=1), "use_bias"),
    "name a list": (_config(name=["x"]), "name"),
    "no config": (_insert({"class_name": "Dense"}), "not an object with a config"),
    "layer a text": (_insert("Dense"), "not an object"),
    "second input": (_insert(layer("InputLayer", batch_input_shape=[None, 2])), "only the first"),
    "window too large": (_insert(layer("MaxPooling2D", pool_size=[2, 2])), "rows, columns, channels"),
    "reshape": (_insert(layer("Reshape", target_shape=[-1])), "target_shape"),
    "reshape size": (_insert(layer("Reshape", target_shape=[17])), "does not hold"),
    "model key": (lambda m: m.update(compile_config={}), "compile_config"),
    "config key": (lambda m: m["config"].update(build_input_shape=[1]), "nothing else"),
    "backend": (lambda m: m.update(backend="theano"), "backend"),
    "many layers": (lambda m: m["config"].update(layers=m["config"]["layers"] * 100), "needs an input"),
    "no layers": (lambda m: m["config"].update(layers=[]), "needs an input"),
    "no input": (lambda m: m["config"]["layers"].pop(0), "must be an InputLayer"),
    "no classes": (lambda m: m["config"]["layers"].pop(), "activation is 'relu'"),
    "one class": (lambda m: m["config"]["layers"][3]["config"].update(units=1), "one value a class"),
    "nothing to train": (lambda m: m["config"].update(layers=m["config"]["layers"][:2]), "no weights"),
    "input unknown": (
        lambda m: m["config"]["layers"][0]["config"].update(batch_input_shape=[None, None]),
        "batch_input_shape",
    ),
    "input a batch": (
        lambda m: m["config"]["layers"][0]["config"].update(batch_input_shape=[32, 4]),
        "batch_input_shape",
    ),
    "input huge": (
        lambda m: m["config"]["layers"][0]["config"].update(batch_input_shape=[None, *([1 << 24] * 6)]),
        "values",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_descriptions_are_refused(name: str) -> None:
    change, message = HOSTILE[name]
    model = good()
    change(model)
    with pytest.raises(SpecError, match=message):
        parse(json.dumps(model))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[]", "not a JSON object"),
        ("[" * 100_000, "not JSON"),
        ('{"a":1,"a":2}', "twice"),
        ('{"a":NaN}', "NaN"),
        ('{"a":' + "9" * 5000 + "}", "not JSON"),
        (" " * 300_000, "characters"),
    ],
)
def test_texts_that_are_no_description_are_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse(text)


def test_size_limits() -> None:
    text = json.dumps(good())
    for limits, message in (
        (Limits(params=100), "163 parameters, at most 100"),
        (Limits(flops=100), "304 operations, at most 100"),
        (Limits(activations=15), "values"),
    ):
        with pytest.raises(SpecError, match=message):
            parse(text, limits)


def functional() -> dict[str, Any]:
    """input → a → b, and a + b → classes, as Keras writes it."""

    def named(raw: dict[str, Any], name: str, *sources: str) -> dict[str, Any]:
        inbound = [[[source, 0, 0, {}] for source in sources]] if sources else []
        return {**raw, "name": name, "inbound_nodes": inbound}

    layers = [
        named(layer("InputLayer", batch_input_shape=[None, 4]), "i"),
        named(layer("Dense", units=4, name="a"), "a", "i"),
        named(layer("Dense", units=4, kernel_initializer="he_uniform"), "b", "a"),
        named(layer("Add"), "s", "a", "b"),
        named(layer("Dense", units=3), "d", "s"),
    ]
    ends = {"input_layers": [["i", 0, 0]], "output_layers": [["d", 0, 0]]}
    return {"class_name": "Functional", "config": {"name": "m", "trainable": True, "layers": layers, **ends}}


def test_a_functional_model_has_its_wiring() -> None:
    spec = parse(json.dumps(functional()))
    assert spec.sources == ((0,), (1,), (1, 2), (3,))
    assert [weight.start for weight in spec.weights][::2] == ["glorot", "he", "glorot"]
    assert parse(spec.to_json()) == spec
    chain = functional()
    del chain["config"]["layers"][3]
    chain["config"]["layers"][3]["inbound_nodes"] = [[["b", 0, 0, {}]]]
    assert '"Sequential"' in parse(json.dumps(chain)).to_json()


def _wire(index: int, inbound: Any) -> Change:
    return lambda model: model["config"]["layers"][index].update(inbound_nodes=inbound)


WIRING: dict[str, tuple[Change, str]] = {
    "cycle": (_wire(1, [[["b", 0, 0, {}]]]), "no layer before it"),
    "itself": (_wire(1, [[["a", 0, 0, {}]]]), "no layer before it"),
    "shared layer": (_wire(2, [[["a", 0, 0, {}]], [["i", 0, 0, {}]]]), "one call"),
    "no input": (_wire(2, []), "one call"),
    "call arguments": (_wire(2, [[["a", 0, 0, {"training": True}]]]), "call arguments"),
    "node of another call": (_wire(2, [[["a", 1, 0, {}]]]), "call arguments"),
    "constant input": (_wire(2, [[["_CONSTANT_VALUE", -1, 7.0, {}]]]), "no layer before it"),
    "many inputs": (_wire(3, [[["a", 0, 0, {}]] * 17]), "1 to 16 inputs"),
    "two inputs of a dense": (_wire(4, [[["s", 0, 0, {}], ["a", 0, 0, {}]]]), "takes one input"),
    "different shapes": (
        lambda m: m["config"]["layers"][2]["config"].update(units=5),
        "adds samples of different shapes",
    ),
    "nobody listens": (_wire(3, [[["a", 0, 0, {}]]]), "nobody takes its output"),
    "same name": (lambda m: m["config"]["layers"][2].update(name="a"), "no name of its own"),
    "input with sources": (_wire(0, [[["d", 0, 0, {}]]]), "input layer must come first"),
    "two outputs": (lambda m: m["config"].update(output_layers=[["d", 0, 0], ["s", 0, 0]]), "output_layers"),
    "other output": (lambda m: m["config"].update(output_layers=[["s", 0, 0]]), "output_layers"),
    "frozen model": (lambda m: m["config"].update(trainable=False), "not trainable"),
    "model key": (lambda m: m["config"].update(registered_name="x"), "nothing else"),
}


@pytest.mark.parametrize("name", WIRING)
def test_hostile_wirings_are_refused(name: str) -> None:
    change, message = WIRING[name]
    model = functional()
    change(model)
    with pytest.raises(SpecError, match=message):
        parse(json.dumps(model))


def test_batches_that_take_too_much_memory() -> None:
    spec = parse(json.dumps(good()))
    spec.check_batch(1000)
    with pytest.raises(SpecError, match="use a smaller batch"):
        spec.check_batch(1000, Limits(step=100_000))
    assert spec.evaluation_batch(512) == 512
    assert spec.evaluation_batch(512, Limits(step=10_000)) == 10_000 // (12 * (16 + 16))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50)
@given(
    st.integers(0, 3), st.sampled_from(["units", "activation", "name", "dtype", "x", "use_bias"]), json_values
)
def test_any_value_anywhere_is_accepted_or_refused_but_nothing_else(index: int, key: str, value: Any) -> None:
    model = good()
    model["config"]["layers"][index]["config"][key] = value
    try:
        spec = parse(json.dumps(model))
    except SpecError:
        return
    assert parse(spec.to_json()) == spec
