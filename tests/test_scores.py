import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.results.scores import (
    BINS,
    calibration,
    calibration_error,
    predictions,
    scores,
    worst_mistakes,
)

DIGITS = list("0123456789")


def certain(digits: list[int]) -> Any:
    """Probabilities of 1 for these digits."""
    return np.eye(10, dtype=np.float32)[digits]


def scored(mistakes: int, images: int, confidence: float = 0.95) -> dict[str, Any]:
    labels = np.zeros(images, np.uint8)
    return scores(certain([1] * mistakes + [0] * (images - mistakes)), labels, confidence)


@pytest.mark.parametrize(
    ("mistakes", "images", "low", "high"),
    [
        # R. G. Newcombe, "Two-sided confidence intervals for the single proportion",
        # Statistics in Medicine 17 (1998), table I, method 3.
        (81, 263, 25.53, 36.62),
        (15, 148, 6.24, 16.05),
        (0, 20, 0.00, 16.11),
        (1, 29, 0.61, 17.18),
    ],
)
def test_wilsons_interval(mistakes: int, images: int, low: float, high: float) -> None:
    result = scored(mistakes, images)
    assert round(result["baseline_error_low"], 2) == low
    assert round(result["baseline_error_high"], 2) == high
    assert result["baseline_error"] == round(100 * mistakes / images, 4)


@given(st.integers(1, 300), st.data(), st.sampled_from([(0.5, 0.67449), (0.9, 1.64485)]))
def test_wilsons_interval_is_his_formula(
    n: int, data: st.DataObject, level: tuple[float, float]
) -> None:
    mistakes = data.draw(st.integers(0, n))
    confidence, z = level
    p = mistakes / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    result = scored(mistakes, n, confidence)
    assert result["baseline_error_low"] == pytest.approx(100 * (middle - half), abs=2e-3)
    assert result["baseline_error_high"] == pytest.approx(100 * (middle + half), abs=2e-3)


def test_no_mistakes() -> None:
    assert scored(0, 50) == {
        "baseline_error": 0.0,
        "baseline_error_low": 0.0,
        "baseline_error_high": 7.1348,  # z² / (n + z²)
        "expected_calibration_error": 0.0,
    }


def test_nothing_but_mistakes() -> None:
    result = scored(50, 50)
    assert result["baseline_error"] == result["baseline_error_high"] == 100.0
    assert result["baseline_error_low"] == 92.8652


def test_figures_are_rounded_and_plain() -> None:
    result = scored(1, 3)
    assert result["baseline_error"] == 33.3333
    assert json.loads(json.dumps(result)) == result


def test_noise_in_the_last_bits_makes_no_difference() -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(10), 1_000).astype(np.float32)
    labels = random.integers(0, 10, 1_000).astype(np.uint8)
    noisy = probabilities * (1 + np.float32(1e-7) * random.choice([-1, 0, 1], (1_000, 1)))
    assert not np.array_equal(noisy, probabilities)
    assert scores(noisy.astype(np.float32), labels, 0.95) == scores(probabilities, labels, 0.95)


def test_predictions() -> None:
    probabilities = np.zeros((2, 10), np.float32)
    probabilities[0, 7] = 0.123456
    probabilities[1, [2, 5]] = 0.5  # a tie goes to the first
    table = predictions(probabilities, np.array([7, 5], np.uint8), DIGITS)
    assert table.to_csv(index=False).splitlines() == [
        "actual,predicted,confidence",
        "7,7,0.1235",
        "5,2,0.5",
    ]


def test_the_worst_mistakes_are_the_surest_in_the_order_of_images() -> None:
    labels = np.zeros(6, np.uint8)
    probabilities = (
        certain([1, 0, 2, 3, 4, 5]) * np.array([[0.6, 1, 0.9, 0.6, 0.9, 0.7]], np.float32).T
    )
    table = predictions(probabilities, labels, DIGITS)
    assert worst_mistakes(table, 100).index.tolist() == [2, 4, 5, 0, 3]
    assert worst_mistakes(table, 2).index.tolist() == [2, 4]
    # NumPy's quick sort keeps the order of few rows only.
    confidences = np.random.default_rng(0).choice([0.5, 0.7, 0.9], 1_000)
    probabilities = certain([1] * 1_000) * confidences[:, None]
    many = predictions(probabilities.astype(np.float32), np.zeros(1_000, np.uint8), DIGITS)
    expected = sorted(range(1_000), key=lambda place: -confidences[place])
    assert worst_mistakes(many, 100).index.tolist() == expected[:100]


def test_no_mistakes_have_no_worst() -> None:
    table = predictions(certain([1, 2]), np.array([1, 2], np.uint8), DIGITS)
    assert len(worst_mistakes(table, 25)) == 0


def read_as_0(confidences: list[float]) -> Any:
    shares = np.zeros((len(confidences), 10), np.float32)
    shares[:, 0] = confidences
    shares[:, 1] = 1 - shares[:, 0]
    return shares


def test_the_calibration_error_by_hand() -> None:
    # Four at 0.9, of which two are right, and one at 0.6, which is: 4/5 · 0.4 + 1/5 · 0.4.
    probabilities = read_as_0([0.9, 0.9, 0.9, 0.9, 0.6])
    labels = np.array([0, 0, 7, 7, 0], np.uint8)
    table = calibration(probabilities, labels)
    assert calibration_error(table) == pytest.approx(0.4)
    assert scores(probabilities, labels, 0.95)["expected_calibration_error"] == 0.4
    assert len(table) == BINS
    assert table["images"].sum() == 5
    filled = table[table["images"] > 0]
    assert filled.index.tolist() == [8, 13]  # (8/15, 9/15] holds 0.6, (13/15, 14/15] holds 0.9
    assert filled["accuracy"].tolist() == [1.0, 0.5]
    assert filled["confidence"].to_numpy() == pytest.approx([0.6, 0.9])


def test_a_bin_ends_with_its_upper_edge() -> None:
    table = calibration(read_as_0([1.0, 14 / 15]), np.zeros(2, np.uint8))
    assert table["images"].tolist() == [0] * 13 + [1, 1]


def test_what_is_as_sure_as_it_is_right_has_no_calibration_error() -> None:
    probabilities = read_as_0([0.8] * 10)
    labels = np.array([0] * 8 + [1] * 2, np.uint8)
    assert calibration_error(calibration(probabilities, labels)) == pytest.approx(0)
