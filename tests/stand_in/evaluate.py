"""Stage evaluate without TensorFlow, for the model of the stand-in train.py."""

import json
from pathlib import Path
from statistics import NormalDist

import numpy as np
from PIL import Image
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from stages.common import command_line
from stages.common.atomic_write import atomic_write
from stages.common.params import read_section
from stages.data.arrays import load_classes, load_split
from stages.evaluation.options import Evaluate

NORMALIZED = Path("data/normalized")
MODEL = Path("models/handwritten_digit.h5")
METRICS = Path("metrics/evaluate.json")
PLOTS = Path("plots")


def main() -> None:
    threadpool_limits(1)  # BLAS rounds differently with other numbers of threads
    evaluate = read_section(Evaluate)
    x, y = load_split(NORMALIZED, "test", "float32")
    classes = load_classes(NORMALIZED)
    numbers = np.frombuffer(MODEL.read_bytes(), np.float32)
    units = len(numbers) // (784 + 10)
    hidden, weights = np.split(numbers, [784 * units])
    features = np.maximum(x.reshape(-1, 784) @ hidden.reshape(784, units), 0)
    exponentials = np.exp(features @ weights.reshape(units, 10))
    probabilities = exponentials / exponentials.sum(1, keepdims=True)
    predicted = probabilities.argmax(1)

    rows = [
        f"{classes[label]},{classes[digit]},{confidence:.4f}\n"
        for label, digit, confidence in zip(y, predicted, probabilities.max(1), strict=True)
    ]
    with atomic_write(PLOTS / "predictions.csv") as partial:
        partial.write_text("actual,predicted,confidence\n" + "".join(rows), newline="\n")
    for name in ("mistakes.png", "reliability.png"):
        with atomic_write(PLOTS / name) as partial:
            Image.new("L", (200, 200), evaluate.worst).save(partial, "PNG")
    error = float((predicted != y).mean())
    z = NormalDist().inv_cdf((1 + evaluate.confidence) / 2)
    half_width = z * (error * (1 - error) / len(y)) ** 0.5
    scores = {
        "baseline_error": round(100 * error, 4),
        "baseline_error_low": round(100 * (error - half_width), 4),
        "baseline_error_high": round(100 * (error + half_width), 4),
        "expected_calibration_error": 0.0,
    }
    with atomic_write(METRICS) as partial:
        partial.write_text(json.dumps(scores, indent=2) + "\n", newline="\n")


if __name__ == "__main__":
    command_line.run(main, __doc__)
