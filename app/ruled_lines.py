"""Removal of the lines of ruled and squared paper."""

import numpy as np
from scipy import ndimage

from app.array_types import Float32, Mask
from stages.common.errors import UserError

# A ruled line covers at least this fraction of a straight path through the picture.
MIN_LINE_COVERAGE = 0.7
# Paper has at least this many parallel lines. A digit has fewer straight strokes of this length.
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
LINE_NEIGHBOURHOOD = np.ones((3, 1), dtype=bool)


def remove_ruled_lines(contrast: Float32) -> Float32:
    """Removes the lines of the paper, except where writing crosses them.

    A morphological opening across the lines removes what is thin there, and keeps a stroke that
    crosses a line.

    Args:
        contrast: to the background, float32 of shape (h, w), positive where there is writing.

    Returns:
        float32 of shape (h, w).

    Raises:
        UserError: the lines are as dark as the writing.
    """
    without_lines = contrast.copy()
    level = 0.0
    for target in (without_lines, without_lines.T):
        width = 2 + round(MAX_LINE_WIDTH * min(target.shape))
        opened = ndimage.grey_opening(target, size=(width, 1))
        is_thin = target - opened > MIN_LINE_CONTRAST * target.max()
        lines = nearly_horizontal_lines(is_thin)
        if lines.any():
            level = max(level, float(np.median(target[lines & is_thin])))
            target[lines] = opened[lines]
    if level > 0:
        darker = without_lines[without_lines > level]
        if not darker.size or level > MAX_LINE_TO_WRITING * np.median(darker):
            raise UserError("the lines are as dark as the writing; use a darker pen or plain paper")
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
    y, x = np.nonzero(ndimage.binary_dilation(mask[:, sampled], LINE_NEIGHBOURHOOD))
    x = columns[sampled][x]
    max_shift = int(MAX_TILT * width / 2)
    tilts = np.arange(-max_shift, max_shift + 1) / max(1, width / 2)
    counts = np.empty((len(tilts), height), dtype=np.int64)  # pixels of each line
    for index, tilt in enumerate(tilts):
        rows = np.rint(y - tilt * x).astype(np.int32)  # at which the line crosses the middle
        counts[index] = np.bincount(rows[(rows >= 0) & (rows < height)], minlength=height)
    is_line = counts.max(axis=0) >= MIN_LINE_COVERAGE * len(columns[sampled])
    if ndimage.label(is_line)[1] < MIN_LINES:
        return lines
    for row in np.flatnonzero(is_line):
        rows = np.rint(row + tilts[counts[:, row].argmax()] * columns).astype(int)
        inside = (rows >= 0) & (rows < height)
        lines[rows[inside], np.flatnonzero(inside)] = True
    return np.asarray(ndimage.binary_dilation(lines, LINE_NEIGHBOURHOOD))
