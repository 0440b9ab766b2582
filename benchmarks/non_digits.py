"""Scores that tell digits from non-digits, and what is said of pictures without digits.

    python -m benchmarks.non_digits

The first table chose the score: AUROC of held-out training digits against marks in some kinds of
pictures, for the tutorial's network trained without these digits. The second table reports the
committed model on test digits, other kinds of pictures and other seeds.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import mannwhitneyu

from app import CLASSES, IMAGE_SHAPE
from app.recognition import digit_probabilities, entropy, is_sure
from app.segmentation import find_rows
from benchmarks.common import print_table
from benchmarks.confidence_threshold import RAW, held_out_network
from benchmarks.pictures_without_digits import (
    blotches,
    bricks,
    checkerboard,
    clouds,
    grass,
    letter,
    noise,
    scribble,
    text_page,
    word,
)
from benchmarks.stage_runs import MODEL
from benchmarks.synthetic_pictures import digit_rows
from stages.common import command_line
from stages.common.errors import UserError
from stages.data.arrays import load_split
from stages.training.model_file import load_network
from stages.training.prediction import predictor
from stages.training.tensorflow_setup import keras
from stages.training.threads import set_threads

UInt8 = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Draw = Callable[[np.random.Generator], UInt8]

CHOOSING: list[Draw] = [
    *(
        blotches,
        clouds,
        scribble,
        word,
        letter,
    )
]
REPORTING: list[Draw] = [
    *(
        noise,
        checkerboard,
        text_page,
        grass,
    ),
    *(
        bricks,
        scribble,
        letter,
    ),
]
PICTURES, ROWS = 200, 600
CHOOSING_SEED, REPORTING_SEED = 100, 200


def main() -> None:
    set_threads()
    network, scaling, x, y = held_out_network()
    training = load_split(RAW, "train", "uint8")
    scores = score_functions(network, scaling, *training)
    digits = found(grey for grey, _ in digit_rows(x, y, ROWS))
    marks = [found(draw_all(draw, CHOOSING_SEED)) for draw in CHOOSING]
    names = [f"{draw.__name__} ({len(each)})" for draw, each in zip(CHOOSING, marks, strict=True)]
    print_table(
        ["score", *names, "mean"],
        ([name, *auroc_row(score, digits, marks)] for name, score in scores.items()),
    )
    print()
    network, scaling = load_network(MODEL, IMAGE_SHAPE, CLASSES)
    predict = predictor(network)
    print_table(
        ["pictures", "number", "no digits found", "not sure", "a sure digit"],
        (
            [draw.__name__, *answers(draw_all(draw, REPORTING_SEED), predict, scaling)]
            for draw in REPORTING
        ),
    )


def draw_all(draw: Draw, seed: int) -> Iterator[UInt8]:
    return (draw(np.random.default_rng([seed, index])) for index in range(PICTURES))


def found(pictures: Iterator[UInt8]) -> UInt8:
    """Images of everything that is taken for a digit, (n, 28, 28)."""
    images: list[UInt8] = []
    for grey in pictures:
        try:
            images += [digit.image for row in find_rows(grey) for digit in row]
        except UserError:
            continue
    return np.stack(images)


def score_functions(
    network: Any, scaling: Any, x: UInt8, y: UInt8
) -> dict[str, Callable[[UInt8], Floats]]:
    """Functions from images to scores, higher for digits.

    Args:
        network: of the tutorial, trained on training images.
        scaling: of its input.
        x: training images, uint8 of shape (n, 28, 28).
        y: labels of shape (n,).
    """
    predict = predictor(network)
    hidden = keras.Sequential([keras.Input(x.shape[1:]), *network.layers[:-1]])
    weights, bias = network.layers[-1].get_weights()

    def features(images: UInt8) -> Floats:
        return np.asarray(hidden.predict(scaling(images), verbose=0))  # (n, units)

    def energy(images: UInt8) -> Floats:
        return np.asarray(np.logaddexp.reduce(features(images) @ weights + bias, axis=1))

    of_training = features(x)
    means = np.stack([of_training[y == digit].mean(axis=0) for digit in range(10)])

    def distance(images: UInt8) -> Floats:
        differences = features(images)[:, None] - means  # (n, 10, units)
        return np.asarray(-np.linalg.norm(differences, axis=2).min(axis=1))

    def cosine(images: UInt8) -> Floats:
        unit, unit_means = (
            each / np.linalg.norm(each, axis=1, keepdims=True) for each in (features(images), means)
        )
        return np.asarray((unit @ unit_means.T).max(axis=1))

    def mean(images: UInt8) -> Floats:
        return digit_probabilities(images, predict, scaling)

    return {
        "probability": lambda images: predict(scaling(images)).max(axis=1),
        "energy of the logits": energy,
        "distance to the nearest class mean": distance,
        "cosine to the nearest class mean": cosine,
        "probability, mean of moved copies": lambda images: mean(images).max(axis=1),
        "entropy of this mean": lambda images: -entropy(mean(images)),
    }


def auroc_row(
    score: Callable[[UInt8], Floats], digits: UInt8, marks: Sequence[UInt8]
) -> Iterator[str]:
    """Area under the ROC curve for the marks of each kind of picture, and their mean."""
    of_digits = score(digits)
    values = [
        mannwhitneyu(of_digits, score(each)).statistic / (len(digits) * len(each)) for each in marks
    ]
    yield from (f"{value:.3f}" for value in [*values, np.mean(values)])


def answers(pictures: Iterator[UInt8], predict: Any, scaling: Any) -> Iterator[str]:
    """Number of pictures, and of those without digits, with unsure and with sure digits."""
    counts = Counter[str]()
    for grey in pictures:
        try:
            images = np.stack([digit.image for row in find_rows(grey) for digit in row])
        except UserError:
            counts["none"] += 1
            continue
        sure = is_sure(digit_probabilities(images, predict, scaling))
        counts["sure" if sure.any() else "unsure"] += 1
    yield str(counts.total())
    yield from (str(counts[answer]) for answer in ("none", "unsure", "sure"))


if __name__ == "__main__":
    command_line.run(main, __doc__)
