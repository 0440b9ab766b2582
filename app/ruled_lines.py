"""Removal of the lines of ruled and squared paper."""

import numpy as np
from scipy import ndimage

from app.array_types import Float32, Mask
from stages.common.errors import UserError

# A ruled line is dark on at least this fraction of its straight path, and also of the first and
# the last tenth of the path: unlike a 1, it reaches both sides of the picture.
MIN_LINE_COVERAGE = 0.7
# Paper has at least this many parallel lines. A margin may be a single line across these.
MIN_LINES = 3
# Only strokes up to about this width may be ruled lines, as a fraction of the picture's shorter
# side. The bars of a large angular digit are wider.
MAX_LINE_WIDTH = 1 / 30
# At least this fraction of a line is thin; the rest may be crossed by writing.
MIN_THIN_FRACTION = 0.5
# Percentile of the runs of thin pixels across the lines. The longest run is a stroke that crosses.
LINE_WIDTH_PERCENTILE = 90
# Angles of a line to the border, in pixels of offset per pixel of length: 3 degrees.
MAX_TILT = 0.05
MAX_SAMPLED_COLUMNS = 250  # more would take half a second for a noisy picture
# Pixels with less than this fraction of the largest contrast are not searched for lines.
MIN_LINE_CONTRAST = 0.15
# Maximum contrast of the lines, as a fraction of the median contrast of what is above it. If it is
# larger, what remains is probably pieces of lines, such as the joints of a brick wall.
MAX_LINE_TO_WRITING = 0.9
# Structuring element: one pixel above and below. A line drawn one pixel wide may be a pixel beside
# its straight path.
ROW_NEIGHBOURS = np.ones((3, 1), dtype=bool)


def remove_ruled_lines(contrast: Float32) -> Float32:
    """Removes the lines of the paper, except where writing crosses them.

    A morphological opening across the lines removes what is as thin as they are, and keeps a stroke
    that crosses a line.

    Args:
        contrast: to the background, float32 of shape (h, w), positive where there is writing.

    Returns:
        float32 of shape (h, w).

    Raises:
        UserError: no writing has clearly more contrast than the lines.
    """
    threshold = MIN_LINE_CONTRAST * contrast.max()
    # An opening removes what is narrower than its size.
    max_size = 2 + round(MAX_LINE_WIDTH * min(contrast.shape))
    found = []
    for view in (contrast, contrast.T):
        is_thin = view - ndimage.grey_opening(view, size=(max_size, 1)) > threshold
        found.append((is_thin, *find_nearly_horizontal_lines(view > threshold, is_thin)))
    if max(count for *_, count in found) < MIN_LINES:
        return contrast
    without_lines = contrast.copy()
    line_contrast = 0.0
    for target, (is_thin, lines, _) in zip((without_lines, without_lines.T), found, strict=True):
        if lines.any():
            line_contrast = max(line_contrast, float(np.median(target[lines & is_thin])))
            size = 1 + line_width(lines, is_thin)
            target[lines] = ndimage.grey_opening(target, size=(size, 1))[lines]
    writing = without_lines[without_lines > line_contrast]
    if not writing.size or line_contrast > MAX_LINE_TO_WRITING * np.median(writing):
        raise UserError("no writing stands out from the lines; use a bolder pen or plain paper")
    return without_lines


def line_width(lines: Mask, is_thin: Mask) -> int:
    """Width of the lines in pixels: a percentile of the vertical runs of thin pixels in them."""
    runs, _ = ndimage.label(is_thin, structure=[[0, 1, 0]] * 3)
    lengths = np.bincount(runs.ravel())
    return int(np.percentile(lengths[runs[lines & is_thin]], LINE_WIDTH_PERCENTILE))


def find_nearly_horizontal_lines(is_dark: Mask, is_thin: Mask) -> tuple[Mask, int]:
    """Finds lines from side to side by a Hough transform.

    Args:
        is_dark: pixels of lines and writing, bool of shape (h, w).
        is_thin: pixels of narrow strokes, bool of shape (h, w): an opening across the lines removes
            much of their contrast.

    Returns:
        The pixels of the lines, bool of shape (h, w), and the number of lines.
    """
    height, width = is_dark.shape
    columns = np.arange(width) - width // 2
    sampled = slice(None, None, -(-width // MAX_SAMPLED_COLUMNS))
    dark, thin = (ndimage.binary_dilation(each, ROW_NEIGHBOURS) for each in (is_dark, is_thin))
    y, x = np.nonzero(dark[:, sampled])
    x = columns[sampled][x]
    max_shift = int(MAX_TILT * width / 2)
    tilts = np.arange(-max_shift, max_shift + 1) / max(1, width / 2)
    counts = np.empty((len(tilts), height), dtype=np.int64)  # pixels of each line
    for index, tilt in enumerate(tilts):
        rows = np.rint(y - tilt * x).astype(np.int32)  # at which the line crosses the middle
        counts[index] = np.bincount(rows[(rows >= 0) & (rows < height)], minlength=height)
    is_line = counts.max(axis=0) >= MIN_LINE_COVERAGE * len(columns[sampled])
    lines = np.zeros_like(dark)
    tenth = -(-width // 10)
    for row in np.flatnonzero(is_line):
        rows = np.rint(row + tilts[counts[:, row].argmax()] * columns).astype(int)
        inside = (rows >= 0) & (rows < height)
        path = rows[inside], np.flatnonzero(inside)
        on_path = dark[path]
        has_ends = min(on_path[:tenth].mean(), on_path[-tenth:].mean()) >= MIN_LINE_COVERAGE
        is_line[row] = has_ends and thin[path].mean() >= MIN_THIN_FRACTION
        if is_line[row]:
            lines[path] = True
    # One line may be found in several rows, with up to four others between them.
    _, count = ndimage.label(ndimage.binary_dilation(is_line, iterations=2))
    return np.asarray(ndimage.binary_dilation(lines, ROW_NEIGHBOURS)), int(count)
