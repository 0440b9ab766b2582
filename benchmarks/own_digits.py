"""Accuracy on pictures: people's own digits, rows of digits, frames, photos and tiny scans.

    python -m benchmarks.own_digits [--model models/handwritten_digit.h5]

A row is correct if all of its digits are; it is complete if the number of digits is right. People's
own digits are in ../shared/digits, with labels.csv. They are left out if this directory is missing,
and the 8x8 digits are if scikit-learn is.
"""

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from app import CLASSES, IMAGE_SHAPE
from app.array_types import UInt8
from app.grayscale import read_grayscale
from benchmarks.common import print_table
from benchmarks.labelled_pictures import LabelledPicture, Recognized, peoples_digits, recognize
from benchmarks.stage_runs import MODEL
from benchmarks.synthetic_pictures import digit_rows, framed_digits, photograph
from stages.common import command_line
from stages.data.arrays import load_split
from stages.training.model_file import load_network
from stages.training.threads import set_threads

RAW = Path("data/raw")
ROWS, FRAMES, PHOTOS, TINY = 500, 300, 1_000, 300


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.own_digits", description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL, help="default: %(default)s")
    arguments = parser.parse_args()
    set_threads()
    network, scaling = load_network(arguments.model, IMAGE_SHAPE, CLASSES)
    x, y = load_split(RAW, "test", "uint8")  # (n, 28, 28), (n,)
    sets: dict[str, Iterator[LabelledPicture]] = {
        "people's own digits": peoples_digits(),
        "rows of 2 to 8 digits": digit_rows(x, y, ROWS),
        "digits that touch their frame": framed_digits(x, y, FRAMES),
        "test digits, photographed": photos(x, y),
        "scikit-learn's 8x8 digits, enlarged": tiny_digits(96),
        "scikit-learn's 8x8 digits": tiny_digits(8),
    }

    def rows() -> Iterator[list[str]]:
        for name, generator in sets.items():
            pictures = list(generator)
            if pictures:
                yield [name, *statistics(recognize(name, pictures, network, scaling))]
            else:
                yield [name, "not available", "", "", "", ""]

    print_table(
        ["", "pictures", "correct, %", "complete, %", "sure, %", "correct if sure, %"], rows()
    )


def statistics(results: list[Recognized]) -> list[str]:
    """Number of pictures; % correct, complete and sure; % correct of those sure."""
    correct = np.array([result.is_correct() for result in results])
    complete = np.array([result.is_complete() for result in results])
    sure = np.array([result.is_sure() for result in results])
    fractions = (correct, complete, sure, correct[sure])
    return [str(len(results)), *(f"{100 * np.mean(each):.1f}" for each in fractions)]


def photos(x: UInt8, y: UInt8) -> Iterator[LabelledPicture]:
    for index in range(PHOTOS):
        file = io.BytesIO(photograph(x[index], np.random.default_rng([0, index])))
        yield read_grayscale(file), str(y[index])


def tiny_digits(side: int) -> Iterator[LabelledPicture]:
    """Digits of the UCI repository, which scikit-learn includes, dark on white.

    Args:
        side: to which they are scaled from 8 pixels.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        return
    images, labels = load_digits(return_X_y=True)  # levels 0 to 16 of shape (n, 64)
    for image, label in zip(images[:TINY].reshape(-1, 8, 8), labels, strict=False):
        grey = Image.fromarray((255 - np.minimum(16 * image, 255)).astype(np.uint8))
        yield np.asarray(grey.resize((side, side), Image.Resampling.BICUBIC)), str(label)


if __name__ == "__main__":
    command_line.run(main)
