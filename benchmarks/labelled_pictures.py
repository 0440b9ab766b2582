"""Recognition of the numbers in labelled pictures."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from app.grayscale import read_grayscale
from app.recognition import digit_probabilities, is_sure
from app.segmentation import find_rows
from stages.common.errors import UserError
from stages.common.progress import Progress
from stages.training.prediction import predictor

PEOPLES_DIGITS = Path("../shared/digits")

LabelledPicture = tuple[npt.NDArray[np.uint8], str]  # luminance, (h, w), and the number in it


class Recognized(NamedTuple):
    """Result for one picture.

    Attributes:
        label: the number in it.
        probabilities: of each digit found, float32 of shape (digits, 10); no digits after an error.
    """

    label: str
    probabilities: npt.NDArray[np.float32]

    def number(self) -> str:
        return "".join(map(str, self.probabilities.argmax(axis=1)))

    def is_correct(self) -> bool:
        return self.number() == self.label

    def is_complete(self) -> bool:
        """Whether as many digits were found as there are."""
        return len(self.number()) == len(self.label)

    def is_sure(self) -> bool:
        """Whether digits were found, and the answer is shown as certain."""
        return len(self.probabilities) > 0 and bool(is_sure(self.probabilities).all())


def recognize(
    name: str, pictures: Sequence[LabelledPicture], network: Any, scaling: Any
) -> list[Recognized]:
    """Recognizes the number in each picture, as `python -m app.predict` does.

    Args:
        name: of the pictures, for the progress bar.
        pictures: one or more.
        network: float32 (n, 28, 28) -> (n, 10).
        scaling: of the network's input.
    """
    images: list[npt.NDArray[np.uint8]] = []
    counts = []
    with Progress(name, len(pictures), " pictures") as progress:
        for grey, _ in pictures:
            progress.advance(1)
            try:
                digits = [digit for row in find_rows(grey) for digit in row]
            except UserError:
                digits = []
            counts.append(len(digits))
            images += [digit.image for digit in digits]
    probabilities = digit_probabilities(np.stack(images), predictor(network), scaling)  # (n, 10)
    parts = np.split(probabilities, np.cumsum(counts)[:-1])
    return [Recognized(label, part) for (_, label), part in zip(pictures, parts, strict=True)]


def peoples_digits() -> Iterator[LabelledPicture]:
    """Pictures of digits by people, if there is a directory with them and labels.csv."""
    if (PEOPLES_DIGITS / "labels.csv").exists():
        with (PEOPLES_DIGITS / "labels.csv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                yield read_grayscale(PEOPLES_DIGITS / row["file"]), row["digit"]
