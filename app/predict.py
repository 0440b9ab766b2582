"""Predicts the digits in pictures: photos, scans or drawings."""

import argparse
import json
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from app import CLASSES, IMAGE_SHAPE, MODEL, SIDE
from app.array_types import UInt8
from app.grayscale import read_grayscale
from app.prediction_format import Prediction, caption, picture_prediction, text_lines
from app.recognition import digit_probabilities
from app.segmentation import Digit, digit_images, find_rows
from stages.common import command_line
from stages.common.errors import UserError, printable
from stages.evaluation.plots import draw_predictions, save

# Written into --show pictures as their software, so that only such a picture is replaced.
SOFTWARE = "python -m app.predict --show"
THUMBNAIL_SIDE_PX = 300


class Picture(NamedTuple):
    """The rows of digits in a picture file, and its height and width in pixels."""

    rows: list[list[Digit]]
    shape: tuple[int, ...]


def main() -> None:
    arguments = parse_arguments()
    if not arguments.model.exists():
        raise UserError(f"{arguments.model} is missing. Run: make repro")
    if arguments.show:
        check_replaceable(arguments.show, [arguments.model, *arguments.files])

    # By index, because a file may be named twice.
    pictures: dict[int, Picture] = {}
    errors: dict[int, str] = {}
    thumbnails: list[UInt8] = []
    for index, file in enumerate(arguments.files):
        try:
            grey, rows = read_picture(file)
        except UserError as problem:
            errors[index] = str(problem)
            continue
        pictures[index] = Picture(rows, grey.shape)
        if arguments.show:
            thumbnails.append(thumbnail(grey))

    predictions: dict[int, Prediction] = {}
    if pictures:
        all_predictions = predict(pictures.values(), arguments.model)
        predictions = dict(zip(pictures, all_predictions, strict=True))
    if arguments.show and pictures:
        figure = draw_predictions(
            thumbnails,
            [images_in_rows(picture.rows)[None] for picture in pictures.values()],
            [
                [digit["box"] for row in each["rows"] for digit in row["digits"]]
                for each in predictions.values()
            ],
            [caption(prediction) for prediction in predictions.values()],
        )
        save(figure, arguments.show, SOFTWARE)
    if arguments.json:
        documents = [
            {"file": str(file), "error": errors[index]}
            if index in errors
            else {"file": str(file), **predictions[index]}
            for index, file in enumerate(arguments.files)
        ]
        print(json.dumps(documents, indent=2))
    else:
        for index, file in enumerate(arguments.files):
            if index in errors:
                print(printable(f"{file}: {errors[index]}"), file=sys.stderr, flush=True)
                continue
            for line in text_lines(str(file), predictions[index]):
                print(printable(line), flush=True)
    if errors:
        sys.exit(1)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m app.predict", description=__doc__)
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="picture of one digit or rows of digits"
    )
    parser.add_argument("--json", action="store_true", help="print all probabilities as JSON")
    parser.add_argument(
        "--show", type=Path, metavar="PNG", help="write a picture of the network's input"
    )
    parser.add_argument("--model", type=Path, default=MODEL, help="default: %(default)s")
    return parser.parse_args()


def check_replaceable(path: Path, inputs: list[Path]) -> None:
    """Checks that --show replaces no file except an earlier --show picture.

    Raises:
        UserError: the path is another file, a directory or one of the inputs.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UserError(f"--show {path} is a pipe or a device; name a file: seen.png")
    if path.is_dir():
        raise UserError(f"--show {path} is a directory; name a file in it: seen.png")
    if not path.exists() and not path.is_symlink():
        return
    if any(file.exists() and file.samefile(path) for file in inputs):
        raise UserError(f"--show {path} is one of the inputs; name a new file: seen.png")
    try:
        with Image.open(path, formats=["PNG"]) as image:
            is_replaceable = image.info.get("Software") == SOFTWARE
    except Exception:  # decoders raise exceptions of any class
        is_replaceable = False
    if not is_replaceable:
        raise UserError(f"--show {path} exists, and --show did not write it; name a new file")


def read_picture(file: Path) -> tuple[UInt8, list[list[Digit]]]:
    """Reads a picture file: its luminance, uint8 (h, w), and its rows of digits.

    Raises:
        UserError: the file cannot be read, or there is no digit in it.
    """
    try:
        if file.exists() and not (file.is_file() or file.is_dir()):
            raise UserError("a pipe or a device, not a picture file")
        grey = read_grayscale(file)
        return grey, find_rows(grey)
    except (OSError, ValueError) as problem:  # ValueError: a name with a null byte
        raise UserError(getattr(problem, "strerror", None) or str(problem)) from None


def thumbnail(grey: UInt8) -> UInt8:
    image = Image.fromarray(grey)
    image.thumbnail((THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX))
    return np.asarray(image)


def images_in_rows(rows: list[list[Digit]]) -> UInt8:
    """Images of digits in their rows, uint8 of shape (28 * rows, 28 * columns)."""
    shape = SIDE * len(rows), SIDE * max(map(len, rows))
    picture = np.zeros(shape, dtype=np.uint8)
    for index, row in enumerate(rows):
        images = np.hstack([digit.image for digit in row])
        picture[SIDE * index : SIDE * (index + 1), : images.shape[1]] = images
    return picture


def predict(pictures: Collection[Picture], model: Path) -> Iterator[Prediction]:
    """Predicts the digits of each picture with a saved network."""
    # TensorFlow is imported here, so that errors in the arguments are reported without waiting.
    from stages.training.model_file import load_network
    from stages.training.prediction import predictor
    from stages.training.threads import set_threads

    set_threads()
    network, scaling = load_network(model, IMAGE_SHAPE, CLASSES)
    images = [digit_images(picture.rows) for picture in pictures]
    probabilities = digit_probabilities(np.concatenate(images), predictor(network), scaling)
    parts = np.split(probabilities, np.cumsum(list(map(len, images)))[:-1])
    for picture, part in zip(pictures, parts, strict=True):
        yield picture_prediction(picture.rows, picture.shape, part)


if __name__ == "__main__":
    command_line.run(main)
