"""Removal of the lines of ruled and squared paper."""

import numpy as np
from scipy import ndimage

from app.array_types import Float32, Mask
from stages.common.errors import UserError

# A ruled line is dark on at least this fraction of a straight path through the picture, and of the
# first and the last tenth of it: other than a 1, it goes from side to side.
MIN_LINE_COVERAGE = 0.7
# Paper has at least this many parallel lines. A margin may be a single line across these.
MIN_LINES = 3
# Strokes of a digit are wider than this fraction of the picture's shorter side, or not straight.
MAX_LINE_WIDTH = 1 / 30
# Angles of a line to the border, in pixels of offset per pixel of length: 3 degrees.
MAX_TILT = 0.05
MAX_SAMPLED_COLUMNS = 250  # more would take half a second for a noisy picture
# Pixels with less than this fraction of the largest contrast are not searched for lines.
MIN_LINE_CONTRAST = 0.15
# Writing is darker than the lines, which have at most this fraction of its contrast. Otherwise
# what is left are pieces of lines, such as the joints of a brick wall.
MAX_LINE_TO_WRITING = 0.9
# A line drawn one pixel wide is found at this distance from its straight path.
NEIGHBOURS = np.ones((3, 1), dtype=bool)


def remove_ruled_lines(contrast: Float32) -> Float32:
    """Removes the lines of the paper, except where writing crosses them.

    A morphological opening across the lines removes what is as thin as they are, and keeps a stroke
    that crosses a line.

    Args:
        contrast: to the background, float32 of shape (h, w), positive where there is writing.

    Returns:
        float32 of shape (h, w).

    Raises:
        UserError: the lines are as dark as the writing.
    """
    threshold = MIN_LINE_CONTRAST * contrast.max()
    max_width = 2 + round(MAX_LINE_WIDTH * min(contrast.shape))
    found = []
    for view in (contrast, contrast.T):
        is_thin = view - ndimage.grey_opening(view, size=(max_width, 1)) > threshold
        found.append((is_thin, *nearly_horizontal_lines(view > threshold, is_thin)))
    if max(count for *_, count in found) < MIN_LINES:
        return contrast
    without_lines = contrast.copy()
    level = 0.0
    for target, (is_thin, lines, _) in zip((without_lines, without_lines.T), found, strict=True):
        if lines.any():
            level = max(level, float(np.median(target[lines & is_thin])))
            size = 1 + line_width(lines, is_thin)
            target[lines] = ndimage.grey_opening(target, size=(size, 1))[lines]
    darker = without_lines[without_lines > level]
    if not darker.size or level > MAX_LINE_TO_WRITING * np.median(darker):
        raise UserError("the lines are as dark as the writing; use a darker pen or plain paper")
    return without_lines


def line_width(lines: Mask, is_thin: Mask) -> int:
    """Width in pixels of most of the lines: a percentile of the runs of thin pixels across them."""
    runs, _ = ndimage.label(is_thin, structure=[[0, 1, 0], [0, 1, 0], [0, 1, 0]])
    lengths = np.bincount(runs.ravel())
    return int(np.percentile(lengths[runs[lines & is_thin]], 90))


def nearly_horizontal_lines(is_dark: Mask, is_thin: Mask) -> tuple[Mask, int]:
    """Finds lines from side to side by a Hough transform.

    Args:
        is_dark: pixels of lines and writing, bool of shape (h, w).
        is_thin: those of them that no stroke wider than a line contains.

    Returns:
        The pixels of the lines, bool of shape (h, w), and the number of lines.
    """
    height, width = is_dark.shape
    columns = np.arange(width) - width // 2
    sampled = slice(None, None, -(-width // MAX_SAMPLED_COLUMNS))
    is_dark, is_thin = (ndimage.binary_dilation(each, NEIGHBOURS) for each in (is_dark, is_thin))
    y, x = np.nonzero(is_dark[:, sampled])
    x = columns[sampled][x]
    max_shift = int(MAX_TILT * width / 2)
    tilts = np.arange(-max_shift, max_shift + 1) / max(1, width / 2)
    counts = np.empty((len(tilts), height), dtype=np.int64)  # pixels of each line
    for index, tilt in enumerate(tilts):
        rows = np.rint(y - tilt * x).astype(np.int32)  # at which the line crosses the middle
        counts[index] = np.bincount(rows[(rows >= 0) & (rows < height)], minlength=height)
    is_line = counts.max(axis=0) >= MIN_LINE_COVERAGE * len(columns[sampled])
    lines = np.zeros_like(is_dark)
    tenth = -(-width // 10)
    for row in np.flatnonzero(is_line):
        rows = np.rint(row + tilts[counts[:, row].argmax()] * columns).astype(int)
        inside = (rows >= 0) & (rows < height)
        path = rows[inside], np.flatnonzero(inside)
        ends = is_dark[path][:tenth].mean(), is_dark[path][-tenth:].mean()
        is_line[row] = min(ends) >= MIN_LINE_COVERAGE and is_thin[path].mean() >= 0.5
        lines[path] |= is_line[row]
    # A line a few pixels wide is found in neighbouring rows.
    _, count = ndimage.label(ndimage.binary_dilation(is_line, iterations=2))
    return np.asarray(ndimage.binary_dilation(lines, NEIGHBOURS)), int(count)
