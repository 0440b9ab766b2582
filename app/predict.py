"""The digit in each of some pictures: photos, scans, drawings."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from app.grey import UInt8, read_grey
from app.ink import mnist_image
from stages.edges.bad_input import BadInput, explained
from stages.results.pictures import beside, save

MODEL = Path("models/handwritten_digit.h5")


def main() -> int:
    arguments = parse_arguments()
    if not arguments.model.exists():
        raise BadInput(f"{arguments.model} is missing; dvc repro makes it")
    if arguments.show and arguments.show.is_dir():
        raise BadInput(f"--show {arguments.show} is a folder; name a file in it: seen.png")

    prepared = [prepare(file) for file in arguments.files]
    images = [image for _, image, _ in prepared if image is not None]
    probabilities = iter(predict(np.stack(images), arguments.model) if images else ())
    answers = [
        {"file": str(file), "error": error} if error else answer(file, next(probabilities))
        for file, (_, _, error) in zip(arguments.files, prepared, strict=True)
    ]

    if arguments.show and images:
        originals = [original for original, _, _ in prepared if original is not None]
        captions = [caption(each) for each in answers if "digit" in each]
        save(beside(originals, images, captions), arguments.show)
    if arguments.json:
        print(json.dumps(answers, indent=2))
    else:
        for each in answers:
            print(line(each), file=sys.stderr if "error" in each else sys.stdout, flush=True)
    return len(images) < len(prepared)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m app.predict", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="one digit in each")
    parser.add_argument("--json", action="store_true", help="all ten probabilities, for programs")
    parser.add_argument("--show", type=Path, metavar="PNG", help="draw what the network saw")
    parser.add_argument("--model", type=Path, default=MODEL, help="by default %(default)s")
    return parser.parse_args()


def prepare(file: Path) -> tuple[UInt8 | None, UInt8 | None, str]:
    """Reads a picture: what it shows and the network's image of it, or why there is none."""
    try:
        grey = read_grey(file)
        return grey, mnist_image(grey), ""
    except BadInput as problem:
        return None, None, str(problem)
    except (OSError, ValueError) as problem:  # ValueError: a name with a null byte
        return None, None, getattr(problem, "strerror", None) or str(problem)


def predict(images: UInt8, model: Path) -> Any:
    """Probabilities, float32 of shape (n, 10), for images, uint8 of shape (n, 28, 28)."""
    # Here, so that nobody waits for TensorFlow to learn that a file name is wrong.
    from stages.training.network import load_network
    from stages.training.repeatable import set_threads

    set_threads()
    network, scaling = load_network(model)
    return network.predict(scaling(images), batch_size=1_000, verbose=0)


def answer(file: Path, probabilities: Any) -> dict[str, Any]:
    """What --json says of a picture that could be read."""
    rounded = [round(float(probability), 6) for probability in probabilities]
    digit = int(np.argmax(probabilities))
    return {
        "file": str(file),
        "digit": digit,
        "probability": rounded[digit],
        "probabilities": rounded,
    }


def line(answer: dict[str, Any]) -> str:
    """One picture's line: the digit, then the two that come next."""
    if "error" in answer:
        return f"{answer['file']}: {answer['error']}"
    probabilities = answer["probabilities"]
    _, *others = sorted(range(len(probabilities)), key=lambda digit: -probabilities[digit])
    runners_up = [
        f"{digit} {probabilities[digit]:.1%}" for digit in others[:2] if probabilities[digit] > 5e-4
    ]
    then = f" (then {', '.join(runners_up)})" if runners_up else ""
    return f"{answer['file']}: {caption(answer)}{then}"


def caption(answer: dict[str, Any]) -> str:
    return f"{answer['digit']}, {answer['probability']:.1%}"


if __name__ == "__main__":
    with explained():
        sys.exit(main())
