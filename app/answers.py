"""What is said of a picture: its number, how surely, and what else it may be."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from app.digits import Digit

# Below this probability two digits are named instead of one. A constant, since the tutorial
# holds no images out, and test images are not to choose by. It is the least with which 99 of
# 100 held-out digits of pictured rows were read right by a network of the same layers, trained
# without them: python -m benchmarks.sure
SURE = 0.89


def answer(
    found: Sequence[Digit], shape: Sequence[int], probabilities: Sequence[npt.NDArray[np.float32]]
) -> dict[str, Any]:
    """What --json and the page say of the digits of a picture.

    Args:
        found: n digits, from left to right.
        shape: height and width of the picture, in the pixels of their boxes.
        probabilities: of each, float32 of shape (10,).

    Returns:
        number, the digits as text; sure, whether each of them is; digits, for each its digit,
        probability, sure, all probabilities, and box: left, top, right and bottom, 0 to 1, as
        shares of the upright picture.
    """
    height, width = shape
    digits = []
    for each, shares in zip(found, probabilities, strict=True):
        rounded = [round(float(share), 6) for share in shares]
        best = int(np.argmax(shares))
        sides = zip(each.box, (width, height, width, height), strict=True)
        digits.append(
            {
                "digit": best,
                "probability": rounded[best],
                "sure": rounded[best] >= SURE,
                "probabilities": rounded,
                "box": [round(pixels / side, 4) for pixels, side in sides],
            }
        )
    return {
        "number": "".join(str(each["digit"]) for each in digits),
        "sure": all(each["sure"] for each in digits),
        "digits": digits,
    }


def line(answer: dict[str, Any]) -> str:
    """One line: of one digit what comes next, too; of several those that are not sure."""
    digits = answer["digits"]
    if len(digits) == 1:
        if not answer["sure"]:
            return f"{candidates(digits[0])}, not sure"
        others = [f"{digit} {share:.1%}" for digit, share in ranked(digits[0])[1:3] if share > 5e-4]
        return caption(answer) + (f" (then {', '.join(others)})" if others else "")
    doubts = [
        f"digit {place} is {candidates(each)}"
        for place, each in enumerate(digits, 1)
        if not each["sure"]
    ]
    return caption(answer) + (f", not sure: {'; '.join(doubts)}" if doubts else "")


def caption(answer: dict[str, Any]) -> str:
    """The number, and the probability of its least sure digit; two digits where one is not sure."""
    least = min(answer["digits"], key=lambda each: float(each["probability"]))
    if len(answer["digits"]) > 1:
        return f"{answer['number']}, {least['probability']:.1%} or more each"
    return (
        f"{answer['number']}, {least['probability']:.1%}" if answer["sure"] else candidates(least)
    )


def candidates(digit: dict[str, Any]) -> str:
    """The two likeliest: 4 (62.1%) or 9 (30.0%)."""
    return " or ".join(f"{each} ({share:.1%})" for each, share in ranked(digit)[:2])


def ranked(digit: dict[str, Any]) -> list[tuple[int, float]]:
    """Digits and their probabilities, the likeliest first."""
    return sorted(enumerate(digit["probabilities"]), key=lambda pair: -pair[1])
