"""Regions of pixels: their boxes, borders and convex hulls."""

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import ConvexHull

from app.mnist_form import Mask

Box = tuple[slice, slice]

# Of its convex hull: what a convex region drawn by hand fills at least.
CONVEX = 0.93
# Of the shorter side of a sheet or a frame: what is written in it is at least so high or wide.
WRITING = 0.2


class Region:
    """Connected pixels of a picture.

    Attributes:
        mask: bool of shape (h, w), which they fill from side to side.
        box: where in the picture that is.
    """

    def __init__(self, mask: Mask, box: Box) -> None:
        self.mask, self.box = mask, box

    @cached_property
    def filled(self) -> Mask:
        """The mask without its holes."""
        return np.asarray(ndimage.binary_fill_holes(self.mask))

    @cached_property
    def hull(self) -> ConvexHull:
        """The convex hull of the pixels, whose corners are (row, column)."""
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
        return bool(self.filled.sum() >= CONVEX * self.hull.volume)


def border(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The outermost values of an array of shape (h, w)."""
    return np.concatenate([values[0], values[-1], values[1:-1, 0], values[1:-1, -1]])


def length(span: slice) -> int:
    return int(span.stop - span.start)


def longest_side(box: Box) -> int:
    return max(map(length, box))


def within(inner: Box, outer: Box) -> bool:
    return all(o.start <= i.start and i.stop <= o.stop for i, o in zip(inner, outer, strict=True))


def moved(inner: Box, box: Box) -> Box:
    """A box in a box, as a box in the whole picture."""
    rows, columns = (
        slice(start.start + span.start, start.start + span.stop)
        for start, span in zip(box, inner, strict=True)
    )
    return rows, columns
