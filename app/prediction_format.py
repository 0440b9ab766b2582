"""Formats the predictions of a picture: for JSON, as lines of text, and as a caption."""

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import numpy as np

from app.array_types import Float32
from app.recognition import is_sure
from app.segmentation import Digit

# A second or third digit is mentioned from this probability.
MIN_SHOWN_PROBABILITY = 5e-4


class DigitPrediction(TypedDict):
    """Prediction of one digit.

    Keys:
        digit: the likeliest one.
        probability: of this digit.
        sure: whether the entropy is at most MAX_ENTROPY, and so it is for most of the picture's
            digits; otherwise the picture is probably a text or a texture.
        probabilities: of 0 to 9.
        box: left, top, right and bottom, as fractions of the upright picture's width and height.
        image: 784 grey levels of the network's input; only for the web page.
    """

    digit: int
    probability: float
    sure: bool
    probabilities: list[float]
    box: list[float]
    image: NotRequired[list[int]]


class RowPrediction(TypedDict):
    """Prediction of a row of digits.

    Keys:
        number: the digits as text.
        sure: whether all of them are sure.
        text: the number with its lowest probability, and the candidates for uncertain digits, as
            the command prints them.
        digits: from left to right.
    """

    number: str
    sure: bool
    text: str
    digits: list[DigitPrediction]


class Prediction(TypedDict):
    """Prediction of all digits in a picture.

    Keys:
        number: the numbers of the rows, with spaces between them.
        sure: whether all rows are sure.
        rows: from top to bottom.
    """

    number: str
    sure: bool
    rows: list[RowPrediction]


def picture_prediction(
    rows: Sequence[Sequence[Digit]], shape: tuple[int, ...], probabilities: Float32
) -> Prediction:
    """Combines the digits of a picture with their probabilities.

    Args:
        rows: from top to bottom, of digits from left to right; n digits.
        shape: height and width of the picture, in pixels.
        probabilities: of the digits in this order, float32 of shape (n, 10).
    """
    each = zip(probabilities, is_sure(probabilities).tolist(), strict=True)
    row_predictions = [
        row_prediction([digit_prediction(digit, shape, *next(each)) for digit in row])
        for row in rows
    ]
    return {
        "number": " ".join(row["number"] for row in row_predictions),
        "sure": all(row["sure"] for row in row_predictions),
        "rows": row_predictions,
    }


def digit_prediction(
    digit: Digit, shape: tuple[int, ...], probabilities: Float32, sure: bool
) -> DigitPrediction:
    height, width = shape
    best = int(np.argmax(probabilities))
    rounded = [round(float(probability), 6) for probability in probabilities]
    edges = zip(digit.box, (width, height, width, height), strict=True)
    return {
        "digit": best,
        "probability": rounded[best],
        "sure": sure,
        "probabilities": rounded,
        "box": [round(pixels / side, 4) for pixels, side in edges],
    }


def row_prediction(digits: list[DigitPrediction]) -> RowPrediction:
    return {
        "number": "".join(str(each["digit"]) for each in digits),
        "sure": all(each["sure"] for each in digits),
        "text": row_text(digits),
        "digits": digits,
    }


def row_text(digits: list[DigitPrediction]) -> str:
    """The number in a row, its lowest probability, and other candidates."""
    if len(digits) == 1:
        if not digits[0]["sure"]:
            return f"{candidates(digits[0])}, not sure"
        others = [
            f"{digit} {probability:.1%}"
            for digit, probability in ranked(digits[0])[1:3]
            if probability > MIN_SHOWN_PROBABILITY
        ]
        return row_caption(digits) + (f" (then {', '.join(others)})" if others else "")
    unsure = [
        f"digit {position} is {candidates(digit)}"
        for position, digit in enumerate(digits, 1)
        if not digit["sure"]
    ]
    if len(unsure) == len(digits):
        return f"{row_caption(digits)}, not sure of any digit"
    return row_caption(digits) + (f", not sure: {'; '.join(unsure)}" if unsure else "")


def row_caption(digits: list[DigitPrediction]) -> str:
    """The number and its lowest probability, or the candidates of a single uncertain digit."""
    lowest = min(digits, key=lambda digit: digit["probability"])
    if len(digits) > 1:
        number = "".join(str(each["digit"]) for each in digits)
        return f"{number}, {lowest['probability']:.1%} or more each"
    if not lowest["sure"]:
        return candidates(lowest)
    return f"{lowest['digit']}, {lowest['probability']:.1%}"


def text_lines(name: str, prediction: Prediction) -> list[str]:
    """A line for each row, with the name of the picture."""
    rows = prediction["rows"]
    if len(rows) == 1:
        return [f"{name}: {rows[0]['text']}"]
    return [f"{name}, row {number}: {row['text']}" for number, row in enumerate(rows, 1)]


def caption(prediction: Prediction) -> str:
    """The captions of the rows."""
    return "\n".join(row_caption(row["digits"]) for row in prediction["rows"])


def candidates(digit: DigitPrediction) -> str:
    """The two likeliest digits, such as 4 (62.1%) or 9 (30.0%)."""
    return " or ".join(f"{each} ({probability:.1%})" for each, probability in ranked(digit)[:2])


def ranked(digit: DigitPrediction) -> list[tuple[int, float]]:
    """Pairs of digit and probability, the likeliest first."""
    return sorted(enumerate(digit["probabilities"]), key=lambda pair: -pair[1])
