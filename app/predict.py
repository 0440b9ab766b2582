"""The digits in each of some pictures: photos, scans, drawings."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from app import MODEL
from app.answers import answer, caption, line
from app.digits import Digit, digits
from app.grey import UInt8, read_grey
from stages.edges.bad_input import BadInput, explained, printable
from stages.results.pictures import beside, save

# What a --show picture says it was made by, so that the next may replace it and nothing else.
SHOWN = "python -m app.predict --show"
THUMBNAIL = 300  # pixels of the longer side: all that is kept of a picture, and only for --show


def main() -> int:
    arguments = parse_arguments()
    if not arguments.model.exists():
        raise BadInput(f"{arguments.model} is missing; dvc repro makes it")
    if arguments.show:
        check_replaceable(arguments.show, [arguments.model, *arguments.files])

    found: list[list[Digit]] = []  # of each file
    shapes: list[tuple[int, int]] = []
    errors: list[str] = []
    thumbnails: list[UInt8] = []
    for file in arguments.files:
        grey, digits_of_file, error = prepare(file)
        found.append(digits_of_file)
        shapes.append((grey.shape[0], grey.shape[1]))
        errors.append(error)
        if arguments.show and digits_of_file:
            thumbnails.append(thumbnail(grey))

    images = [digit.image for each in found for digit in each]
    probabilities = iter(predict(np.stack(images), arguments.model) if images else ())
    answers: list[dict[str, Any]] = [
        {"file": str(file)}
        | ({"error": error} if error else answer(each, shape, [next(probabilities) for _ in each]))
        for file, each, shape, error in zip(arguments.files, found, shapes, errors, strict=True)
    ]

    good = [each for each in answers if "error" not in each]
    if arguments.show and good:
        seen = [np.stack([digit.image for digit in each]) for each in found if each]
        boxes = [[digit["box"] for digit in each["digits"]] for each in good]
        figure = beside(thumbnails, seen, boxes, [caption(each) for each in good])
        save(figure, arguments.show, SHOWN)
    if arguments.json:
        print(json.dumps(answers, indent=2))
    else:
        for each in answers:
            text = printable(f"{each['file']}: {each.get('error') or line(each)}")
            print(text, file=sys.stderr if "error" in each else sys.stdout, flush=True)
    return len(good) < len(answers)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m app.predict", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a digit or a row")
    parser.add_argument("--json", action="store_true", help="all probabilities, for programs")
    parser.add_argument("--show", type=Path, metavar="PNG", help="draw what the network saw")
    parser.add_argument("--model", type=Path, default=MODEL, help="by default %(default)s")
    return parser.parse_args()


def check_replaceable(show: Path, inputs: list[Path]) -> None:
    """Refuses to write over anything but an earlier --show picture.

    Raises:
        BadInput: there is something else of that name, or it is an input.
    """
    if show.is_dir():
        raise BadInput(f"--show {show} is a folder; name a file in it: seen.png")
    if not show.exists() and not show.is_symlink():
        return
    if any(file.exists() and file.samefile(show) for file in inputs):
        raise BadInput(f"--show {show} is one of the inputs; name a new file: seen.png")
    try:
        with Image.open(show, formats=["PNG"]) as image:
            ours = image.info.get("Software") == SHOWN
    except Exception:  # whatever it is, it is not ours
        ours = False
    if not ours:
        raise BadInput(f"--show {show} would replace a file that is no earlier --show picture")


def prepare(file: Path) -> tuple[UInt8, list[Digit], str]:
    """Reads a picture: its grey pixels and the digits in it, or why there are none."""
    nothing = np.empty((0, 0), dtype=np.uint8)
    try:
        if file.exists() and not (file.is_file() or file.is_dir()):
            raise BadInput("a pipe or a device, not a picture file")
        grey = read_grey(file)
        return grey, digits(grey), ""
    except BadInput as problem:
        return nothing, [], str(problem)
    except (OSError, ValueError) as problem:  # ValueError: a name with a null byte
        return nothing, [], getattr(problem, "strerror", None) or str(problem)


def thumbnail(grey: UInt8) -> UInt8:
    image = Image.fromarray(grey)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return np.asarray(image)


def predict(images: UInt8, model: Path) -> Any:
    """Probabilities, float32 of shape (n, 10), for images, uint8 of shape (n, 28, 28)."""
    # Here, so that nobody waits for TensorFlow to learn that a file name is wrong.
    from stages.training.network import load_network
    from stages.training.prediction import predictor
    from stages.training.repeatable import set_threads

    set_threads()
    network, scaling = load_network(model)
    return predictor(network)(scaling(images))


if __name__ == "__main__":
    with explained():
        sys.exit(main())
