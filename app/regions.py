"""Connected regions of pixels, their boxes and convex hulls.

Boxes are pairs of slices, rows and columns, as scipy.ndimage.find_objects returns them.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import ConvexHull

from app.array_types import Mask

Box = tuple[slice, slice]

# A convex region drawn by hand fills at least this fraction of its convex hull, and an upright
# rectangle of its box.
MIN_FILLED_FRACTION = 0.91
# Minimum longer side of the writing in a page or frame, as a fraction of its shorter side.
MIN_WRITING_FRACTION = 0.2


class Region:
    """Connected pixels of a picture.

    Attributes:
        mask: bool of shape (h, w), True for the pixels of the region.
        box: position of the mask in the picture; the region touches all four sides of it.
    """

    def __init__(self, mask: Mask, box: Box) -> None:
        self.mask, self.box = mask, box

    @cached_property
    def filled(self) -> Mask:
        """The mask without its holes."""
        return np.asarray(ndimage.binary_fill_holes(self.mask))

    @cached_property
    def hull(self) -> ConvexHull:
        """Convex hull of the corners of all pixels, as (row, column)."""
        rows = np.flatnonzero(self.filled.any(axis=1))
        left = self.filled[rows].argmax(axis=1)
        right = self.filled.shape[1] - self.filled[rows, ::-1].argmax(axis=1)
        corners = [
            (y, x)
            for row, *ends in zip(rows, left, right, strict=True)
            for y in (row, row + 1)
            for x in ends
        ]
        return ConvexHull(corners)

    @property
    def is_convex(self) -> bool:
        return bool(self.filled.sum() >= MIN_FILLED_FRACTION * self.hull.volume)

    @property
    def is_rectangle(self) -> bool:
        """Whether it is upright and rectangular, without regard to holes."""
        return bool(self.filled.mean() >= MIN_FILLED_FRACTION)


def border(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The outermost values of an array of shape (h, w)."""
    return np.concatenate([values[0], values[-1], values[1:-1, 0], values[1:-1, -1]])


def length(span: slice) -> int:
    return int(span.stop - span.start)


def longest_side(box: Box) -> int:
    return max(map(length, box))


def is_within(inner: Box, outer: Box) -> bool:
    return all(o.start <= i.start and i.stop <= o.stop for i, o in zip(inner, outer, strict=True))


def enclosing_box(boxes: Sequence[Box]) -> Box:
    """The smallest box that contains all boxes."""
    rows, columns = (
        slice(min(span.start for span in spans), max(span.stop for span in spans))
        for spans in zip(*boxes, strict=True)
    )
    return rows, columns


def to_picture_coordinates(inner: Box, outer: Box) -> Box:
    """Converts a box relative to an outer box to a box in the picture."""
    rows, columns = (
        slice(outer_span.start + span.start, outer_span.start + span.stop)
        for outer_span, span in zip(outer, inner, strict=True)
    )
    return rows, columns


def gap(first: slice, second: slice) -> int:
    """Number of pixels between two spans; negative if they overlap."""
    return int(max(first.start, second.start) - min(first.stop, second.stop))


def overlap(first: slice, second: slice) -> float:
    """Fraction of the shorter span that lies in the other one."""
    return max(0, -gap(first, second)) / min(length(first), length(second))
