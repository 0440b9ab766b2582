"""Where in a picture the writing lies: on a sheet, in a box or in a frame."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull

from app.mnist_form import Mask, UInt8

Box = tuple[slice, slice]

# Of the longer side of a sheet: what lies so near to its edge is the edge.
MARGIN = 0.01
# A sheet is looked for in a picture of at most this longer side.
SIDE = 200
# The least that a sheet fills: of its convex hull, of its box, of the picture.
CONVEX = 0.93
SOLID = 0.6
LEAST = 0.05
# Of the picture: more is no part of it.
MOST = 0.97
# Of the shorter side of a sheet: what is written on it is at least so high or wide.
WRITING = 0.2
# What is round and has one convex hole is a 0 and no sheet, unless it fills this share of its box.
BOX = 0.9
# A sheet on which nothing is to be seen yet is a rectangle, and broad or most of the picture.
RECTANGLE = 0.97
BROAD = 0.4
MAIN = 0.5


class Sheet(NamedTuple):
    """A part of a picture, and where it begins."""

    top: int
    left: int
    grey: UInt8  # (h, w); outside the sheet's outline, the level of its paper


def sheets(grey: UInt8) -> list[Sheet]:
    """Looks for what lies around writing: a sheet or a box on a page, or the inside of a frame.

    Args:
        grey: luminance, uint8 of shape (h, w).

    Returns:
        Convex regions, brighter or darker than what is around them, with something in them.
    """
    scale = max(1, -(-max(grey.shape) // SIDE))
    height, width = (side // scale for side in grey.shape)
    if min(height, width) == 0:
        return []
    cells = grey[: height * scale, : width * scale].reshape(height, scale, width, scale)
    small = np.rint(cells.mean(axis=(1, 3))).astype(np.uint8)
    bright = small > otsu(small)
    found: list[tuple[Box, Mask]] = []
    for side in (bright, ~bright):
        regions, _ = ndimage.label(side)
        for number, box in enumerate(ndimage.find_objects(regions), 1):
            region = regions[box] == number
            if region.size >= LEAST * small.size and is_sheet(region, small.size):
                found.append((box, ndimage.binary_fill_holes(region)))
    found.sort(key=lambda each: -each[1].size)
    outermost = [
        a for place, a in enumerate(found) if not any(within(a[0], b[0]) for b in found[:place])
    ]
    return [cut_out(grey, scale, *each) for each in outermost]


def is_sheet(region: Mask, picture: int) -> bool:
    """Whether a region may be what something is written on.

    Args:
        region: bool of shape (h, w), a box that it fills from side to side.
        picture: the pixels of the whole picture.
    """
    filled = ndimage.binary_fill_holes(region)
    if filled.sum() > MOST * picture or filled.sum() < CONVEX * hull(filled):
        return False
    holes, _ = ndimage.label(filled & ~region)
    boxes = ndimage.find_objects(holes)
    sides = [max(span.stop - span.start for span in box) for box in boxes]
    if sides and max(sides) >= WRITING * min(region.shape):
        number = int(np.argmax(sides))
        hole = ndimage.binary_fill_holes(holes[boxes[number]] == number + 1)
        zero = hole.sum() >= CONVEX * hull(hole) and filled.mean() < BOX
        return bool(region.mean() >= SOLID and not zero)
    broad = min(region.shape) >= BROAD * max(region.shape)  # not the bar of a 1
    return bool(filled.mean() >= RECTANGLE and (broad or region.size >= MAIN * picture))


def within(inner: Box, outer: Box) -> bool:
    return all(o.start <= i.start and i.stop <= o.stop for i, o in zip(inner, outer, strict=True))


def cut_out(grey: UInt8, scale: int, box: Box, outline: Mask) -> Sheet:
    """The part of a picture inside an outline, which is `scale` times smaller."""
    rows, columns = (slice(s.start * scale, s.stop * scale) for s in box)
    part = grey[rows, columns].copy()
    # The edge itself is blurred.
    core = ndimage.binary_erosion(outline, iterations=1 + round(MARGIN * max(outline.shape)))
    core = np.kron(core, np.ones((scale, scale), dtype=bool))
    if core.any():
        part[~core] = np.median(part[core])
    return Sheet(rows.start, columns.start, part)


def otsu(levels: UInt8) -> int:
    """N. Otsu's threshold: the highest level of the darker of two classes.

    Of all thresholds it leaves the least variance within the classes.

    Source: "A threshold selection method from gray-level histograms", IEEE SMC 9 (1979).
    """
    counts = np.bincount(levels.ravel(), minlength=256).astype(np.float64)
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    sums = np.cumsum(counts * np.arange(256))
    with np.errstate(invalid="ignore", divide="ignore"):
        between = (sums[:-1] * counts.sum() - sums[-1] * below) ** 2 / (below * above)
    return int(np.nan_to_num(between).argmax())


def hull(mask: Mask) -> float:
    """The area of the convex hull of a mask's pixels."""
    rows = np.flatnonzero(mask.any(axis=1))
    left = mask[rows].argmax(axis=1)
    right = mask.shape[1] - mask[rows, ::-1].argmax(axis=1)
    corners = [
        (y, x)
        for row, *ends in zip(rows, left, right, strict=True)
        for y in (row, row + 1)
        for x in ends
    ]
    return float(ConvexHull(corners).volume)
