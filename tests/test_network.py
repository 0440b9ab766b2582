"""Networks: what is refused, that a saved one loads as it was or not at all, predictions."""

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from stages.data.scaling import Scaling
from stages.edges.bad_input import BadInput
from stages.training import network as network_module
from stages.training.network import SUM, build_network, load_network, save_network, sum_of
from stages.training.prediction import BATCH, predictor
from stages.training.repeatable import keras

pytestmark = pytest.mark.xdist_group("network")  # its fixture is made once
SCALING = Scaling(33.5, 78.25)
IMAGES = np.random.default_rng(0).random((5, 28, 28), dtype=np.float32)
layers = keras.layers


@pytest.fixture(scope="module")
def trained() -> Any:
    network = build_network([4], seed=1)
    network.compile(keras.optimizers.SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy")
    network.fit(IMAGES, np.arange(5), verbose=0)
    return network


@pytest.fixture
def saved(trained: Any, tmp_path: Path) -> Path:
    path = tmp_path / "network.h5"
    save_network(trained, SCALING, path)
    return path


def test_what_is_saved_is_loaded(trained: Any, saved: Path) -> None:
    network, scaling = load_network(saved)
    assert scaling == SCALING
    for ours, theirs in zip(network.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(network(IMAGES), trained(IMAGES))


def test_what_trained_it_is_saved_with_it(
    trained: Any, saved: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = keras.models.load_model(saved)
    assert isinstance(model.optimizer, keras.optimizers.SGD)
    assert model.optimizer.get_config() == trained.optimizer.get_config()
    assert model.optimizer.momentum == 0.9
    assert model.loss is keras.losses.get(trained.loss)
    assert "optimizer" not in caplog.text  # that its state could not be loaded
    model.fit(IMAGES, np.arange(5), verbose=0)


def test_any_damage_is_told_in_a_line_or_does_not_matter(trained: Any, saved: Path) -> None:
    whole = saved.read_bytes()
    chance = random.Random(5)  # noqa: S311
    refusals = []
    for _ in range(40):
        content = bytearray(whole)
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        saved.write_bytes(content)
        try:
            network, scaling = load_network(saved)
        except BadInput as problem:
            refusals.append(str(problem))
        else:
            assert scaling == SCALING
            np.testing.assert_array_equal(network(IMAGES), trained(IMAGES))
    assert len(refusals) > 13
    told = re.compile(f"{saved} (is not a network|has changed since) .*")
    assert all(map(told.fullmatch, refusals))
    for size in range(0, len(whole), len(whole) // 20):
        saved.write_bytes(whole[:size])
        with pytest.raises(BadInput, match="is not a network that this project saved"):
            load_network(saved)
    saved.unlink()
    with pytest.raises(BadInput, match=f"{saved} is missing; dvc repro makes it"):
        load_network(saved)


def poison(file: h5py.File) -> None:
    def spoil(name: str, item: Any) -> None:
        if name.endswith("kernel") and name.startswith("model_weights"):
            item[0, 0] = np.nan

    file.visititems(spoil)


def rewrite(old: str, new: str) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        text = file.attrs["model_config"]
        assert old in text
        file.attrs["model_config"] = text.replace(old, new)

    return edit


def divide_by(divisor: float) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.modify("pixel_divisor", divisor)


EDITS: list[tuple[Callable[[h5py.File], None], str]] = [
    (poison, r"has weights that are no finite numbers: .*kernel"),
    (divide_by(0.0), r"scales pixels by .*; the divisor must be greater than 0"),
    (divide_by(np.nan), r"scales pixels by .*; the divisor must be greater than 0"),
    (rewrite("softmax", "linear"), r"ends in the layer dense\w*, which gives no probabilities; .*"),
    (rewrite('"units": 4', '"units": 1099511627776'), r"is not a network that .*"),
    (rewrite('"units": 4', '"units": 10000000'), r"is not a network that .*"),
]


@pytest.mark.parametrize(("edit", "problem"), EDITS)
def test_an_edited_network_is_told_in_a_line(
    saved: Path, edit: Callable[[h5py.File], None], problem: str
) -> None:
    with h5py.File(saved, "r+") as file:
        edit(file)
    with pytest.raises(BadInput, match=f"{saved} has changed since it was saved; .*"):
        load_network(saved)
    with h5py.File(saved, "r+") as file:  # one who knows how
        file.attrs[SUM] = sum_of(file)
    with pytest.raises(BadInput) as raised:
        load_network(saved)
    assert re.fullmatch(f"{saved} {problem}", str(raised.value))


class Unregistered(keras.layers.Layer):  # type: ignore[misc]
    def call(self, x: Any) -> Any:
        return x


class Subclass(keras.Model):  # type: ignore[misc]
    def call(self, x: Any) -> Any:
        return x


def two_inputs() -> Any:
    images, more = keras.Input((28, 28), name="images"), keras.Input((3,), name="more")
    x = layers.Concatenate()([layers.Flatten()(images), more])
    return keras.Model([images, more], layers.Dense(10, activation="softmax")(x))


def sequential(*middle: Any, shape: tuple[int, ...] = (28, 28), last: Any = None) -> Any:
    last = last or layers.Dense(10, activation="softmax")
    return keras.Sequential([keras.Input(shape, name="image"), *middle, layers.Flatten(), last])


@pytest.mark.parametrize(
    ("architecture", "problem"),
    [
        (
            two_inputs,
            r"The network has the inputs images .*, more .*; it must have one of shape "
            r"\(None, 28, 28\)",
        ),
        (
            lambda: sequential(shape=(28, 28, 1)),
            r"The network has the inputs image \(None, 28, 28, 1\); .*",
        ),
        (
            lambda: sequential(last=layers.Dense(9, activation="softmax")),
            r"The network has the outputs .* \(None, 9\); it must have one of shape \(None, 10\)",
        ),
        (Subclass, "The network is a Subclass; it must be Sequential or functional"),
        (
            lambda: sequential(last=layers.Dense(10, name="end")),
            "The network ends in the layer end, which gives no probabilities; it must have .*",
        ),
        (
            lambda: sequential(Unregistered(name="odd")),
            "The layer odd could not be loaded again: its class Unregistered needs "
            "@keras.saving.register.*",
        ),
        (
            lambda: sequential(layers.Lambda(lambda x: x, name="odd")),
            "The layer odd could not be loaded again: .*[Ll]ambda.*",
        ),
    ],
)
def test_a_network_that_reads_no_digits_or_cannot_be_loaded_again_is_refused(
    architecture: Callable[[], Any], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_module, "architecture", lambda _: architecture())
    with pytest.raises(BadInput) as raised:
        build_network([4], seed=1)
    assert re.fullmatch(problem, str(raised.value))


def test_layers_are_seeded_whoever_writes_the_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        network_module, "architecture", lambda _: sequential(layers.Dense(4), layers.Dropout(0.5))
    )
    first, again, other = (
        [variable.numpy() for variable in build_network([], seed).variables] for seed in (1, 1, 2)
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(first) == 5  # two kernels, two biases, and the state of Dropout
    assert sum(not np.array_equal(a, b) for a, b in zip(first, other, strict=True)) == 3


def test_the_tutorials_network_has_567434_parameters() -> None:
    assert build_network([512, 256, 128], seed=0).count_params() == 567_434


def test_probabilities_are_those_of_keras_for_any_number_of_images() -> None:
    images = np.random.default_rng(1).random((2 * BATCH + 7, 28, 28), dtype=np.float32)
    network = sequential(layers.Flatten(), layers.Dense(512, "relu"), layers.Dropout(0.5))
    predict = predictor(network)
    whole = predict(images)
    assert whole.shape == (len(images), 10)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole, network.predict(images, verbose=0), rtol=1e-4)
    for n in (1, 7, BATCH, BATCH + 1):
        np.testing.assert_array_equal(predict(images[-n:]), whole[-n:])
