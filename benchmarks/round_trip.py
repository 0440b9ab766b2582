"""Test error after a simulated photo of each of the 10,000 test digits.

    python -m benchmarks.round_trip

The digits are photographed as by benchmarks.synthetic_pictures, read as by `python -m app.predict`,
and predicted. The difference to the test error is what the preparation of pictures costs.
"""

import io
from pathlib import Path

import numpy as np

from app import CLASSES, IMAGE_SHAPE
from app.grayscale import read_grayscale
from app.recognition import digit_probabilities
from app.segmentation import find_digits
from benchmarks.common import print_table
from benchmarks.stage_runs import MODEL
from benchmarks.synthetic_pictures import photograph
from stages.common import command_line
from stages.common.errors import UserError
from stages.common.progress import Progress
from stages.data.arrays import load_split
from stages.training.model_file import load_network
from stages.training.prediction import predictor
from stages.training.threads import set_threads

RAW = Path("data/raw")


def main() -> None:
    x, y = load_split(RAW, "test", "uint8")  # (n, 28, 28), (n,)
    set_threads()
    network, scaling = load_network(MODEL, IMAGE_SHAPE, CLASSES)
    predict = predictor(network)
    random = np.random.default_rng(seed=0)

    images = np.zeros_like(x)
    is_single = np.zeros(len(x), dtype=bool)
    with Progress("round trip", len(x), " digits") as progress:
        for index, image in enumerate(x):
            progress.advance(1)
            try:
                digits = find_digits(read_grayscale(io.BytesIO(photograph(image, random))))
            except UserError:
                continue
            is_single[index] = len(digits) == 1
            images[index] = digits[0].image

    direct = 100 * np.mean(predict(scaling(x)).argmax(axis=1) != y)
    answers = digit_probabilities(images, predict, scaling).argmax(axis=1)
    photographed = 100 * np.mean(~is_single | (answers != y))
    print_table(
        ("test digits", "error, %"),
        [
            ("as they are", f"{direct:.2f}"),
            ("photographed", f"{photographed:.2f}"),
            ("difference, percentage points", f"{photographed - direct:+.2f}"),
        ],
    )


if __name__ == "__main__":
    command_line.run(main, __doc__)
