"""The digits in a picture, from left to right: pieces of ink, put together."""

import contextlib
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from app.frames import framed
from app.ink import Ink, amount, around, at_border, ink
from app.mnist_form import BOX, UInt8, fitted, mnist_image, stroke
from app.regions import WRITING, Box, Region, length, within
from app.sheets import SOLID, against_page, sheet, sheets
from stages.edges.bad_input import BadInput

# Of the height of the higher of two pieces: a lower one is a part of its digit, as a dash is.
DASH = 0.25
# Of the same: two pieces, both at least so high, are digits beside each other if they share
# so many rows.
BODY = 0.5
# Of the width of the narrower one: pieces above each other share so many columns.
ABOVE = 0.3
# Of the height of the higher one: the pieces of a digit are no farther apart, and pieces as
# near as a crack are always one digit's.
NEAR = 0.4
CRACK = 0.08
# Pixels of the longer side: pictures up to the one, as people export them, are enlarged to
# nearly the other.
SMALL = 28
ENLARGED = 112
# At most one of 1,000 training digits is wider than this share of its height, and at most one has
# broader strokes than this, in pixels of the 20x20 box.
WIDEST = 2.2
BROADEST = 8


class Digit(NamedTuple):
    """A digit and its place: `box` is left, top, right, bottom in pixels of the picture."""

    box: tuple[int, int, int, int]
    image: UInt8  # (28, 28), ink towards 255 on 0

    def moved(self, x: int, y: int) -> Self:
        left, top, right, bottom = self.box
        return self._replace(box=(left + x, top + y, right + x, bottom + y))

    def reduced(self, factor: int) -> Self:
        left, top, right, bottom = self.box
        ends = -(-right // factor), -(-bottom // factor)
        return self._replace(box=(left // factor, top // factor, *ends))


def digits(grey: UInt8) -> list[Digit]:
    """The digits in a picture, from left to right.

    Args:
        grey: luminance, uint8 of shape (h, w), of one digit or a row of them: dark on light or
            light on dark, anywhere in the frame, under light that need not be even.

    Returns:
        At least one.

    Raises:
        BadInput: there is no ink, or digits cannot be told apart.
    """
    if max(grey.shape) <= SMALL:
        # Pixels as large as strokes do not show what belongs together; a smooth picture does.
        factor = ENLARGED // max(grey.shape)
        size = (factor * grey.shape[1], factor * grey.shape[0])
        large = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC))
        return [digit.reduced(factor) for digit in digits(large)]
    try:
        found = ink(grey)
        result = read(found)
        if not is_strange(found, grey):
            return result
    except BadInput as problem:
        # Not the exception: it would hold this frame, which would hold it, with the whole picture.
        result, reason = [], str(problem)
    inside: list[Digit] = []
    for part in sheets(grey):
        with contextlib.suppress(BadInput):
            inside += [digit.moved(part.left, part.top) for digit in digits(part.grey)]
    if not (inside or result):
        raise BadInput(reason)
    return sorted(inside or result, key=lambda digit: digit.box[0] + digit.box[2])


def is_strange(found: Ink, grey: UInt8) -> bool:
    """Whether ink may be none: it touches the border, is most of it, or is or encloses a sheet."""
    pieces, boxes = found.pieces, found.boxes
    inked = np.count_nonzero(pieces)
    if at_border(pieces) or inked > SOLID * pieces.size:
        return True
    contrast = against_page(grey)
    for number, box in enumerate(boxes, 1):
        piece = Region(pieces[box] == number, box)
        if piece.mask.sum() > inked / 2 and (
            sheet(piece, contrast) is not None or framed(piece, pieces[box] > 0)
        ):
            return True
        inner = [each for each in boxes if each != box and within(each, box)]
        if any(length(rows) > WRITING * length(box[0]) for rows, _ in inner):
            return True
    return False


def read(found: Ink) -> list[Digit]:
    """The digits that pieces of ink make, from left to right."""
    result: list[Digit] = []
    groups = together(found.pieces, found.boxes)
    noise = 0
    for numbers in groups:
        rows, columns = around([found.boxes[number - 1] for number in numbers])
        try:
            part = amount(found, numbers)
        except BadInput as problem:
            noise += 1
            reason = str(problem)
            continue
        if stroke(fitted(part, 4 * BOX)) > 4 * BROADEST:
            reason = "what stands out is a patch, no stroke; light it evenly, or crop to the digit"
            continue
        if length(columns) > WIDEST * length(rows):
            raise BadInput("digits that touch cannot be told apart; leave a gap between them")
        box = (columns.start, rows.start, columns.stop, rows.stop)
        result.append(Digit(box, mnist_image(part)))
    # Where most of what stands out is noise, such as a paper's texture, so is the rest.
    if not result or noise > len(groups) / 2:
        raise BadInput(reason)
    return sorted(result, key=lambda digit: digit.box[0] + digit.box[2])


def together(pieces: npt.NDArray[np.int32], boxes: list[Box]) -> list[list[int]]:
    """Which pieces of ink make a digit each: lists of their numbers."""
    groups = np.arange(len(boxes))
    for a in range(len(boxes)):
        for b in range(a):
            if one_digit(boxes[a], boxes[b]) or is_crack(pieces, boxes, a, b):
                groups[groups == groups[a]] = groups[b]
    return [(np.flatnonzero(groups == group) + 1).tolist() for group in np.unique(groups)]


def one_digit(one: Box, other: Box) -> bool:
    """Whether two pieces in these boxes lie as the pieces of one digit do."""
    low, high = sorted((one, other), key=lambda box: length(box[0]))
    height = length(high[0])
    if max(gap(low[0], high[0]), gap(low[1], high[1])) > NEAR * height:
        return False
    if length(low[0]) < DASH * height:
        return True
    if length(low[0]) >= BODY * height and shared(low[0], high[0]) >= BODY:
        return False
    return shared(low[1], high[1]) >= ABOVE


def is_crack(pieces: npt.NDArray[np.int32], boxes: list[Box], a: int, b: int) -> bool:
    """Whether no more than a crack parts two pieces."""
    (rows, columns), (other_rows, other_columns) = boxes[a], boxes[b]
    crack = max(2, CRACK * max(length(rows), length(other_rows)))
    if max(gap(rows, other_rows), gap(columns, other_columns)) > crack:
        return False
    top, left = min(rows.start, other_rows.start), min(columns.start, other_columns.start)
    both = pieces[
        top : max(rows.stop, other_rows.stop), left : max(columns.stop, other_columns.stop)
    ]
    distance = ndimage.distance_transform_edt(both != a + 1)
    return bool(distance[both == b + 1].min() <= crack)


def gap(one: slice, other: slice) -> int:
    """The pixels between two spans; below 0 where they overlap."""
    return int(max(one.start, other.start) - min(one.stop, other.stop))


def shared(one: slice, other: slice) -> float:
    """Of the shorter of two spans, the share that lies in the other."""
    return max(0, -gap(one, other)) / min(length(one), length(other))
