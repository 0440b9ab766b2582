"""What a user adds in network.py takes effect as in Keras, or is refused in a line."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.common.errors import UserError
from stages.training import network as definition
from stages.training.build_network import build_network, compile_network
from stages.training.callback_state import CannotSave, attributes, decode, encode, restore
from stages.training.compiled_epoch import compile_epochs
from stages.training.definition_checks import check_callbacks
from stages.training.labels import encode_labels
from stages.training.model_file import load_network
from stages.training.tensorflow_setup import keras, tf
from tests.project import CHECKPOINT, MODEL, TINY, Project

callbacks, metrics, losses = keras.callbacks, keras.metrics, keras.losses
LABELS = np.array([2, 0, 1], np.uint8)


@pytest.fixture
def train(
    real_project: Project, stage: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Trains a tiny network with other contents of network.py."""
    real_project.set(TINY)

    def train(**changes: Any) -> None:
        for name, value in changes.items():
            monkeypatch.setattr(definition, name, value)
        stage.main()

    return train


class Inspector(keras.callbacks.Callback):  # type: ignore[misc]
    """Uses the model as a callback of Keras may, and keeps what it got."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        images = np.random.default_rng(0).random((70, 28, 28), dtype=np.float32)
        self.layers = [layer.name for layer in self.model.layers]
        self.units = self.model.get_layer(index=1).units
        self.shape = self.model.predict(images, verbose=0).shape
        # In three batches, the last of another size.
        self.results = self.model.evaluate(images, np.zeros(70), verbose=0, return_dict=True)
        self.on_batch = self.model.test_on_batch(images, np.zeros(70), return_dict=True)
        self.loss = self.model.loss


@pytest.mark.slow
def test_the_model_of_a_callback_is_the_network(train: Callable[..., None]) -> None:
    inspector = Inspector()
    files = ["last.keras", "best.keras", "{epoch}.weights.h5"]
    savers = [
        callbacks.ModelCheckpoint("last.keras"),
        callbacks.ModelCheckpoint("best.keras", "val_accuracy", save_best_only=True),
        callbacks.ModelCheckpoint("{epoch}.weights.h5", save_weights_only=True),
        callbacks.EarlyStopping("val_accuracy"),
    ]
    train(callbacks=lambda: [inspector, *savers])
    assert len(inspector.layers) == 3
    assert (inspector.units, inspector.shape) == (8, (70, 10))
    assert inspector.params["steps"] == 40
    assert len(inspector.model.history.history["loss"]) == 2
    assert inspector.on_batch == pytest.approx(inspector.results)
    assert set(inspector.results) == {"loss", "accuracy"}
    assert inspector.loss == "sparse_categorical_crossentropy"
    trained, _ = load_network(Path(MODEL), (28, 28), 10)
    loaded = keras.models.load_model(files[0])
    assert isinstance(loaded.optimizer, keras.optimizers.Adam)
    other = keras.models.load_model(files[1])
    other.load_weights(files[2].format(epoch=2))
    for network in (loaded, other):
        for weights, expected in zip(network.get_weights(), trained.get_weights(), strict=True):
            np.testing.assert_array_equal(weights, expected)


class Fits(keras.callbacks.Callback):  # type: ignore[misc]
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        self.model.fit(np.zeros((32, 28, 28)), np.zeros(32), verbose=0)


class Trains(keras.callbacks.Callback):  # type: ignore[misc]
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        self.model.train_on_batch(np.zeros((32, 28, 28)), np.zeros(32))


class Logs(keras.callbacks.Callback):  # type: ignore[misc]
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        logs["note"] = "hi"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("callback", "problem"),
    [
        (Fits, "a callback calls fit or train_on_batch, .*"),
        (Trains, "a callback calls fit or train_on_batch, .*"),
        (Logs, "a callback adds note = 'hi' to the logs; expected a number"),
    ],
)
def test_what_a_callback_cannot_do_is_refused(
    train: Callable[..., None], callback: type[Any], problem: str
) -> None:
    with pytest.raises(UserError, match=rf"\Astages/training/network.py: {problem}\Z"):
        train(callbacks=lambda: [callback()])


@pytest.mark.slow
def test_the_metrics_are_those_of_the_saved_network(
    real_project: Project, train: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    real_project.set({"train": {"epochs": 9}})
    # Nothing is an improvement after the first epoch.
    stopping = callbacks.EarlyStopping(min_delta=10, patience=2, restore_best_weights=True)
    train(callbacks=lambda: [stopping])
    expected = "3 epochs, of which the network is that of epoch 1: loss "
    assert expected in capsys.readouterr().out
    content = json.loads(real_project.read("metrics/train/metrics.json"))
    curve = json.loads(real_project.read("metrics/train/plots/custom/accuracy.json"))
    assert content["step"] == 1
    assert len(curve) == 2 * 3
    assert content["train"]["accuracy"] == curve[0]["accuracy"]
    assert content["validation"]["accuracy"] == curve[1]["accuracy"]
    network, scaling = load_network(Path(MODEL), (28, 28), 10)
    raw = real_project.folder / "data/raw"
    images, labels = (np.load(raw / f"{name}_test.npy") for name in "xy")
    predicted = network.predict(scaling(images), verbose=0).argmax(1)
    assert content["validation"]["accuracy"] == pytest.approx((predicted == labels).mean())


@pytest.mark.slow
def test_averaged_weights_are_validated_again(
    real_project: Project, train: Callable[..., None]
) -> None:
    real_project.set({"train": {"learning_rate": 0.01}})
    train(optimizer=lambda rate, *_: keras.optimizers.SGD(rate, use_ema=True, ema_momentum=0.99))
    content = json.loads(real_project.read("metrics/train/metrics.json"))
    curve = json.loads(real_project.read("metrics/train/plots/custom/accuracy.json"))
    assert content["step"] == 2
    assert content["validation"]["accuracy"] < curve[-1]["accuracy"]


@pytest.mark.slow
def test_a_metric_is_in_the_files_of_the_training(
    real_project: Project, train: Callable[..., None]
) -> None:
    def more() -> list[Any]:
        return ["accuracy", metrics.SparseTopKCategoricalAccuracy(2, "top_2")]

    with pytest.raises(UserError, match=r"dvc.yaml: .* no metrics/train/plots/custom/top_2.json "):
        train(metrics=more)
    path = real_project.folder / "dvc.yaml"
    old = "      - metrics/train/plots/custom/loss.json:\n"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, f"      - metrics/train/plots/custom/top_2.json\n{old}"))
    train(metrics=more)
    content = json.loads(real_project.read("metrics/train/metrics.json"))
    curve = json.loads(real_project.read("metrics/train/plots/custom/top_2.json"))
    assert content["validation"]["top_2"] == curve[-1]["top_2"] > content["validation"]["accuracy"]
    ((_, metric),) = [keras.models.load_model(MODEL).get_compile_config()["metrics"]]
    assert metric["config"]["name"] == "top_2"


class EachBatch(keras.callbacks.Callback):  # type: ignore[misc]
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        pass


@pytest.mark.parametrize(
    ("callback", "problem"),
    [
        (EachBatch(), "the callback EachBatch has on_train_batch_end, "),
        (callbacks.LambdaCallback(on_train_batch_begin=print), ".* has on_train_batch_begin, "),
        (callbacks.TerminateOnNaN(), "the callback TerminateOnNaN has on_batch_end, "),
        (callbacks.ModelCheckpoint("a.keras", save_freq=5), ".* has on_train_batch_end, "),
        (callbacks.TensorBoard(update_freq="batch"), ".* has on_train_batch_begin, "),
        (callbacks.BackupAndRestore("backup"), r"callbacks\(\) has a BackupAndRestore, "),
        (print, r"callbacks\(\) has a builtin_function_or_method; "),
        (callbacks.EarlyStopping, r"callbacks\(\) has a type; "),
    ],
)
def test_a_callback_that_could_not_take_effect_is_refused(callback: Any, problem: str) -> None:
    with pytest.raises(UserError, match=rf"\Astages/training/network.py: {problem}.*\Z"):
        check_callbacks([callback])


@pytest.mark.parametrize("value", [None, callbacks.EarlyStopping(), iter([]), ()])
def test_callbacks_are_a_list(value: Any) -> None:
    with pytest.raises(UserError, match=r"callbacks\(\) returns a \w+; expected a list\Z"):
        check_callbacks(value)


def test_callbacks_for_epochs_are_accepted() -> None:
    check_callbacks(
        [
            *(callbacks.EarlyStopping(), callbacks.ModelCheckpoint("a.keras")),
            *(callbacks.TensorBoard(), callbacks.CSVLogger("a.csv"), callbacks.History()),
            callbacks.LambdaCallback(on_epoch_end=print),
        ]
    )


def custom_loss(labels: Any, probabilities: Any) -> Any:
    return keras.ops.mean(probabilities, axis=-1) + labels


def random_loss(labels: Any, probabilities: Any) -> Any:
    return custom_loss(labels, probabilities) * tf.random.uniform([])


SCALE = tf.Variable(1.0)


def remembering_loss(labels: Any, probabilities: Any) -> Any:
    SCALE.assign(0.5 * SCALE)
    return custom_loss(labels, probabilities) * SCALE


def numpy_metric(labels: Any, probabilities: Any) -> Any:
    return np.argmax(probabilities, -1) == np.asarray(labels)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"LOSS": "entropy"}, "LOSS is 'entropy'; expected a name, function or object of .*"),
        ({"LOSS": None}, "LOSS is None; .*"),
        ({"LOSS": losses.CategoricalCrossentropy}, "LOSS is <class .*; expected .*"),
        ({"LOSS": random_loss}, r"LOSS or metrics\(\) draws random numbers without a seed .*"),
        ({"LOSS": remembering_loss}, r"LOSS or metrics\(\) uses a variable that is not .*"),
        (
            {"metrics": lambda: ["accuracy", numpy_metric]},
            r"LOSS or metrics\(\) cannot be computed of .*",
        ),
        (
            {"metrics": lambda: ["accuracy", partial(custom_loss)]},
            r"optimizer\(\), LOSS or metrics\(\) could not be saved: .*",
        ),
        ({"metrics": lambda: "accuracy"}, r"metrics\(\) returns a str; expected a list"),
        ({"metrics": lambda: ["accuracy", metrics.Mean("step")]}, ".*"),
        (
            {
                "metrics": lambda: [
                    "accuracy",
                    metrics.SparseTopKCategoricalAccuracy(2, "val_accuracy"),
                ]
            },
            "a metric has the name 'val_accuracy'; expected .*",
        ),
        ({"optimizer": lambda *_: "adam"}, r"optimizer\(\) returns 'adam'; expected an object .*"),
        ({"sample_weight": lambda labels: ["a"] * len(labels)}, r"sample_weight\(\) .*"),
        ({"sample_weight": lambda labels: labels * 1j}, r"sample_weight\(\) .*"),
        ({"metrics": lambda: ["acuracy"]}, r"LOSS or metrics\(\) cannot be computed .*acuracy.*"),
        (
            {"metrics": lambda: ["accuracy", metrics.AUC()]},
            r"LOSS or metrics\(\) cannot be computed of labels \(\) and probabilities \(10,\); .*",
        ),
        (
            {
                "LOSS": "categorical_crossentropy",
                "metrics": lambda: ["accuracy", metrics.F1Score(name="f1")],
            },
            r"the metric f1 has the shape \(10,\); expected a single number, .*",
        ),
        ({"metrics": lambda: ["mse"]}, r".* cannot be computed .*"),
        (
            {"metrics": lambda: [metrics.SparseTopKCategoricalAccuracy()]},
            r'metrics\(\) is .*; expected also "accuracy", .*',
        ),
        ({"sample_weight": lambda labels: labels[1:]}, r"sample_weight\(\) .*"),
        ({"sample_weight": lambda labels: labels / 0.0}, r"sample_weight\(\) .*"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_a_loss_metric_or_weight_that_does_not_fit_is_refused_before_the_training(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], problem: str
) -> None:
    for name, value in changes.items():
        monkeypatch.setattr(definition, name, value)

    def prepare() -> None:
        """As stages/train.py does."""
        x, y = np.zeros((20, 28, 28), np.float32), np.arange(20, dtype=np.uint8) % 10
        network = build_network([4], 1, (28, 28), 10)
        compile_network(network, definition.optimizer(0.1), definition.LOSS, definition.metrics())
        labels = encode_labels(y, 10, definition.LOSS)
        compile_epochs(network, x, labels, 10, definition.sample_weight(y))

    with pytest.raises(UserError) as raised:
        prepare()
    assert re.fullmatch(f"stages/training/network.py: {problem}", str(raised.value))


class CustomLoss(keras.losses.Loss):  # type: ignore[misc]
    pass


class Smoothed(keras.losses.CategoricalCrossentropy):  # type: ignore[misc]
    pass


@pytest.mark.parametrize(
    ("loss", "is_one_hot"),
    [
        ("sparse_categorical_crossentropy", False),
        (losses.SparseCategoricalCrossentropy(), False),
        (losses.sparse_categorical_crossentropy, False),
        ("crossentropy", False),
        (custom_loss, False),
        (CustomLoss(), False),
        ("categorical_crossentropy", True),
        (losses.CategoricalFocalCrossentropy(), True),
        (losses.mean_squared_error, True),
        ("mse", True),
        (Smoothed(), True),
    ],
)
def test_labels_are_one_hot_where_the_loss_compares_vectors(loss: Any, is_one_hot: bool) -> None:
    labels = encode_labels(LABELS, 3, loss)
    expected = [[0, 0, 1], [1, 0, 0], [0, 1, 0]] if is_one_hot else [2, 0, 1]
    assert labels.tolist() == expected
    assert labels.dtype == (np.float32 if is_one_hot else np.int32)


NUMBERS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    NUMBERS
    | st.floats(width=32).map(np.float32)
    | st.lists(st.floats(width=32)).map(lambda items: np.array(items, np.float32)),
    lambda values: (
        st.lists(values)
        | st.lists(values).map(tuple)
        | st.dictionaries(st.text() | st.integers(), values)
    ),
    max_leaves=8,
)


@given(VALUES)
def test_the_state_of_a_callback_survives_a_checkpoint(value: Any) -> None:
    arrays: list[Any] = []
    code = json.loads(json.dumps(encode(value, arrays, set())))
    restored = decode(code, arrays)
    np.testing.assert_equal(restored, value)
    assert type(restored) is type(value)


def test_functions_are_saved_by_their_names() -> None:
    code = json.loads(json.dumps(encode(keras.ops.less, [], set())))
    assert decode(code, []) is keras.ops.less


SHARED: list[Any] = []


@pytest.mark.parametrize(
    "value",
    [lambda: 0, object(), {1}, [object()], np.array([object()]), {"a": SHARED, "b": SHARED}],
)
def test_other_values_cannot_be_saved(value: Any) -> None:
    with pytest.raises(CannotSave):
        encode(value, [], set())


def test_functions_and_paths_that_a_callback_began_with_are_no_state() -> None:
    callback = callbacks.LearningRateScheduler(lambda epoch: 0.1 / epoch)
    callback.folder = PurePosixPath("a")
    callback.count = 3
    callback.set_model(keras.Sequential())
    callback.set_params({"epochs": 2})
    initial = dict(vars(callback))
    callback.schedule = lambda epoch: 0.2 / epoch
    assert set(attributes(callback, initial)) == {"verbose", "count", "schedule"}
    remembered: list[int] = []
    callback.schedule = lambda epoch: remembered.append(epoch)
    assert "schedule" in attributes(callback, dict(vars(callback)))


def test_a_callback_gets_the_attributes_that_it_had() -> None:
    callback = callbacks.EarlyStopping()
    monitor_op = callback.monitor_op = keras.ops.less
    callback.warm = True
    state = {"best": 0.5, "wait": 3}
    restore(callback, state)
    left = {name for name in vars(callback) if name not in ("_model", "params")}
    assert left == {"best", "wait", "monitor_op"}
    assert callback.monitor_op is monitor_op
    assert callback.best == 0.5


@pytest.mark.slow
def test_a_training_whose_callbacks_cannot_be_saved_has_no_checkpoint(
    real_project: Project, train: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    class Later(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
            self.found = [*getattr(self, "found", []), Path(CHECKPOINT).exists()]
            if epoch == 1:
                self.odd = object()

    later = Later()
    real_project.set({"train": {"epochs": 3}})
    train(callbacks=lambda: [later])
    assert later.found == [False, True, False]
    assert capsys.readouterr().out.count("Later.odd has the type object, which no checkpoint") == 1
    later = Later()
    train(callbacks=lambda: [callbacks.CSVLogger("epochs.csv"), later])
    assert later.found == [False] * 3
    assert "CSVLogger.csv_file has the type TextIOWrapper, " in capsys.readouterr().out
    assert len(real_project.read("epochs.csv").splitlines()) == 4
