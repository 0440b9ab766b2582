import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from stages.results.pictures import (
    beside,
    digits,
    reliability,
    save,
)
from stages.results.scores import calibration

IMAGES = np.random.default_rng(0).random((3, 28, 28)).astype(np.float32)
PHOTO = np.full((20, 60), 200, dtype=np.uint8)
SHARES = np.array([[0.75, 0.25], [0.75, 0.25], [0.9, 0.1]], dtype=np.float32)
LABELS = np.array([0, 1, 0], dtype=np.uint8)


DRAWINGS: dict[str, Callable[[], Figure]] = {
    "digits": lambda: digits(IMAGES, ["1", "2 → 3", "4, 99%"], "Three digits"),
    "one digit": lambda: digits(IMAGES[:1], ["1"]),
    "no digits": lambda: digits(IMAGES[:0], [], "0 of 0 mistakes"),
    "a black digit": lambda: digits(np.zeros((1, 28, 28)), ["0"]),
    "reliability": lambda: reliability(calibration(SHARES, LABELS), 0.25),
    "pictures": lambda: beside(
        [PHOTO, PHOTO],
        [IMAGES[:1], IMAGES],
        [[[0, 0, 1, 1]], [[place / 4, 0.5, place / 4 + 0.2, 1] for place in range(3)]],
        ["1", "234"],
    ),
}


def chunks(path: Path) -> list[str]:
    """The kinds of a PNG file's chunks; every byte belongs to one."""
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    place, kinds = 8, []
    while place < len(content):
        (length,) = struct.unpack_from(">I", content, place)
        kinds.append(content[place + 4 : place + 8].decode())
        place += 12 + length
    assert place == len(content)
    return kinds


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", DRAWINGS)
def test_a_picture_has_the_same_bytes_each_time(tmp_path: Path, name: str) -> None:
    for path in (tmp_path / "a.png", tmp_path / "b.png"):
        save(DRAWINGS[name](), path)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    # No text chunks, where matplotlib writes its version, and no time.
    assert set(chunks(tmp_path / "a.png")) == {"IHDR", "pHYs", "IDAT", "IEND"}
    assert b"matplotlib" not in (tmp_path / "a.png").read_bytes()


def test_a_matplotlibrc_of_the_user_makes_no_difference(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("font.size: 20\nlines.linewidth: 9\n")
    code = (
        "from pathlib import Path\n"
        "from tests.test_pictures import DRAWINGS, save\n"
        f"save(DRAWINGS['reliability'](), Path({str(tmp_path / 'theirs.png')!r}))\n"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"MPLCONFIGDIR": str(tmp_path)},
        check=True,
    )
    save(DRAWINGS["reliability"](), tmp_path / "ours.png")
    assert (tmp_path / "theirs.png").read_bytes() == (tmp_path / "ours.png").read_bytes()


def test_different_pictures_differ(tmp_path: Path) -> None:
    for name, draw in DRAWINGS.items():
        save(draw(), tmp_path / name)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == len(DRAWINGS)


def test_each_digit_is_drawn_as_ink_under_its_caption() -> None:
    figure = DRAWINGS["digits"]()
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


def test_a_digits_pixels_are_all_of_one_size(tmp_path: Path) -> None:
    image = np.indices((28, 28)).sum(axis=0) % 2  # a chessboard
    save(digits(np.array([image] * 6), [""] * 6), tmp_path / "six.png")
    drawn = np.asarray(Image.open(tmp_path / "six.png").convert("L"))
    ink = drawn[76:160, 13:97] < 128  # below the title and the first caption
    np.testing.assert_array_equal(ink, np.kron(image, np.ones((3, 3))))


def test_no_mistakes_are_an_empty_grid_with_its_title() -> None:
    figure = DRAWINGS["no digits"]()
    assert figure.get_suptitle() == "0 of 0 mistakes"
    assert [len(axes.images) for axes in figure.axes] == [0]


def test_25_digits_make_a_square_of_5() -> None:
    def grid(count: int) -> tuple[int, int]:
        (axes,) = digits(np.zeros((count, 28, 28)), [""] * count).axes
        corners = [drawn.get_extent() for drawn in axes.images]
        return len({left for left, *_ in corners}), len({top for *_, top in corners})

    assert grid(25) == (5, 5)
    assert grid(26) == (6, 5)
    assert grid(3) == (3, 1)


def test_boxes_are_drawn_where_there_are_several_digits() -> None:
    one, seen_of_one, three, seen_of_three = DRAWINGS["pictures"]().axes
    assert len(one.patches) == 0
    corners = [patch.get_xy() for patch in three.patches if isinstance(patch, Rectangle)]
    assert corners == [(0, 10), (15, 10), (30, 10)]
    assert np.asarray(seen_of_one.images[0].get_array()).shape == (28, 28)
    assert np.asarray(seen_of_three.images[0].get_array()).shape == (28, 3 * 28)
    assert seen_of_three.get_title() == "234"


def test_reliability_shows_each_bin_that_holds_images() -> None:
    figure = DRAWINGS["reliability"]()
    axes, counts = figure.axes
    (_, network) = axes.lines
    drawn = np.column_stack([network.get_xdata(), network.get_ydata()])
    np.testing.assert_allclose(drawn[~np.isnan(drawn[:, 0])], [[0.75, 0.5], [0.9, 1]], rtol=1e-6)
    heights = [bar.get_height() for bar in counts.patches if isinstance(bar, Rectangle)]
    assert [height for height in heights if height] == [2, 1]
    assert axes.get_title() == "Expected calibration error 25.00%, 15 bins"
    figure.draw_without_rendering()
    assert [label.get_text() for label in counts.get_yticklabels()] == ["0", "1"]
