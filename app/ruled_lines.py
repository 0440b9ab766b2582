"""Removal of the lines of ruled and squared paper."""

import numpy as np
from scipy import ndimage

from app.array_types import Float32, Mask

# A ruled line covers at least this fraction of a straight path through the picture.
MIN_LINE_COVERAGE = 0.7
# Paper has at least this many parallel lines. A digit has fewer straight strokes of this length.
MIN_LINES = 3
# The lines cover at most this fraction of the paper. Strokes of a digit that fills it cover more.
MAX_LINE_AREA = 0.2
# Angles of a line to the border, in pixels of offset per pixel of length: 3 degrees.
MAX_TILT = 0.05
MAX_SAMPLED_COLUMNS = 250  # more would take half a second for a noisy picture
# Pixels with less than this fraction of the largest contrast are not searched for lines.
MIN_LINE_CONTRAST = 0.15
# Lines have at most this fraction of it. Darker ones are a table's or strokes of a digit.
MAX_LINE_CONTRAST = 0.6
# Writing on a line has at least this multiple of the line's contrast, which varies along the line.
MIN_WRITING_TO_LINE = 1.3


def remove_ruled_lines(contrast: Float32) -> Float32:
    """Sets the lines of the paper to 0, except where writing crosses them.

    Args:
        contrast: to the background, float32 of shape (h, w), positive where there is writing.

    Returns:
        float32 of shape (h, w).
    """
    without_lines = contrast.copy()
    for source, target in ((contrast, without_lines), (contrast.T, without_lines.T)):
        lines = nearly_horizontal_lines(source > MIN_LINE_CONTRAST * source.max())
        level = np.median(source[lines]) if lines.any() else 0
        if 0 < level <= MAX_LINE_CONTRAST * source.max():
            lines = ndimage.binary_dilation(lines, np.ones((5, 1), dtype=bool))
            target[lines & (source < MIN_WRITING_TO_LINE * level)] = 0
    return without_lines


def nearly_horizontal_lines(mask: Mask) -> Mask:
    """Finds lines from side to side by a Hough transform.

    Args:
        mask: pixels that may belong to a line, bool of shape (h, w).

    Returns:
        The pixels of at least MIN_LINES lines, bool of shape (h, w), or none.
    """
    height, width = mask.shape
    lines = np.zeros_like(mask)
    columns = np.arange(width) - width // 2
    sampled = slice(None, None, -(-width // MAX_SAMPLED_COLUMNS))
    y, x = np.nonzero(mask[:, sampled])
    x = columns[sampled][x]
    max_shift = int(MAX_TILT * width / 2)
    tilts = np.arange(-max_shift, max_shift + 1) / max(1, width / 2)
    counts = np.empty((len(tilts), height), dtype=np.int64)  # pixels of each line
    for index, tilt in enumerate(tilts):
        rows = np.rint(y - tilt * x).astype(np.int32)  # at which the line crosses the middle
        counts[index] = np.bincount(rows[(rows >= 0) & (rows < height)], minlength=height)
    is_line = counts.max(axis=0) >= MIN_LINE_COVERAGE * len(columns[sampled])
    if ndimage.label(is_line)[1] < MIN_LINES or is_line.mean() > MAX_LINE_AREA:
        return lines
    for row in np.flatnonzero(is_line):
        rows = np.rint(row + tilts[counts[:, row].argmax()] * columns).astype(int)
        inside = (rows >= 0) & (rows < height)
        lines[rows[inside], np.flatnonzero(inside)] = True
    return lines
