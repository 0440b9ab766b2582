"""Regions of pixels: their boxes, borders and convex hulls."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import ConvexHull

from app.mnist_form import Mask

Box = tuple[slice, slice]

# Of its convex hull: what a convex region drawn by hand fills at least.
CONVEX = 0.93
# Of the shorter side of a sheet or a frame: what is written in it is at least so high or wide.
WRITING = 0.2


def border(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The outermost values of an array of shape (h, w)."""
    return np.concatenate([values[0], values[-1], values[1:-1, 0], values[1:-1, -1]])


def within(inner: Box, outer: Box) -> bool:
    return all(o.start <= i.start and i.stop <= o.stop for i, o in zip(inner, outer, strict=True))


def moved(inner: Box, box: Box) -> Box:
    """A box in a box, as a box in the whole picture."""
    rows, columns = (
        slice(start.start + span.start, start.start + span.stop)
        for start, span in zip(box, inner, strict=True)
    )
    return rows, columns


def is_convex(mask: Mask) -> bool:
    return bool(mask.sum() >= CONVEX * hull(mask).volume)


def hull(mask: Mask) -> ConvexHull:
    """The convex hull of a mask's pixels, whose corners are (row, column)."""
    rows = np.flatnonzero(mask.any(axis=1))
    left = mask[rows].argmax(axis=1)
    right = mask.shape[1] - mask[rows, ::-1].argmax(axis=1)
    corners = [
        (y, x)
        for row, *ends in zip(rows, left, right, strict=True)
        for y in (row, row + 1)
        for x in ends
    ]
    return ConvexHull(corners)
