"""Test error, calibration and mistakes, computed from predicted probabilities and labels."""

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]
BINS = 15  # as Guo et al.


def scores(probabilities: Floats, labels: Labels, confidence: float) -> dict[str, float]:
    """Computes the metrics of metrics/evaluate.json.

    Args:
        probabilities: float32 of shape (n, classes), rows with sum 1.
        labels: uint8 of shape (n,), n at least 1.
        confidence: confidence level of the interval, such as 0.95.

    Returns:
        baseline_error (the tutorial's name for the test error), in percent, and the bounds of its
        interval; expected_calibration_error, 0 to 1, with BINS bins. Values are rounded, so that
        last-bit differences of the network do not change them.

    Source: M. P. Naeini, G. F. Cooper and M. Hauskrecht, "Obtaining well calibrated probabilities
    using Bayesian binning", AAAI 2015; number of bins: C. Guo, G. Pleiss, Y. Sun and K. Q.
    Weinberger, "On calibration of modern neural networks", ICML 2017.
    """
    n = len(labels)
    mistakes = int(np.count_nonzero(probabilities.argmax(axis=1) != labels))
    low, high = wilson_interval(mistakes, n, confidence)
    return {
        "baseline_error": round(100 * mistakes / n, 4),
        "baseline_error_low": round(100 * low, 4),
        "baseline_error_high": round(100 * high, 4),
        "expected_calibration_error": round(
            calibration_error(calibration(probabilities, labels)), 4
        ),
    }


def wilson_interval(mistakes: int, n: int, confidence: float) -> tuple[float, float]:
    """Wilson's confidence interval for an error rate, 0 to 1, given `mistakes` among `n` images.

    scipy has it too, but takes a second to import.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    JASA 22 (1927).
    """
    p, z = mistakes / n, NormalDist().inv_cdf((1 + confidence) / 2)
    middle = p + z**2 / (2 * n)
    half_width = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = ((middle + side * half_width) / (1 + z**2 / n) for side in (-1, 1))
    return max(low, 0.0), min(high, 1.0)


def calibration(probabilities: Floats, labels: Labels) -> pd.DataFrame:
    """Groups images by confidence into bins of equal width.

    Args:
        probabilities: float32 of shape (n, classes), rows with sum 1.
        labels: uint8 of shape (n,).

    Returns:
        A row for each of the BINS bins, (0, 1/15], (1/15, 2/15], ...: mean confidence and accuracy
        (0 to 1, NaN in an empty bin), and the number of images.
    """
    confidence = probabilities.max(axis=1).astype(np.float64).round(6)  # (n,)
    is_correct = probabilities.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * BINS).astype(int), 1, BINS) - 1
    images = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(bins, values, BINS) / images for values in (confidence, is_correct)]
    return pd.DataFrame({"confidence": means[0], "accuracy": means[1], "images": images})


def calibration_error(table: pd.DataFrame) -> float:
    """Expected calibration error: mean |confidence - accuracy|, weighted by the images of a bin."""
    distance = (table["confidence"] - table["accuracy"]).abs()
    return float((distance * table["images"]).sum() / table["images"].sum())


def predictions(probabilities: Floats, labels: Labels, classes: list[str]) -> pd.DataFrame:
    """A row for each image: actual class, predicted class and confidence (0 to 1)."""
    names = np.array(classes)
    return pd.DataFrame(
        {
            "actual": names[labels],
            "predicted": names[probabilities.argmax(axis=1)],
            "confidence": probabilities.max(axis=1).astype(np.float64).round(4),
        }
    )


def worst_mistakes(table: pd.DataFrame, most: int) -> pd.DataFrame:
    """The wrong predictions with the highest confidence, at most `most`; ties keep their order."""
    wrong = table[table["actual"] != table["predicted"]]
    return wrong.sort_values("confidence", ascending=False, kind="stable").head(most)
