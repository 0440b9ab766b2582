"""Formats the predictions of a picture: for JSON, as one line of text, and as a caption."""

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import numpy as np
import numpy.typing as npt

from app.segmentation import Digit

# With a lower probability a prediction is shown as uncertain, with the two likeliest digits. In
# rows of held-out training digits, 99% of the digits with at least this probability were right: see
# benchmarks.confidence_threshold. It is not a parameter, because the tutorial trains on all
# training images, and a value chosen on the test images would be too optimistic.
CONFIDENCE_THRESHOLD = 0.89
# A second or third digit is mentioned from this probability.
MIN_SHOWN_PROBABILITY = 5e-4


class DigitPrediction(TypedDict):
    """Prediction of one digit.

    Keys:
        digit: the likeliest one.
        probability: of this digit.
        sure: whether that is at least CONFIDENCE_THRESHOLD.
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


class Prediction(TypedDict):
    """Prediction of all digits in a picture.

    Keys:
        number: the digits as text.
        sure: whether all of them are sure.
        digits: from left to right.
    """

    number: str
    sure: bool
    digits: list[DigitPrediction]


def picture_prediction(
    digits: Sequence[Digit],
    shape: tuple[int, ...],
    probabilities: Sequence[npt.NDArray[np.float32]],
) -> Prediction:
    """Combines the digits of a picture with their probabilities.

    Args:
        digits: n digits, from left to right.
        shape: height and width of the picture, in pixels.
        probabilities: of each digit, float32 of shape (10,).
    """
    height, width = shape
    predictions: list[DigitPrediction] = []
    for digit, exact in zip(digits, probabilities, strict=True):
        rounded = [round(float(probability), 6) for probability in exact]
        best = int(np.argmax(exact))
        edges = zip(digit.box, (width, height, width, height), strict=True)
        predictions.append(
            {
                "digit": best,
                "probability": rounded[best],
                "sure": rounded[best] >= CONFIDENCE_THRESHOLD,
                "probabilities": rounded,
                "box": [round(pixels / side, 4) for pixels, side in edges],
            }
        )
    return {
        "number": "".join(str(each["digit"]) for each in predictions),
        "sure": all(each["sure"] for each in predictions),
        "digits": predictions,
    }


def text_line(prediction: Prediction) -> str:
    """One line of text: the number, its probability, and other candidates."""
    digits = prediction["digits"]
    if len(digits) == 1:
        if not prediction["sure"]:
            return f"{candidates(digits[0])}, not sure"
        others = [
            f"{digit} {probability:.1%}"
            for digit, probability in ranked(digits[0])[1:3]
            if probability > MIN_SHOWN_PROBABILITY
        ]
        return caption(prediction) + (f" (then {', '.join(others)})" if others else "")
    unsure = [
        f"digit {position} is {candidates(digit)}"
        for position, digit in enumerate(digits, 1)
        if not digit["sure"]
    ]
    return caption(prediction) + (f", not sure: {'; '.join(unsure)}" if unsure else "")


def caption(prediction: Prediction) -> str:
    """The number and its lowest probability, or the candidates of a single uncertain digit."""
    digits = prediction["digits"]
    lowest = min(digits, key=lambda digit: digit["probability"])
    if len(digits) > 1:
        return f"{prediction['number']}, {lowest['probability']:.1%} or more each"
    if not prediction["sure"]:
        return candidates(lowest)
    return f"{prediction['number']}, {lowest['probability']:.1%}"


def candidates(digit: DigitPrediction) -> str:
    """The two likeliest digits, such as 4 (62.1%) or 9 (30.0%)."""
    return " or ".join(f"{each} ({probability:.1%})" for each, probability in ranked(digit)[:2])


def ranked(digit: DigitPrediction) -> list[tuple[int, float]]:
    """Pairs of digit and probability, the likeliest first."""
    return sorted(enumerate(digit["probabilities"]), key=lambda pair: -pair[1])
