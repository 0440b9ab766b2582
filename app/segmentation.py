"""Segmentation of a picture into rows of digits."""

import contextlib
import math
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np
from PIL import Image
from scipy import ndimage

from app import SIDE
from app.array_types import Labels, UInt8
from app.foreground import MAX_COMPONENTS, Foreground, coverage, find_foreground, labels_at_border
from app.frame_removal import frame_cells
from app.mnist_format import ENLARGEMENT, mnist_image, stroke_width_in_box
from app.page_detection import MIN_PAGE_FRACTION, contrast_to_border, find_pages, page_mask
from app.regions import (
    MIN_WRITING_FRACTION,
    Box,
    Region,
    enclosing_box,
    gap,
    is_within,
    length,
    overlap,
)
from stages.common.errors import UserError

# A picture is read in a page in a page in a page, such as a cell of a table on a sheet on a desk.
MAX_PAGE_DEPTH = 3
# The boxes of digits hardly overlap. Their areas add up to at most this multiple of the picture.
MAX_BOX_AREA = 4

# Two components are parts of one digit if the distance between them is at most MAX_CRACK, or if
# one lies above the other and their gap is at most MAX_CRACK. The gap may be MAX_DASH if the
# shorter one is a dash, with a height of less than MAX_DASH. Both are fractions of the height of
# the taller one.
MAX_CRACK = 0.08
MAX_DASH = 0.5
# Components above each other share at least this fraction of the columns of the narrower one, and
# neighbours in a row of digits at least this fraction of the rows of the shorter one.
MIN_OVERLAP = 0.3

# Width by height. 99.9% of the training digits are narrower.
MAX_ASPECT_RATIO = 2.2
# Separate strokes plus enclosed areas. 99.9% of the training digits have at most this many;
# textures have more.
MAX_STROKES_AND_HOLES = 5
# In pixels of the 20x20 box. 99.9% of the training digits have thinner strokes.
MAX_STROKE_WIDTH_PX = 8


class Digit(NamedTuple):
    """A digit in a picture.

    Attributes:
        box: left, top, right and bottom, in pixels of the picture.
        image: uint8 of shape (28, 28), bright strokes on 0.
    """

    box: tuple[int, int, int, int]
    image: UInt8

    def center(self) -> float:
        """Horizontal position."""
        left, _, right, _ = self.box
        return (left + right) / 2

    def span(self) -> slice:
        """Rows of pixels."""
        return slice(self.box[1], self.box[3])

    def moved(self, x: int, y: int) -> Self:
        left, top, right, bottom = self.box
        return self._replace(box=(left + x, top + y, right + x, bottom + y))

    def reduced(self, factor: int) -> Self:
        left, top, right, bottom = self.box
        ends = -(-right // factor), -(-bottom // factor)
        return self._replace(box=(left // factor, top // factor, *ends))


def find_rows(grey: UInt8) -> list[list[Digit]]:
    """Finds the digits in a picture.

    Args:
        grey: luminance, uint8 of shape (h, w), of one digit or rows of digits: dark on light or
            light on dark, anywhere in the picture, in even or uneven light.

    Returns:
        Rows from top to bottom, each of one or more digits from left to right.

    Raises:
        UserError: there is no digit, digits touch each other, the marks are a texture or not in
            rows, or no writing stands out from ruled lines.
    """
    rows: list[list[Digit]] = []
    for digit in sorted(find_digits(grey), key=Digit.center):
        # A row may be slanted, so the digit is compared with the last one of each row.
        overlaps = [overlap(digit.span(), row[-1].span()) for row in rows]
        if max(overlaps, default=0) < MIN_OVERLAP:
            rows.append([digit])
        else:
            rows[int(np.argmax(overlaps))].append(digit)
    spans = sorted(
        (min(digit.box[1] for digit in row), max(digit.box[3] for digit in row), index)
        for index, row in enumerate(rows)
    )
    for (*upper, _), (*lower, _) in pairwise(spans):
        if overlap(slice(*upper), slice(*lower)) >= MIN_OVERLAP:
            raise UserError("the marks are not in rows; crop to one row of digits")
    return [rows[index] for *_, index in spans]


def find_digits(grey: UInt8, depth: int = 0) -> list[Digit]:
    """Finds the digits in a picture, in no order; see `find_rows`.

    Args:
        grey: of a picture or of a page in it.
        depth: number of pages around this one.
    """
    factor = ENLARGEMENT * SIDE // max(grey.shape)
    if factor > 1:
        # The parts of a digit can be one pixel apart in a picture of at most 56 pixels a side.
        # Interpolation keeps them together.
        size = (factor * grey.shape[1], factor * grey.shape[0])
        enlarged = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC))
        return [digit.reduced(factor) for digit in find_digits(enlarged, depth)]
    foreground: Foreground | str
    try:
        foreground = find_foreground(grey)
        if not may_be_page(foreground, grey):
            return segment(foreground)
    except UserError as problem:
        # The exception itself would keep the arrays of this call in memory by its traceback.
        foreground = str(problem)
    digits: list[Digit] = []
    pages = find_pages(grey) if depth < MAX_PAGE_DEPTH else []
    for page in pages[:MAX_COMPONENTS]:
        with contextlib.suppress(UserError):
            digits += [
                digit.moved(page.left, page.top) for digit in find_digits(page.grey, depth + 1)
            ]
    if digits:
        return digits
    if isinstance(foreground, str):
        raise UserError(foreground)
    return segment(foreground)


def digit_images(rows: list[list[Digit]]) -> UInt8:
    """The images of all digits, row by row, uint8 of shape (n, 28, 28)."""
    return np.stack([digit.image for row in rows for digit in row])


def may_be_page(foreground: Foreground, grey: UInt8) -> bool:
    """Whether the foreground may be a page or a frame instead of writing.

    This is so if it touches the border, covers most of the picture, or if a component looks like a
    page or a frame or contains others.
    """
    labels, boxes = foreground.labels, foreground.boxes
    area = np.count_nonzero(labels)
    if labels_at_border(labels) or area > MIN_PAGE_FRACTION * labels.size:
        return True
    contrast = contrast_to_border(grey)
    for label, box in enumerate(boxes, 1):
        component = Region(labels[box] == label, box)
        if component.mask.sum() > area / 2 and (
            page_mask(component, contrast) is not None or frame_cells(component, labels[box] > 0)
        ):
            return True
        inner = [other for other in boxes if other != box and is_within(other, box)]
        if any(length(rows) > MIN_WRITING_FRACTION * length(box[0]) for rows, _ in inner):
            return True
    return False


def segment(foreground: Foreground) -> list[Digit]:
    """Groups the components of the foreground to digits.

    Raises:
        UserError: no group is a digit, most groups are noise, one is a texture, or digits touch.
    """
    box_area = sum(math.prod(map(length, box)) for box in foreground.boxes)
    if box_area > MAX_BOX_AREA * foreground.labels.size:
        raise UserError("marks lie within or across each other; crop to the digits")
    digits: list[Digit] = []
    groups = group_components(foreground.labels, foreground.boxes)
    noise_groups = 0
    for components in groups:
        rows, columns = enclosing_box([foreground.boxes[label - 1] for label in components])
        try:
            digit = coverage(foreground, components)
        except UserError as problem:
            noise_groups += 1
            message = str(problem)
            continue
        if stroke_width_in_box(digit) > MAX_STROKE_WIDTH_PX:
            message = "the strokes are too broad for a digit; use even light, or crop to the digit"
            continue
        if length(columns) > MAX_ASPECT_RATIO * length(rows):
            raise UserError("digits that touch cannot be separated; leave a gap between them")
        image = mnist_image(digit)
        if count_strokes_and_holes(image) > MAX_STROKES_AND_HOLES:
            raise UserError("the marks are a texture, not digits; crop to the digits")
        digits.append(Digit((columns.start, rows.start, columns.stop, rows.stop), image))
    # If most groups are noise, such as the texture of paper, the others are probably noise, too.
    if not digits or noise_groups > len(groups) / 2:
        raise UserError(message)
    return digits


def count_strokes_and_holes(image: UInt8) -> int:
    """Number of separate strokes of an image, uint8 (28, 28), and of areas that they enclose."""
    is_stroke = image > 255 / 3  # a thin stroke covers a part of each pixel
    _, strokes = ndimage.label(is_stroke, structure=np.ones((3, 3)))
    _, background_areas = ndimage.label(np.pad(~is_stroke, 1, constant_values=True))
    return int(strokes + background_areas) - 1


def group_components(labels: Labels, boxes: list[Box]) -> list[list[int]]:
    """Groups components that are parts of one digit; returns the labels of each group."""
    groups = np.arange(len(boxes))
    for a in range(len(boxes)):
        for b in range(a):
            if groups[a] != groups[b] and (
                is_one_digit(boxes[a], boxes[b]) or is_cracked(labels, boxes, a, b)
            ):
                groups[groups == groups[a]] = groups[b]
    return [(np.flatnonzero(groups == group) + 1).tolist() for group in np.unique(groups)]


def is_one_digit(first: Box, second: Box) -> bool:
    """Whether two components are parts of one digit, by their boxes."""
    shorter, taller = sorted((first, second), key=lambda box: length(box[0]))
    height = length(taller[0])
    is_dash = length(shorter[0]) < MAX_DASH * height
    max_gap = height * (MAX_DASH if is_dash else MAX_CRACK)
    if max(gap(shorter[0], taller[0]), gap(shorter[1], taller[1])) > max_gap:
        return False
    row_overlap, column_overlap = (overlap(*spans) for spans in zip(shorter, taller, strict=True))
    return column_overlap >= MIN_OVERLAP and (is_dash or column_overlap > row_overlap)


def is_cracked(labels: Labels, boxes: list[Box], a: int, b: int) -> bool:
    """Whether the distance between components a + 1 and b + 1 is at most a crack."""
    height = max(length(boxes[a][0]), length(boxes[b][0]))
    crack = max(2, math.ceil(MAX_CRACK * height))
    # The part of each component that is near enough to the other one.
    window = tuple(
        slice(max(0, max(p.start, q.start) - crack), min(p.stop, q.stop) + crack)
        for p, q in zip(boxes[a], boxes[b], strict=True)
    )
    near = labels[window]
    if not (near == a + 1).any() or not (near == b + 1).any():
        return False
    distance = ndimage.distance_transform_edt(near != a + 1)
    return bool(distance[near == b + 1].min() <= crack)
