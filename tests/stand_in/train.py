"""Stage train without TensorFlow: softmax regression on random features, in less than a second.

Tests of studies, branches and killed commands replace the real stages by this file and evaluate.py.
Paths, parameters and file formats are those of the real stages.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from stages.common import command_line
from stages.common.atomic_write import atomic_write
from stages.common.params import check_range, read_section
from stages.data.arrays import load_split
from stages.training.hyperparameters import Augmentation, Model, Train

NORMALIZED = Path("data/normalized")
MODEL = Path("models/handwritten_digit.h5")
METRICS = Path("metrics/train")
STEPS_PER_EPOCH = 40


def main() -> None:
    threadpool_limits(1)  # BLAS rounds differently with other numbers of threads
    model, train, _ = read_section(Model), read_section(Train), read_section(Augmentation)
    # A test that interrupts a training creates this file, and the training waits at this line.
    while Path(os.environ.get("TRAINING_GATE", "none")).exists():
        time.sleep(0.02)
    x, y = load_split(NORMALIZED, "train", "float32")
    check_range("train.batch_size", train.batch_size, 1, len(y))
    x_test, y_test = load_split(NORMALIZED, "test", "float32")
    random = np.random.default_rng([train.seed, *model.hidden_units])
    units = sum(model.hidden_units)
    hidden = random.normal(size=(784, units)).astype(np.float32) / 28
    weights = np.zeros((units, 10), np.float32)
    features, test_features = (
        np.maximum(each.reshape(-1, 784) @ hidden, 0) for each in (x, x_test)
    )
    curves: dict[str, list[dict[str, Any]]] = {"loss": [], "accuracy": []}
    for epoch in range(1, train.epochs + 1):
        for _ in range(STEPS_PER_EPOCH):
            probabilities = softmax(features @ weights)
            probabilities[np.arange(len(y)), y] -= 1
            weights -= 1000 * train.learning_rate * features.T @ probabilities / len(y)
        for split, inputs, labels in (
            ("train", features, y),
            ("validation", test_features, y_test),
        ):
            probabilities = softmax(inputs @ weights)
            loss = -np.log(probabilities[np.arange(len(labels)), labels] + 1e-9).mean()
            accuracy = (probabilities.argmax(1) == labels).mean()
            for name, value in (("loss", loss), ("accuracy", accuracy)):
                curves[name].append({"step": epoch, "split": split, name: round(float(value), 6)})
        print(f"epoch {epoch}/{train.epochs}", flush=True)
    last = {row["split"]: {"accuracy": row["accuracy"]} for row in curves["accuracy"][-2:]}
    write_json(METRICS / "metrics.json", last | {"step": train.epochs})
    for name, rows in curves.items():
        write_json(METRICS / f"plots/custom/{name}.json", rows)
    with atomic_write(MODEL) as partial:
        partial.write_bytes(hidden.tobytes() + weights.tobytes())


def softmax(x: Any) -> Any:
    x = np.exp(x - x.max(1, keepdims=True))
    return x / x.sum(1, keepdims=True)


def write_json(path: Path, content: object) -> None:
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(content, indent=4), newline="\n")


if __name__ == "__main__":
    command_line.run(main, __doc__)
