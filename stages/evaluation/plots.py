"""Plots of digits and of calibration, written as PNG files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd

# pyplot would take half a second more to import, and keep each figure in memory.
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from stages.common.atomic_write import atomic_write

mpl.rcdefaults()  # ignore the user's matplotlibrc
mpl.rcParams["text.parse_math"] = False  # a branch name may contain $
# Okabe and Ito's palette for colour-blind readers, dark colours first.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
BLUE, ORANGE = COLORS[:2]
DPI = 100
BOX_PX = 3 * 28  # the side of a digit, three times MNIST's
CELL_WIDTH_PX, CELL_HEIGHT_PX = 110, 118  # of a digit with its caption
MARGIN_PX, CAPTION_PX, TITLE_PX = 13, 26, 50
Array = npt.NDArray[Any]


def save(figure: Figure, path: Path, software: str | None = None) -> None:
    """Writes a PNG file without a time stamp; `software` replaces matplotlib's name and version."""
    with atomic_write(path) as partial:
        figure.savefig(partial, format="png", dpi=DPI, metadata={"Software": software})


def draw_digits(images: Array, captions: Sequence[str], title: str = "") -> Figure:
    """Draws images in a grid with a caption above each: gray ones dark on white, RGB in colour.

    Args:
        images: shape (n, h, w) or (n, h, w, channels), of any range of values: the darkest and
            brightest colour are those of the image's own smallest and largest value. Channels
            other than RGB are averaged.
        captions: n texts.
        title: text above the grid.
    """
    columns = max(5, int(np.ceil(np.sqrt(len(images)))))  # the title needs the width of 5
    rows = max(1, -(-len(images) // columns))
    width, height = CELL_WIDTH_PX * columns, CELL_HEIGHT_PX * rows
    figure = Figure(figsize=(width / DPI, (TITLE_PX + height) / DPI))
    figure.suptitle(title, y=1 - 10 / (TITLE_PX + height))
    largest = max(images.shape[1:3])
    # Whole pixels, so that all are drawn in the same size; a larger image is reduced.
    scale = BOX_PX // largest if largest <= BOX_PX else BOX_PX / largest
    # A single Axes in pixels. One Axes per digit would take five times as long, and round some
    # digits to different sizes.
    axes = figure.add_axes((0, 0, 1, height / (TITLE_PX + height)))
    axes.axis("off")
    for index, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(index, columns)
        left, top = CELL_WIDTH_PX * column + MARGIN_PX, CELL_HEIGHT_PX * row + CAPTION_PX
        height_px, width_px = (scale * side for side in image.shape[:2])
        x, y = left + (BOX_PX - width_px) // 2, top + (BOX_PX - height_px) // 2
        extent = (x, x + width_px, y + height_px, y)
        axes.imshow(as_drawn(image), cmap="gray_r", extent=extent)
        size = min(10, 160 / max(1, len(caption)))  # 15 letters of 10 pt fit a digit
        axes.text(left + BOX_PX / 2, top - 4, caption, ha="center", fontsize=size)
    axes.set(xlim=(0, width), ylim=(height, 0))
    return figure


def as_drawn(image: Array) -> Array:
    """An image for `imshow`: of shape (h, w), or (h, w, 3) from 0 to 1 if it is RGB."""
    if image.ndim == 3 and image.shape[2] == 3:
        low, high = float(image.min()), float(image.max())
        return (image.astype(np.float64) - low) / max(high - low, 1e-9)
    return image.mean(axis=2) if image.ndim == 3 else image


def draw_predictions(
    originals: Sequence[Array],
    images: Sequence[Array],
    boxes: Sequence[Sequence[Sequence[float]]],
    captions: Sequence[str],
) -> Figure:
    """Draws each picture next to the digits that the network gets from it.

    Args:
        originals: n pictures, uint8 of shape (h, w), of any size.
        images: the digits of each picture, shape (digits, 28, 28).
        boxes: left, top, right and bottom of each digit of each picture, as fractions of width
            and height; drawn if a picture has several digits.
        captions: n texts.
    """
    columns = int(np.ceil(np.sqrt(len(images))))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(3.2 * columns, 1.9 * rows), layout="constrained")
    panels = figure.subplots(rows, 2 * columns, squeeze=False).reshape(-1, 2)
    for axes in panels.ravel():
        axes.axis("off")
    for pair, original, seen, places, caption in zip(
        panels, originals, images, boxes, captions, strict=False
    ):
        pair[0].imshow(original, cmap="gray", vmin=0, vmax=255)
        pair[1].imshow(np.hstack(list(seen)), cmap="gray_r", vmin=0, vmax=255)
        pair[1].set_title(caption, fontsize=min(10, 180 / len(caption)))
        height, width = original.shape
        for left, top, right, bottom in places if len(places) > 1 else ():
            corner, size = (
                (left * width, top * height),
                ((right - left) * width, (bottom - top) * height),
            )
            pair[0].add_patch(Rectangle(corner, *size, fill=False, edgecolor=BLUE))
    return figure


def draw_reliability(table: pd.DataFrame, error: float) -> Figure:
    """Draws a reliability diagram: accuracy against confidence, and the images of each bin.

    Args:
        table: the result of `calibration`: confidence, accuracy and images of each bin.
        error: expected calibration error, 0 to 1.

    Source: M. H. DeGroot and S. E. Fienberg, "The comparison and evaluation of forecasters", The
    Statistician 32 (1983).
    """
    figure = Figure(figsize=(6.4, 6), layout="constrained")
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    bins = len(table)
    middles = (np.arange(bins) + 0.5) / bins
    axes.plot([0, 1], [0, 1], "--", color="gray", label="perfectly calibrated")
    axes.plot(
        table["confidence"],
        table["accuracy"],
        "o-",
        color=BLUE,
        label="this network",
        clip_on=False,  # draws points at 0 and 1 whole
    )
    axes.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(f"Expected calibration error {error:.2%}, {bins} bins")
    axes.grid(alpha=0.3)
    axes.legend()
    counts.bar(middles, table["images"], width=0.9 / bins, color=ORANGE)
    counts.set_yscale("symlog")
    counts.yaxis.set_major_formatter("{x:,.0f}")  # not powers of ten
    counts.set(xlabel="confidence", ylabel="test images")
    return figure
