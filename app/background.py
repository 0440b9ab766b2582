"""Estimation of a picture's background: its level, or a surface if the light is uneven."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from app.array_types import Float32, UInt8
from app.mnist_format import resize
from app.regions import border

# The longer side is divided into at most this number of cells. The median of most cells is
# background, because strokes are thin.
MAX_CELLS = 32
# Side of the median filter. Wider than a stroke and the area that it encloses.
MEDIAN_FILTER_CELLS = 21
# Light is uneven if a smooth surface explains at least this fraction of the cells' deviations from
# their median. A digit that fills the picture gives 0.1, a gradient 0.5 and more.
MIN_EXPLAINED_DEVIATION = 0.35
# Uneven light is visible at the border, too: this fraction of the cells there deviates from their
# median by at least this fraction of the range of all cells.
MIN_UNEVEN_BORDER = 0.3
MIN_BORDER_DEVIATION = 0.05
FIT_ITERATIONS = 10


def estimate_background(grey: UInt8) -> Float32:
    """Estimates what the picture would be without the writing, with its gradients and shadows.

    The estimate uses the median of each cell. In even light it is the median of these, because a
    surface would follow a digit that fills the picture. In uneven light it is a median filter of
    the cells, with or without a quadratic surface subtracted before, whichever fits better.

    Args:
        grey: luminance, uint8 of shape (h, w).

    Returns:
        Grey levels, float32 of shape (h, w).
    """
    height, width = grey.shape
    side = -(-max(height, width) // MAX_CELLS)
    padded = np.pad(grey, ((0, -height % side), (0, -width % side)), mode="edge")
    cells = padded.reshape(padded.shape[0] // side, side, padded.shape[1] // side, side)
    medians = np.median(cells, axis=(1, 3))  # (rows, columns)
    level = np.full_like(medians, np.median(medians))
    even_light = np.full(grey.shape, level[0, 0], dtype=np.float32)

    at_border = border(medians)
    deviations = np.abs(at_border - np.median(at_border))
    deviation = np.percentile(deviations, 100 * (1 - MIN_UNEVEN_BORDER))
    if deviation < MIN_BORDER_DEVIATION * np.ptp(medians):
        return even_light
    surface = fit_quadratic_surface(medians)
    unexplained = np.abs(medians - surface).sum()
    if unexplained > (1 - MIN_EXPLAINED_DEVIATION) * np.abs(medians - level).sum():
        return even_light
    # The quadratic surface fits gradients. Without it, the edge of a hard shadow stays sharp.
    candidates = [
        base + ndimage.median_filter(medians - base, size=MEDIAN_FILTER_CELLS, mode="nearest")
        for base in (surface, level)
    ]
    best = min(candidates, key=lambda candidate: float(np.abs(medians - candidate).sum()))
    return resize(best.astype(np.float32), padded.shape)[:height, :width]


def fit_quadratic_surface(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Fits a quadratic surface to values of shape (h, w) by least absolute deviations.

    The method is iteratively reweighted least squares.
    """
    y, x = (np.linspace(-1, 1, n) for n in values.shape)
    x, y = (axis.ravel() for axis in np.meshgrid(x, y))
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)  # (h * w, 6)
    targets = values.ravel()
    surface = np.full_like(targets, np.median(targets))
    for _ in range(FIT_ITERATIONS):
        weights = 1 / np.sqrt(np.maximum(np.abs(targets - surface), 1))
        solution = np.linalg.lstsq(terms * weights[:, None], targets * weights, rcond=None)[0]
        surface = terms @ solution
    return surface.reshape(values.shape)
