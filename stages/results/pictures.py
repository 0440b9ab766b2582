"""Pictures for people: digits in a grid, and how far confidences can be trusted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd

# Not pyplot, which would cost half a second and keep every figure alive.
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from stages.edges.replacing import replacing

mpl.rcdefaults()  # whatever a matplotlibrc of this user says
mpl.rcParams["text.parse_math"] = False  # a branch may be named cost-$_$
# Two colours of Okabe and Ito's palette, which the colour-blind can tell apart.
BLUE, ORANGE = "#0072B2", "#D55E00"
DPI = 100
Array = npt.NDArray[Any]


def save(figure: Figure, path: Path, software: str | None = None) -> None:
    """Writes a PNG file that says what made it: by default nothing, not matplotlib's version."""
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=DPI, metadata={"Software": software})


def digits(images: Array, captions: Sequence[str], title: str = "") -> Figure:
    """Draws digits in a grid, as ink on paper, each under a caption.

    Args:
        images: shape (n, 28, 28), any scale: each image is drawn from its least to its
            greatest value.
        captions: n of them.
        title: stands above the grid.
    """
    columns = max(5, int(np.ceil(np.sqrt(len(images)))))  # 5: a title needs room
    rows = max(1, -(-len(images) // columns))
    width, height, above = 110 * columns, 118 * rows, 50
    figure = Figure(figsize=(width / DPI, (above + height) / DPI))
    figure.suptitle(title, y=1 - 10 / (above + height))
    # One panel for all, measured in the picture's pixels: a panel for each takes five times as
    # long, and its pixels are not all of one size.
    axes = figure.add_axes((0, 0, 1, height / (above + height)))
    axes.axis("off")
    for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(place, columns)
        left, top = 110 * column + 13, 118 * row + 26
        axes.imshow(image, cmap="gray_r", extent=(left, left + 84, top + 84, top))  # 3 * 28
        size = min(10, 160 / max(1, len(caption)))  # 15 letters of 10 points are as wide as it
        axes.text(left + 42, top - 4, caption, ha="center", fontsize=size)
    axes.set(xlim=(0, width), ylim=(height, 0))
    return figure


def beside(
    originals: Sequence[Array],
    images: Sequence[Array],
    boxes: Sequence[Sequence[Sequence[float]]],
    captions: Sequence[str],
) -> Figure:
    """Draws pictures, and to the right of each what the network sees of it.

    Args:
        originals: n pictures, uint8 of shape (h, w), of any size.
        images: for each of them its digits, of shape (digits, 28, 28).
        boxes: for each of them and each digit left, top, right and bottom, as shares of the
            picture; drawn where there are several.
        captions: n of them.
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


def reliability(table: pd.DataFrame, error: float) -> Figure:
    """Draws how often digits are right against how surely they are read.

    Args:
        table: of `calibration`: confidence, accuracy and images of each bin.
        error: the expected calibration error, 0 to 1.

    Source: the reliability diagram is M. H. DeGroot and S. E. Fienberg's, "The comparison and
    evaluation of forecasters", The Statistician 32 (1983).
    """
    figure = Figure(figsize=(6.4, 6), layout="constrained")
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    bins = len(table)
    middles = (np.arange(bins) + 0.5) / bins
    axes.plot([0, 1], [0, 1], "--", color="gray", label="as surely as it is right")
    axes.plot(
        table["confidence"],
        table["accuracy"],
        "o-",
        color=BLUE,
        label="this network",
        clip_on=False,  # whole points at 0 and at 1
    )
    axes.set(ylabel="share read right", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(f"Expected calibration error {error:.2%}, {bins} bins")
    axes.grid(alpha=0.3)
    axes.legend()
    counts.bar(middles, table["images"], width=0.9 / bins, color=ORANGE)
    counts.set_yscale("symlog")
    counts.yaxis.set_major_formatter("{x:,.0f}")  # powers of ten would be written as formulas
    counts.set(xlabel="confidence", ylabel="test images")
    return figure
