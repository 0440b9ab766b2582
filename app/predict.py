"""Predicts the digits in pictures: photos, scans or drawings."""

import argparse
import json
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from app import CLASSES, IMAGE_SHAPE, MODEL
from app.array_types import UInt8
from app.grayscale import read_grayscale
from app.prediction_format import Prediction, caption, picture_prediction, text_line
from app.segmentation import Digit, find_digits
from stages.common import command_line
from stages.common.errors import UserError, printable
from stages.evaluation.plots import draw_predictions, save

# Written into --show pictures as their software, so that only such a picture is replaced.
SOFTWARE = "python -m app.predict --show"
THUMBNAIL_SIDE_PX = 300


class Picture(NamedTuple):
    """The digits in a picture file, from left to right, and its height and width in pixels."""

    digits: list[Digit]
    shape: tuple[int, ...]


def main() -> None:
    arguments = parse_arguments()
    if not arguments.model.exists():
        raise UserError(f"{arguments.model} is missing; make repro makes it")
    if arguments.show:
        check_replaceable(arguments.show, [arguments.model, *arguments.files])

    # By index, because a file may be named twice.
    pictures: dict[int, Picture] = {}
    errors: dict[int, str] = {}
    thumbnails: list[UInt8] = []
    for index, file in enumerate(arguments.files):
        try:
            grey, digits = read_picture(file)
        except UserError as problem:
            errors[index] = str(problem)
            continue
        pictures[index] = Picture(digits, grey.shape)
        if arguments.show:
            thumbnails.append(thumbnail(grey))

    predictions: dict[int, Prediction] = {}
    if pictures:
        all_predictions = predict(pictures.values(), arguments.model)
        predictions = dict(zip(pictures, all_predictions, strict=True))
    if arguments.show and pictures:
        figure = draw_predictions(
            thumbnails,
            [np.stack([digit.image for digit in picture.digits]) for picture in pictures.values()],
            [[digit["box"] for digit in each["digits"]] for each in predictions.values()],
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
            text = errors[index] if index in errors else text_line(predictions[index])
            output = sys.stderr if index in errors else sys.stdout
            print(printable(f"{file}: {text}"), file=output, flush=True)
    if errors:
        sys.exit(1)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m app.predict", description=__doc__)
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="picture of one digit or a row"
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


def read_picture(file: Path) -> tuple[UInt8, list[Digit]]:
    """Reads a picture file: its luminance, uint8 (h, w), and its digits, from left to right.

    Raises:
        UserError: the file cannot be read, or there is no digit in it.
    """
    try:
        if file.exists() and not (file.is_file() or file.is_dir()):
            raise UserError("a pipe or a device, not a picture file")
        grey = read_grayscale(file)
        return grey, find_digits(grey)
    except (OSError, ValueError) as problem:  # ValueError: a name with a null byte
        raise UserError(getattr(problem, "strerror", None) or str(problem)) from None


def thumbnail(grey: UInt8) -> UInt8:
    image = Image.fromarray(grey)
    image.thumbnail((THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX))
    return np.asarray(image)


def predict(pictures: Collection[Picture], model: Path) -> Iterator[Prediction]:
    """Predicts the digits of each picture with a saved network."""
    # TensorFlow is imported here, so that errors in the arguments are reported without waiting.
    from stages.training.model_file import load_network
    from stages.training.prediction import predictor
    from stages.training.threads import set_threads

    set_threads()
    network, scaling = load_network(model, IMAGE_SHAPE, CLASSES)
    images = np.stack([digit.image for picture in pictures for digit in picture.digits])
    probabilities = iter(predictor(network)(scaling(images)))  # (n, 10)
    for picture in pictures:
        of_digits = [next(probabilities) for _ in picture.digits]
        yield picture_prediction(picture.digits, picture.shape, of_digits)


if __name__ == "__main__":
    command_line.run(main)
