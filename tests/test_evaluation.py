"""Evaluation: scores, predictions and plots."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from stages.evaluation.plots import draw_digits, draw_predictions, draw_reliability, save
from stages.evaluation.scores import (
    BINS,
    calibration,
    calibration_error,
    predictions,
    scores,
    worst_mistakes,
)
from tests.project import ROOT

DIGITS = list("0123456789")
Labels = npt.NDArray[np.uint8]


def one_hot(digits: list[int]) -> Any:
    """Probabilities, (n, 10), with 1 for one digit of each image."""
    return np.eye(10, dtype=np.float32)[digits]


def predicted_as_0(confidences: list[float]) -> Any:
    """Probabilities, (n, 10), of images predicted as 0, with 1 as the only alternative."""
    probabilities = np.zeros((len(confidences), 10), np.float32)
    probabilities[:, 0] = confidences
    probabilities[:, 1] = 1 - probabilities[:, 0]
    return probabilities


def labels(*numbers: int) -> Labels:
    return np.array(numbers, np.uint8)


# ── Scores ──


def scores_of(mistakes: int, images: int, confidence: float = 0.95) -> dict[str, Any]:
    probabilities = one_hot([1] * mistakes + [0] * (images - mistakes))
    return scores(probabilities, labels(*[0] * images), confidence)


@pytest.mark.parametrize(
    ("mistakes", "images", "low", "high"),
    [
        # R. G. Newcombe, "Two-sided confidence intervals for the single proportion",
        # Statistics in Medicine 17 (1998), table I, method 3.
        (81, 263, 25.53, 36.62),
        (15, 148, 6.24, 16.05),
        (0, 20, 0.00, 16.11),
        (1, 29, 0.61, 17.18),
        # By hand: without mistakes, the upper bound is 100 z² / (n + z²).
        (0, 50, 0.00, 7.13),
        (50, 50, 92.87, 100.00),
    ],
)
def test_wilson_interval_of_published_examples(
    mistakes: int, images: int, low: float, high: float
) -> None:
    result = scores_of(mistakes, images)
    assert round(result["baseline_error_low"], 2) == low
    assert round(result["baseline_error_high"], 2) == high
    assert result["baseline_error"] == round(100 * mistakes / images, 4)


@given(st.integers(1, 300), st.data(), st.sampled_from([(0.5, 0.67449), (0.9, 1.64485)]))
def test_wilson_interval_is_wilsons_formula(
    n: int, data: st.DataObject, level: tuple[float, float]
) -> None:
    mistakes = data.draw(st.integers(0, n))
    confidence, z = level
    p = mistakes / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    result = scores_of(mistakes, n, confidence)
    assert result["baseline_error_low"] == pytest.approx(100 * (middle - half), abs=2e-3)
    assert result["baseline_error_high"] == pytest.approx(100 * (middle + half), abs=2e-3)


def test_scores_are_rounded_numbers_for_json() -> None:
    result = scores_of(1, 3)
    assert result == {
        "baseline_error": 33.3333,
        "baseline_error_low": 6.1492,
        "baseline_error_high": 79.234,
        "expected_calibration_error": 0.3333,
    }
    assert json.loads(json.dumps(result)) == result


def test_rounding_errors_of_the_network_do_not_change_scores() -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(10), 1_000).astype(np.float32)
    actual = random.integers(0, 10, 1_000).astype(np.uint8)
    noisy = probabilities * (1 + np.float32(1e-7) * random.choice([-1, 0, 1], (1_000, 1)))
    assert not np.array_equal(noisy, probabilities)
    assert scores(noisy.astype(np.float32), actual, 0.95) == scores(probabilities, actual, 0.95)


def test_the_calibration_error_by_hand() -> None:
    # Confidence 0.9: two of four are correct. 0.6: one of one. The error is 4/5 · 0.4 + 1/5 · 0.4.
    probabilities, actual = predicted_as_0([0.9, 0.9, 0.9, 0.9, 0.6]), labels(0, 0, 7, 7, 0)
    table = calibration(probabilities, actual)
    assert calibration_error(table) == pytest.approx(0.4)
    assert scores(probabilities, actual, 0.95)["expected_calibration_error"] == 0.4
    assert len(table) == BINS
    assert table["images"].sum() == 5
    filled = table[table["images"] > 0]
    assert filled.index.tolist() == [8, 13]  # (8/15, 9/15] contains 0.6, (13/15, 14/15] 0.9
    assert filled["accuracy"].tolist() == [1.0, 0.5]
    assert filled["confidence"].to_numpy() == pytest.approx([0.6, 0.9])
    # A bin includes its upper edge.
    table = calibration(predicted_as_0([1.0, 14 / 15]), labels(0, 0))
    assert table["images"].tolist() == [0] * 13 + [1, 1]
    # Confidence 0.8: eight of ten are correct.
    table = calibration(predicted_as_0([0.8] * 10), labels(*[0] * 8, 1, 1))
    assert calibration_error(table) == pytest.approx(0)


# ── Predictions ──


def test_predictions() -> None:
    probabilities = np.zeros((2, 10), np.float32)
    probabilities[0, 7] = 0.123456
    probabilities[1, [2, 5]] = 0.5  # the lower of two equally probable digits is predicted
    table = predictions(probabilities, labels(7, 5), DIGITS)
    assert table.to_csv(index=False).splitlines() == [
        "actual,predicted,confidence",
        "7,7,0.1235",
        "5,2,0.5",
    ]


def test_worst_mistakes_are_sorted_by_confidence_then_by_index() -> None:
    confidences = np.array([0.6, 1, 0.9, 0.6, 0.9, 0.7], np.float32)
    probabilities = one_hot([1, 0, 2, 3, 4, 5]) * confidences[:, None]
    table = predictions(probabilities, labels(*[0] * 6), DIGITS)
    assert worst_mistakes(table, 100).index.tolist() == [2, 4, 5, 0, 3]
    assert worst_mistakes(table, 2).index.tolist() == [2, 4]
    # NumPy's unstable sort keeps the order of short arrays, so this one is long.
    many = np.random.default_rng(0).choice([0.5, 0.7, 0.9], 1_000).tolist()
    table = predictions(predicted_as_0(many), labels(*[9] * 1_000), DIGITS)
    expected = sorted(range(1_000), key=lambda place: -many[place])
    assert worst_mistakes(table, 100).index.tolist() == expected[:100]
    no_mistakes = predictions(one_hot([1, 2]), labels(1, 2), DIGITS)
    assert len(worst_mistakes(no_mistakes, 25)) == 0


# ── Plots ──

IMAGES = np.random.default_rng(0).random((3, 28, 28)).astype(np.float32)
RGB = np.zeros((2, 20, 24, 3), np.float32)
RGB[0, :, :12, 0] = RGB[1, :, :12, 2] = 2.5  # left halves in red and in blue
PHOTO = np.full((20, 60), 200, dtype=np.uint8)
BINNED = calibration(predicted_as_0([0.75, 0.75, 0.9]), labels(0, 1, 0))
PLOTS: dict[str, Callable[[], Figure]] = {
    "digits": lambda: draw_digits(IMAGES, ["1", "2 → 3", "4, 99%"], "Three digits"),
    "one digit": lambda: draw_digits(IMAGES[:1], ["1"]),
    "no digits": lambda: draw_digits(IMAGES[:0], [], "0 of 0 mistakes"),
    "a black digit": lambda: draw_digits(np.zeros((1, 28, 28)), ["0"]),
    "a black RGB image": lambda: draw_digits(np.zeros((1, 28, 28, 3)), ["0"]),
    "RGB": lambda: draw_digits(RGB, ["red", "blue"]),
    "reliability": lambda: draw_reliability(BINNED, 0.25),
    "pictures": lambda: draw_predictions(
        [PHOTO, PHOTO],
        [IMAGES[:1], IMAGES],
        [[[0, 0, 1, 1]], [[place / 4, 0.5, place / 4 + 0.2, 1] for place in range(3)]],
        ["1", "234"],
    ),
}


@pytest.mark.filterwarnings("error")
def test_a_plot_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    contents = set()
    for draw in PLOTS.values():
        for name in ("a.png", "b.png"):
            save(draw(), tmp_path / name)
        content = (tmp_path / "a.png").read_bytes()
        assert (tmp_path / "b.png").read_bytes() == content
        # PNG's chunks for text, where matplotlib writes its version, and for a time stamp.
        assert not any(kind in content for kind in (b"tEXt", b"zTXt", b"iTXt", b"tIME", b"eXIf"))
        contents.add(content)
    assert len(contents) == len(PLOTS)  # they differ from each other


def test_the_users_matplotlibrc_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("font.size: 20\nlines.linewidth: 9\n")
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.test_evaluation import PLOTS, save\n"
        "save(PLOTS['reliability'](), Path(sys.argv[1]))"
    )
    subprocess.run(
        [sys.executable, "-c", code, tmp_path / "theirs.png"],
        cwd=ROOT,
        env=os.environ | {"MPLCONFIGDIR": str(tmp_path)},
        check=True,
    )
    save(PLOTS["reliability"](), tmp_path / "ours.png")
    assert (tmp_path / "theirs.png").read_bytes() == (tmp_path / "ours.png").read_bytes()


def test_each_digit_is_drawn_dark_on_white_below_its_caption() -> None:
    figure = PLOTS["digits"]()
    assert figure.get_suptitle() == "Three digits"
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["1", "2 → 3", "4, 99%"]
    for drawn, text, image in zip(axes.images, axes.texts, IMAGES, strict=True):
        np.testing.assert_array_equal(drawn.get_array(), image)
        assert drawn.get_cmap().name == "gray_r"
        left, right, _, top = drawn.get_extent()
        x, y = text.get_position()
        assert x == (left + right) / 2
        assert top - 5 < y < top


def test_all_pixels_of_a_digit_have_the_same_size(tmp_path: Path) -> None:
    image = np.indices((28, 28)).sum(axis=0) % 2  # a chessboard
    save(draw_digits(np.array([image] * 6), [""] * 6), tmp_path / "six.png")
    drawn = np.asarray(Image.open(tmp_path / "six.png").convert("L"))
    is_dark = drawn[76:160, 13:97] < 128  # below the title and the first caption
    np.testing.assert_array_equal(is_dark, np.kron(image, np.ones((3, 3))))


def test_rgb_images_are_drawn_in_colour_and_spread_over_their_range(tmp_path: Path) -> None:
    for images in (RGB, RGB - 1, (100 * RGB).astype(np.uint8)):
        save(draw_digits(images, ["red", "blue"]), tmp_path / "rgb.png")
        drawn = np.asarray(Image.open(tmp_path / "rgb.png").convert("RGB"))
        # 24×20 pixels are drawn as 72×60, in the middle of a square of 84.
        for left, colour in ((13, (255, 0, 0)), (123, (0, 0, 255))):
            box = drawn[76 + 12 : 76 + 72, left + 6 : left + 78]
            assert (box[:, :35] == colour).all()
            assert (box[:, 37:] == 0).all()  # the edge between them is smoothed
            assert (drawn[76:160, [left + 5, left + 78]] == 255).all()
            assert (drawn[[76 + 11, 76 + 72], left : left + 84] == 255).all()


@pytest.mark.parametrize(
    ("shape", "height", "width"),
    [((28, 28), 84, 84), ((32, 32), 64, 64), ((84, 10), 84, 10), ((40, 90, 3), 84 * 40 / 90, 84)],
)
def test_images_of_any_size_fit_in_their_place(
    shape: tuple[int, ...], height: float, width: float
) -> None:
    (axes,) = draw_digits(np.ones((1, *shape)), ["1"]).axes
    left, right, bottom, top = axes.images[0].get_extent()
    assert (right - left, bottom - top) == pytest.approx((width, height))
    assert 13 <= left < right <= 13 + 84
    assert 26 <= top < bottom <= 26 + 84


def test_channels_other_than_rgb_are_averaged() -> None:
    (axes,) = draw_digits(np.stack([IMAGES, 3 * IMAGES], axis=-1), [""] * 3).axes
    for drawn, image in zip(axes.images, IMAGES, strict=True):
        np.testing.assert_allclose(np.asarray(drawn.get_array()), 2 * image, rtol=1e-6)


def test_digits_are_arranged_in_a_square_or_one_row() -> None:
    for count, columns, rows in [(0, 0, 0), (3, 3, 1), (25, 5, 5), (26, 6, 5)]:
        figure = draw_digits(np.zeros((count, 28, 28)), [""] * count, f"{count} mistakes")
        assert figure.get_suptitle() == f"{count} mistakes"
        (axes,) = figure.axes
        corners = [drawn.get_extent() for drawn in axes.images]
        assert len({left for left, *_ in corners}) == columns
        assert len({top for *_, top in corners}) == rows


def test_boxes_are_drawn_if_a_picture_has_several_digits() -> None:
    one, images_of_one, three, images_of_three = PLOTS["pictures"]().axes
    assert len(one.patches) == 0
    corners = [patch.get_xy() for patch in three.patches if isinstance(patch, Rectangle)]
    assert corners == [(0, 10), (15, 10), (30, 10)]
    assert np.asarray(images_of_one.images[0].get_array()).shape == (28, 28)
    assert np.asarray(images_of_three.images[0].get_array()).shape == (28, 3 * 28)
    assert images_of_three.get_title() == "234"


def test_the_reliability_diagram_has_a_point_for_each_bin_with_images() -> None:
    figure = PLOTS["reliability"]()
    axes, counts = figure.axes
    (_, network) = axes.lines
    drawn = np.column_stack([network.get_xdata(), network.get_ydata()])
    np.testing.assert_allclose(drawn[~np.isnan(drawn[:, 0])], [[0.75, 0.5], [0.9, 1]], rtol=1e-6)
    heights = [bar.get_height() for bar in counts.patches if isinstance(bar, Rectangle)]
    assert [height for height in heights if height] == [2, 1]
    assert axes.get_title() == "Expected calibration error 25.00%, 15 bins"
    figure.draw_without_rendering()
    assert [label.get_text() for label in counts.get_yticklabels()] == ["0", "1"]
