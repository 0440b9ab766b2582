"""Otsu's threshold between dark and bright pixels.

The same result as skimage.filters.threshold_otsu, without four more packages to install.
"""

import numpy as np

from app.array_types import UInt8


def otsu_threshold(levels: UInt8) -> int:
    """Returns the threshold with the largest variance between the classes.

    Source: N. Otsu, "A threshold selection method from gray-level histograms", IEEE SMC 9 (1979).

    Args:
        levels: grey levels, uint8 of any shape.

    Returns:
        The highest level of the dark class.
    """
    counts = np.bincount(levels.ravel(), minlength=256).astype(np.float64)
    dark_counts = np.cumsum(counts)[:-1]
    bright_counts = counts.sum() - dark_counts
    sums = np.cumsum(counts * np.arange(256))
    with np.errstate(invalid="ignore", divide="ignore"):  # a class may be empty
        variances = (sums[:-1] * counts.sum() - sums[-1] * dark_counts) ** 2 / (
            dark_counts * bright_counts
        )
    return int(np.nan_to_num(variances).argmax())
