"""Networks: checks before a training, the model file and its damages, and predictions."""

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from stages.common.errors import UserError
from stages.data.scaling import Scaling
from stages.training import build_network as build_module
from stages.training.build_network import build_network
from stages.training.model_file import CHECKSUM, check_savable, checksum, load_network, save_network
from stages.training.prediction import BATCH_SIZE, predictor
from stages.training.tensorflow_setup import keras

pytestmark = pytest.mark.xdist_group("network")  # its fixture is made once
DIGITS = ((28, 28), 10)  # shape of an image, number of classes
LOSS = "sparse_categorical_crossentropy"
SCALING = Scaling(33.5, 78.25)
IMAGES = np.random.default_rng(0).random((5, 28, 28), dtype=np.float32)
layers = keras.layers


@pytest.fixture(scope="module")
def trained() -> Any:
    network = build_network([4], 1, *DIGITS)
    network.compile(keras.optimizers.SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy")
    network.fit(IMAGES, np.arange(5), verbose=0)
    return network


@pytest.fixture
def saved(trained: Any, tmp_path: Path) -> Path:
    path = tmp_path / "network.h5"
    save_network(trained, ["accuracy"], SCALING, path)
    return path


def test_a_saved_network_is_loaded_unchanged(trained: Any, saved: Path) -> None:
    network, scaling = load_network(saved, *DIGITS)
    assert scaling == SCALING
    for loaded, original in zip(network.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(loaded, original)
    np.testing.assert_array_equal(network(IMAGES), trained(IMAGES))


def test_optimizer_and_loss_are_saved_with_the_network(
    trained: Any, saved: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = keras.models.load_model(saved)
    assert isinstance(model.optimizer, keras.optimizers.SGD)
    assert model.optimizer.get_config() == trained.optimizer.get_config()
    assert model.optimizer.momentum == 0.9
    assert model.loss is keras.losses.get(trained.loss)
    assert "optimizer" not in caplog.text  # no warning that its state cannot be loaded
    model.fit(IMAGES, np.arange(5), verbose=0)


def test_damage_of_the_model_file_is_reported_or_harmless(trained: Any, saved: Path) -> None:
    whole = saved.read_bytes()
    chance = random.Random(5)  # noqa: S311
    messages = []
    for _ in range(40):
        content = bytearray(whole)
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        saved.write_bytes(content)
        try:
            network, scaling = load_network(saved, *DIGITS)
        except UserError as problem:
            messages.append(str(problem))
        else:
            assert scaling == SCALING
            np.testing.assert_array_equal(network(IMAGES), trained(IMAGES))
    assert len(messages) > 13
    expected = re.compile(f"{saved} (is not a network|has changed since) .*")
    assert all(map(expected.fullmatch, messages))
    for size in range(0, len(whole), len(whole) // 20):
        saved.write_bytes(whole[:size])
        with pytest.raises(UserError, match="is not a network saved by this project"):
            load_network(saved, *DIGITS)
    saved.unlink()
    with pytest.raises(UserError, match=f"{saved} is missing. Run: make repro"):
        load_network(saved, *DIGITS)


def set_a_weight_to_nan(file: h5py.File) -> None:
    def edit(name: str, item: Any) -> None:
        if name.endswith("kernel") and name.startswith("model_weights"):
            item[0, 0] = np.nan

    file.visititems(edit)


def replace_in_config(old: str, new: str) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        text = file.attrs["model_config"]
        assert old in text
        file.attrs["model_config"] = text.replace(old, new)

    return edit


def set_divisor(divisor: float) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.modify("pixel_divisor", divisor)


EDITS: list[tuple[Callable[[h5py.File], None], str]] = [
    (set_a_weight_to_nan, r"has weights that are not finite numbers: .*kernel"),
    (set_divisor(0.0), r"scales pixels by .*; expected a divisor greater than 0"),
    (set_divisor(np.nan), r"scales pixels by .*; expected a divisor greater than 0"),
    (
        replace_in_config("softmax", "linear"),
        r"ends in the layer dense\w*, which gives no probabilities; .*",
    ),
    (replace_in_config('"units": 4', '"units": 1099511627776'), r"is not a network saved by .*"),
    (replace_in_config('"units": 4', '"units": 10000000'), r"is not a network saved by .*"),
]


@pytest.mark.parametrize(("edit", "problem"), EDITS)
def test_an_edited_model_file_is_refused(
    saved: Path, edit: Callable[[h5py.File], None], problem: str
) -> None:
    with h5py.File(saved, "r+") as file:
        edit(file)
    with pytest.raises(UserError, match=f"{saved} has changed since it was saved; .*"):
        load_network(saved, *DIGITS)
    with h5py.File(saved, "r+") as file:  # the checks also hold with a correct checksum
        file.attrs[CHECKSUM] = checksum(file)
    with pytest.raises(UserError) as raised:
        load_network(saved, *DIGITS)
    assert re.fullmatch(f"{saved} {problem}", str(raised.value))


class Unregistered(keras.layers.Layer):  # type: ignore[misc]
    def call(self, x: Any) -> Any:
        return x


class Subclass(keras.Model):  # type: ignore[misc]
    def call(self, x: Any) -> Any:
        return x


def functional_subclass() -> Any:
    image = keras.Input((28, 28))
    return Subclass(image, layers.Dense(10, activation="softmax")(layers.Flatten()(image)))


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
            r"The network has the inputs images .*, more .*; expected one of shape \(None, 28.*",
        ),
        (
            lambda: sequential(shape=(28, 28, 1)),
            r"The network has the inputs image \(None, 28, 28, 1\); .*",
        ),
        (
            lambda: sequential(last=layers.Dense(9, activation="softmax")),
            r"The network has the outputs .* \(None, 9\); expected one of shape \(None, 10\)",
        ),
        (Subclass, "The network is a Subclass; expected Sequential or functional"),
        (functional_subclass, "The network is a Subclass; expected Sequential or functional"),
        (
            lambda: sequential(last=layers.Dense(10, "softmax", dtype="bfloat16", name="odd")),
            "The layer odd has the type bfloat16, .*",
        ),
        (
            lambda: sequential(last=layers.Dense(10, name="end")),
            "The network ends in the layer end, which gives no probabilities; expected .*",
        ),
    ],
)
def test_a_network_that_does_not_classify_digits_is_refused(
    architecture: Callable[[], Any], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "architecture", lambda *_: architecture())
    with pytest.raises(UserError) as raised:
        build_network([4], 1, *DIGITS)
    assert re.fullmatch(problem, str(raised.value))


@pytest.mark.parametrize(
    ("layer", "problem"),
    [
        (Unregistered(name="odd"), "its class needs @keras.saving.register_keras_serializable()"),
        (layers.Lambda(lambda x: x, name="odd"), "Lambda"),
        (layers.RandomBrightness(0.1, name="odd"), "pickle"),  # only .h5 files cannot hold it
    ],
)
def test_a_layer_that_cannot_be_saved_is_refused_before_the_training(
    layer: Any, problem: str
) -> None:
    network = sequential(layers.Reshape((28, 28, 1)), layer)
    with pytest.raises(UserError) as raised:
        check_savable(network, keras.optimizers.SGD(), LOSS, [])
    message = str(raised.value)
    assert message.startswith("The layer odd could not be saved and loaded again: ")
    assert problem in message
    assert "\n" not in message


def test_an_optimizer_that_cannot_be_saved_is_refused_before_the_training() -> None:
    class Stubborn(keras.optimizers.SGD):  # type: ignore[misc]
        def __init__(self, needed: float) -> None:
            super().__init__(needed)

    with pytest.raises(UserError, match=r".*: optimizer\(\), LOSS or metrics\(\) could not be .*"):
        check_savable(sequential(), Stubborn(0.1), LOSS, [])


def test_layers_without_a_seed_get_one_from_train_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        build_module, "architecture", lambda *_: sequential(layers.Dense(4), layers.Dropout(0.5))
    )
    first, again, other = (
        [variable.numpy() for variable in build_network([], seed, *DIGITS).variables]
        for seed in (1, 1, 2)
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(first) == 5  # two kernels, two biases, and the seed state of Dropout
    assert sum(not np.array_equal(a, b) for a, b in zip(first, other, strict=True)) == 3


def test_the_tutorials_network_has_567434_parameters() -> None:
    assert build_network([512, 256, 128], 0, *DIGITS).count_params() == 567_434


@pytest.mark.parametrize(("image_shape", "classes"), [((20, 24), 2), ((32, 32, 3), 26)])
def test_the_network_fits_any_images_and_classes(
    image_shape: tuple[int, ...], classes: int, tmp_path: Path
) -> None:
    network = build_network([4], 1, image_shape, classes)
    images = np.random.default_rng(0).random((3, *image_shape), dtype=np.float32)
    probabilities = predictor(network)(images)
    assert probabilities.shape == (3, classes)
    network.compile("sgd", "sparse_categorical_crossentropy")
    path = tmp_path / "network.h5"
    save_network(network, [], SCALING, path)
    loaded, _ = load_network(path, image_shape, classes)
    np.testing.assert_array_equal(predictor(loaded)(images), probabilities)
    for other, problem in (
        ((image_shape, 10), rf"has the outputs .* \(None, {classes}\); expected one of .*, 10\)"),
        (((28, 28), classes), r"has the inputs .*; expected one of shape \(None, 28, 28\)"),
    ):
        with pytest.raises(UserError, match=f"{path} {problem}"):
            load_network(path, *other)


def test_predictions_are_those_of_keras_for_any_number_of_images() -> None:
    images = np.random.default_rng(1).random((2 * BATCH_SIZE + 7, 28, 28), dtype=np.float32)
    network = sequential(layers.Flatten(), layers.Dense(512, "relu"), layers.Dropout(0.5))
    predict = predictor(network)
    whole = predict(images)
    assert whole.shape == (len(images), 10)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole, network.predict(images, verbose=0), rtol=1e-4)
    for n in (1, 7, BATCH_SIZE, BATCH_SIZE + 1):
        np.testing.assert_array_equal(predict(images[-n:]), whole[-n:])
