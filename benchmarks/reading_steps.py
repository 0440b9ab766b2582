"""Draws the steps from a picture file to the network's input.

python -m benchmarks.reading_steps docs/pictures/squared.jpg docs/reading-steps.png
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from app.background import estimate_background
from app.foreground import contrast_to_background, find_foreground
from app.grayscale import read_grayscale
from app.ruled_lines import remove_ruled_lines
from app.segmentation import find_rows
from stages.common import command_line
from stages.evaluation.plots import save


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.reading_steps", description=__doc__)
    parser.add_argument("file", type=Path, help="a picture of digits")
    parser.add_argument("drawing", type=Path, help="PNG file to write")
    arguments = parser.parse_args()
    grey = read_grayscale(arguments.file)
    background = estimate_background(grey)
    contrast = contrast_to_background(grey, background)
    components = find_foreground(grey).labels
    images = [np.hstack([digit.image for digit in row]) for row in find_rows(grey)]
    columns = max(image.shape[1] for image in images)
    seen = np.vstack([np.pad(each, ((0, 0), (0, columns - each.shape[1]))) for each in images])

    figure = Figure(figsize=(9, 5.4), layout="constrained")
    panels = figure.subplots(2, 3).ravel()
    for axes in panels:
        axes.axis("off")
    steps: dict[str, npt.NDArray[Any]] = {
        "1. grey": grey,
        "2. background": background,
        "3. foreground: contrast to the background": contrast,
        "4. lines of the paper removed": remove_ruled_lines(contrast),
    }
    for axes, (title, levels) in zip(panels, steps.items(), strict=False):
        axes.imshow(np.clip(levels, 0, 255), cmap="gray", vmin=0, vmax=255)
        axes.set_title(title, fontsize=10)
    shown = np.ma.masked_equal(components, 0)
    panels[4].imshow(shown, cmap="tab10", vmin=1, vmax=10, interpolation="nearest")
    panels[4].set_title("5. components", fontsize=10)
    panels[5].imshow(seen, cmap="gray", vmin=0, vmax=255)
    panels[5].set_title("6. each digit in 28×28 pixels", fontsize=10)
    save(figure, arguments.drawing)


if __name__ == "__main__":
    command_line.run(main)
