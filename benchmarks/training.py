"""One training of the tutorial's network on MNIST, by plain Keras or by this project's loop.

`warped` is this project's on warped digits, as reader.yaml has them warped.

A process of its own, for the other benchmarks: `python -m benchmarks.training plain --epochs 4`
prints the seconds of each epoch and the test error as JSON. It reads data/normalized: dvc repro.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from stages.data.arrays import load_split
from stages.edges.bad_input import BadInput, explained

NORMALIZED = Path("data/normalized")
HIDDEN_UNITS = [512, 256, 128]
BATCH_SIZE = 32


def train(how: str, epochs: int, seed: int, batch_size: int = BATCH_SIZE) -> dict[str, Any]:
    """Runs one training in a new process; the seconds of each epoch, the test error in %."""
    options = {"--epochs": epochs, "--seed": seed, "--batch-size": batch_size}
    flat = [str(word) for pair in options.items() for word in pair]
    command = [sys.executable, "-m", "benchmarks.training", how, *flat]
    run = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if run.returncode:
        raise BadInput(f"{how}: the training has failed; what is above says why")
    result: dict[str, Any] = json.loads(run.stdout)
    return result


def plain(epochs: int, seed: int, batch_size: int, callback: Any, data: dict[str, Any]) -> None:
    """As the tutorial does, whatever threads and instructions TensorFlow chooses."""
    import keras

    keras.utils.set_random_seed(seed)
    dense = [keras.layers.Dense(units, activation="relu") for units in HIDDEN_UNITS]
    model = keras.Sequential(
        [
            keras.Input((28, 28)),
            keras.layers.Flatten(),
            *dense,
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(
        np.array(data["x_train"]),
        data["y_train"],
        epochs=epochs,
        batch_size=batch_size,
        validation_data=(np.array(data["x_test"]), data["y_test"]),
        callbacks=[callback],
        verbose=0,
    )


def compiled(
    epochs: int,
    seed: int,
    batch_size: int,
    callback: Any,
    data: dict[str, Any],
    warped: bool = False,
) -> Any:
    """As stages/train.py does; the network."""
    from stages.training.compiled_epoch import CompiledEpoch, one_batch, permutations
    from stages.training.network import LOSS, build_network, build_optimizer
    from stages.training.repeatable import set_threads
    from stages.training.warps import Warping
    from tools.reader import read_sections

    set_threads()
    network = build_network(HIDDEN_UNITS, seed)
    warping = Warping(read_sections()["warp"], seed, 0.0) if warped else None
    model = CompiledEpoch(network, data["x_train"], data["y_train"], batch_size, warping)
    model.compile(build_optimizer(0.001), LOSS)
    model.fit(
        permutations(len(data["y_train"]), seed, 1, epochs),
        steps_per_epoch=1,
        epochs=epochs,
        validation_data=one_batch(data["x_test"], data["y_test"]),
        callbacks=[callback],
        shuffle=False,
        verbose=0,
    )
    return network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("how", choices=["plain", "compiled", "warped"])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    arguments = parser.parse_args()
    if min(arguments.epochs, arguments.batch_size) < 1 or not 0 <= arguments.seed < 2**32:
        parser.error("epochs and batch size go from 1, the seed from 0 to 4294967295")
    data: dict[str, Any] = {}
    for split in ("train", "test"):
        images, labels = load_split(NORMALIZED, split, "float32")  # (n, 28, 28), (n,)
        data |= {f"x_{split}": images, f"y_{split}": labels}

    if arguments.how != "plain":
        import stages.training.repeatable  # noqa: F401, before Keras
    import keras

    class Clock(keras.callbacks.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.seconds: list[float] = []

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
            self.began = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:  # noqa: ARG002
            self.seconds.append(time.perf_counter() - self.began)
            self.error = 100 * (1 - logs["val_accuracy"])

    clock = Clock()
    numbers = arguments.epochs, arguments.seed, arguments.batch_size
    if arguments.how == "plain":
        plain(*numbers, clock, data)
    else:
        compiled(*numbers, clock, data, arguments.how == "warped")
    print(json.dumps({"seconds": clock.seconds, "test_error": round(clock.error, 4)}))


if __name__ == "__main__":
    with explained():
        main()
