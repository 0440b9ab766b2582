"""Trains the tutorial's network on data/normalized and prints epoch times and test error as JSON.

    python -m benchmarks.training keras --epochs 4

Methods: `keras` is plain Keras, as in the tutorial; `compiled` is the training of this project;
`keras-metrics` and `compiled-metrics` compute three metrics beside the accuracy; `augmented` is
`compiled` on distorted digits, with the augmentation of reader.yaml.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from app import CLASSES
from benchmarks.common import run_python
from experiments.reader import read_params_with_changes
from stages.common import command_line
from stages.data.arrays import load_split

METHODS = ("keras", "keras-metrics", "compiled", "compiled-metrics", "augmented")
NORMALIZED = Path("data/normalized")
HIDDEN_UNITS = [512, 256, 128]
BATCH_SIZE = 32
LEARNING_RATE = 0.001


def train(method: str, epochs: int, seed: int, batch_size: int = BATCH_SIZE) -> dict[str, Any]:
    """Trains in a new process, since TensorFlow's settings differ between methods.

    Returns:
        seconds: of each epoch.
        test_error: after the last epoch, in %.
    """
    options = {"--epochs": epochs, "--seed": seed, "--batch-size": batch_size}
    arguments = [str(word) for pair in options.items() for word in pair]
    output = run_python("-m", "benchmarks.training", method, *arguments)
    result: dict[str, Any] = json.loads(output)
    return result


def metrics(method: str) -> list[Any]:
    import keras

    if not method.endswith("-metrics"):
        return ["accuracy"]
    return [
        "accuracy",
        "sparse_categorical_crossentropy",
        keras.metrics.SparseTopKCategoricalAccuracy(2),
        keras.metrics.SparseTopKCategoricalAccuracy(3, name="top_3"),
    ]


def train_with_keras(
    epochs: int,
    seed: int,
    batch_size: int,
    callback: Any,
    data: dict[str, Any],
    method: str,
) -> None:
    """Trains as the tutorial does, with TensorFlow's default threads and instructions."""
    import keras

    keras.utils.set_random_seed(seed)
    dense = [keras.layers.Dense(units, activation="relu") for units in HIDDEN_UNITS]
    network = keras.Sequential(
        [
            keras.Input((28, 28)),
            keras.layers.Flatten(),
            *dense,
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    network.compile("adam", "sparse_categorical_crossentropy", metrics=metrics(method))
    network.fit(
        np.array(data["x_train"]),
        data["y_train"],
        epochs=epochs,
        batch_size=batch_size,
        validation_data=(np.array(data["x_test"]), data["y_test"]),
        callbacks=[callback],
        verbose=0,
    )


def train_compiled(
    epochs: int,
    seed: int,
    batch_size: int,
    callback: Any,
    data: dict[str, Any],
    method: str = "compiled",
) -> Any:
    """Trains as stages/train.py does, and returns the network."""
    from stages.training.augmentation import Augmenter
    from stages.training.build_network import build_network
    from stages.training.compiled_epoch import compile_epochs
    from stages.training.image_order import one_batch, permutations
    from stages.training.network import LOSS, optimizer
    from stages.training.threads import set_threads

    set_threads()
    image_shape = data["x_train"].shape[1:]
    network = build_network(HIDDEN_UNITS, seed, image_shape, CLASSES)
    augmenter = None
    if method == "augmented":
        limits = read_params_with_changes()["augmentation"]
        augmenter = Augmenter(limits, seed, 0.0, image_shape)
    network.compile(optimizer(LEARNING_RATE), LOSS, metrics=metrics(method))
    labels = {split: data[f"y_{split}"].astype(np.int32) for split in ("train", "test")}
    compile_epochs(network, data["x_train"], labels["train"], batch_size, augmenter=augmenter)
    network.fit(
        permutations(len(data["y_train"]), seed, 1, epochs),
        steps_per_epoch=1,
        epochs=epochs,
        validation_data=one_batch(data["x_test"], labels["test"]),
        callbacks=[callback],
        shuffle=False,
        verbose=0,
    )
    return network


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.training", description=__doc__)
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    arguments = parser.parse_args()
    if min(arguments.epochs, arguments.batch_size) < 1 or not 0 <= arguments.seed < 2**32:
        parser.error("--epochs and --batch-size are at least 1, --seed is from 0 to 4294967295")
    data: dict[str, Any] = {}
    for split in ("train", "test"):
        images, labels = load_split(NORMALIZED, split, "float32")  # (n, 28, 28), (n,)
        data |= {f"x_{split}": images, f"y_{split}": labels}

    if not arguments.method.startswith("keras"):
        import stages.training.tensorflow_setup  # noqa: F401, must come before Keras
    import keras

    class Measurement(keras.callbacks.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.seconds: list[float] = []

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:  # noqa: ARG002
            self.seconds.append(time.perf_counter() - self.start)
            self.test_error = 100 * (1 - logs["val_accuracy"])

    measurement = Measurement()
    settings = arguments.epochs, arguments.seed, arguments.batch_size
    train_it = train_with_keras if arguments.method.startswith("keras") else train_compiled
    train_it(*settings, measurement, data, arguments.method)
    test_error = round(measurement.test_error, 4)
    print(json.dumps({"seconds": measurement.seconds, "test_error": test_error}))


if __name__ == "__main__":
    command_line.run(main)
