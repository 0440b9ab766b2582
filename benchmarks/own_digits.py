"""How many pictures are read right: people's own, rows of digits, photos, tiny scans.

    python -m benchmarks.own_digits [--model models/handwritten_digit.h5]

People's own are in ../shared/digits, with labels.csv, and are left out where that folder is
missing, as scikit-learn's 8x8 digits are without scikit-learn. Rows are of 2 to 8 test digits
beside each other, of random sizes, slants, gaps, paper and noise, right where all are read right;
found: as many as there are. Frames are drawn by an unsteady hand, every second one is the
picture's edge.
"""

import argparse
import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from app.answers import SURE
from app.digits import digits
from app.grey import read_grey
from benchmarks.drawn import rows, touching
from benchmarks.round_trip import photographed
from stages.data.arrays import load_split
from stages.edges.bad_input import BadInput, explained
from stages.edges.progress import Progress
from stages.training.network import load_network
from stages.training.prediction import predictor
from stages.training.repeatable import set_threads

RAW = Path("data/raw")
MODEL = Path("models/handwritten_digit.h5")
OWN = Path("../shared/digits")
ROWS, FRAMED, PHOTOS = 500, 300, 1_000

UInt8 = npt.NDArray[np.uint8]
Labelled = Iterator[tuple[UInt8, str]]  # grey pixels and the number in them


class Readings(NamedTuple):
    """What was read in n pictures: `probabilities` holds a (digits, 10) for each, or None."""

    numbers: list[str]
    probabilities: list[npt.NDArray[np.float32] | None]

    def read(self) -> list[str]:
        return [
            "" if each is None else "".join(map(str, each.argmax(axis=1)))
            for each in self.probabilities
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    set_threads()
    network, scaling = load_network(parser.parse_args().model)
    x, y = load_split(RAW, "test", "uint8")  # (n, 28, 28), (n,)
    photos = ((photo(image, chance), str(label)) for image, label, chance in chances(x, y, PHOTOS))
    sets = {
        "people's own digits": own(),
        "rows of 2 to 8 digits": rows(x, y, ROWS),
        "digits that touch their frame": touching(x, y, FRAMED),
        "test digits, photographed": photos,
        "scikit-learn's 8x8 digits, enlarged": tiny(96),
        "scikit-learn's 8x8 digits": tiny(8),
    }
    table = [
        f"| | pictures | right, % | found, % | surely read, % | of these right, % |\n|{'---|' * 6}"
    ]
    for name, pictures in sets.items():
        labelled = list(pictures)
        if not labelled:
            table.append(f"| {name} | not here | | | | |")
            continue
        result = readings(name, labelled, network, scaling)
        right = np.equal(result.read(), result.numbers)
        found = [len(a) == len(b) for a, b in zip(result.read(), result.numbers, strict=True)]
        sure = np.array(
            [p is not None and p.max(axis=1).min() >= SURE for p in result.probabilities]
        )
        shares = (right, found, sure, right[sure])
        table.append(
            f"| {name} | {len(labelled)} | "
            + " | ".join(f"{100 * np.mean(share):.1f}" for share in shares)
            + " |"
        )
    print("\n".join(table))


def readings(name: str, pictures: list[tuple[UInt8, str]], network: Any, scaling: Any) -> Readings:
    images: list[UInt8] = []
    spans: list[slice | None] = []
    with Progress(name, len(pictures), " pictures") as progress:
        for grey, _ in pictures:
            progress.advance(1)
            try:
                found = digits(grey)
            except BadInput:
                spans.append(None)
                continue
            spans.append(slice(len(images), len(images) + len(found)))
            images += [each.image for each in found]
    probabilities = predictor(network)(scaling(np.stack(images)))
    numbers = [number for _, number in pictures]
    return Readings(numbers, [span and probabilities[span] for span in spans])


def own() -> Labelled:
    if (OWN / "labels.csv").exists():
        with (OWN / "labels.csv").open() as file:
            for row in csv.DictReader(file):
                yield read_grey(OWN / row["file"]), row["digit"]


def tiny(side: int) -> Labelled:
    """300 of the UCI repository's digits, which scikit-learn ships; 0 to 16, dark on white here."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        return
    images, labels = load_digits(return_X_y=True)
    for image, label in zip(images[:300].reshape(-1, 8, 8), labels, strict=False):
        grey = Image.fromarray((255 - np.minimum(16 * image, 255)).astype(np.uint8))
        yield np.asarray(grey.resize((side, side), Image.Resampling.BICUBIC)), str(label)


def chances(x: UInt8, y: UInt8, count: int) -> Iterator[tuple[UInt8, int, np.random.Generator]]:
    for place in range(count):
        yield x[place], int(y[place]), np.random.default_rng([0, place])


def photo(image: UInt8, chance: np.random.Generator) -> UInt8:
    return read_grey(io.BytesIO(photographed(image, chance)))


if __name__ == "__main__":
    with explained():
        main()
