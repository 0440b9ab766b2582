"""Frames around digits, and tables of them, whose lines the digits may touch."""

import numpy as np
from scipy import ndimage

from app.mnist_form import Mask
from app.regions import WRITING, Box, Region, longest_side, moved

# Of its box: lines fill less, and the outline of a frame more, unlike that of a 0.
HOLLOW = 0.6
SQUARE = 0.9
# A frame's line ends where this share of what lies as deep all around is paper. Of the frame's
# shorter side, it is no broader than this.
CLEAR = 0.7
PEN = 0.15
# A line that parts cells is ink for this share of its length.
LINE = 0.9
# Of the largest cell: smaller ones are what is left beside uneven lines.
CELL = 0.2


def framed(region: Region, ink: Mask) -> list[tuple[Box, Mask]]:
    """The inside of a frame, or the cells of a table, which what is in them may touch.

    Args:
        region: the frame and what touches it.
        ink: bool of the region's shape, with all that is as dark, or as bright, as the frame.

    Returns:
        Outlines and their boxes; none where the region is no frame.
    """
    mask, filled = region.mask, region.filled
    if mask.mean() >= HOLLOW or filled.mean() < SQUARE or not region.is_convex:
        return []
    depth = np.ceil(ndimage.distance_transform_edt(np.pad(filled, 1))[1:-1, 1:-1]).astype(int)
    paper, all_ = (np.bincount(depth[each])[1:] for each in (filled & ~mask, filled))
    clear = np.flatnonzero(paper >= CLEAR * all_[: len(paper)])
    if not clear.size or clear[0] > PEN * min(mask.shape):
        return []
    inside = depth > clear[0]
    # Lines from side to side part cells.
    lines = [
        (inside & mask).sum(axis=axis, keepdims=True) > LINE * inside.sum(axis=axis, keepdims=True)
        for axis in (0, 1)
    ]
    inside &= ~(lines[0] | lines[1])
    pieces, _ = ndimage.label(inside & ink)
    sides = map(longest_side, ndimage.find_objects(pieces))
    if max(sides, default=0) < WRITING * min(mask.shape):
        return []
    cells, _ = ndimage.label(inside)
    boxes = ndimage.find_objects(cells)
    least = CELL * max(cells[each].size for each in boxes)
    return [
        (moved(each, region.box), cells[each] == number)
        for number, each in enumerate(boxes, 1)
        if cells[each].size >= least
    ]
