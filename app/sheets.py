"""Where in a picture the writing lies: on a sheet, in a box or in a frame."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from app.frames import framed
from app.mnist_form import Floats, Mask, UInt8
from app.regions import WRITING, Box, border, hull, is_convex, within

# Of the longer side of a sheet: what lies so near to its edge is the edge.
MARGIN = 0.01
# A sheet is looked for in a picture of at most this longer side.
SIDE = 200
# The least that a sheet fills: of its box, of the picture.
SOLID = 0.6
LEAST = 0.05
# Of the picture: more is no part of it.
MOST = 0.97
# What is round and has one convex hole is a 0 and no sheet, unless it fills this share of its box.
BOX = 0.9
# A sheet on which nothing is to be seen yet is a rectangle, and broad or most of the picture.
RECTANGLE = 0.97
BROAD = 0.4
MAIN = 0.5
# A stroke that touches the edge of its sheet is a notch there. Even so the sheet fills these shares
# of its convex hull, and that of its box.
NOTCHED = 0.7
SQUARE = 0.85
# Of the sheet's shorter side: such a notch is at least so long, and no broader.
LONG = 0.5
STROKE = 0.25
# Of the contrast that there is: the stroke is so far from the page.
STANDS_OUT = 0.3


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
    blocks = grey[: height * scale, : width * scale].reshape(height, scale, width, scale)
    small = np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)
    contrast = against_page(small)
    bright = small > otsu(small)
    regions = []
    for side in (bright, ~bright):
        numbers, _ = ndimage.label(side)
        for number, box in enumerate(ndimage.find_objects(numbers), 1):
            region = numbers[box] == number
            if region.size >= LEAST * small.size:
                regions.append((box, region, side[box]))
    found = [
        (box, outline)
        for box, region, _ in regions
        if (outline := sheet(region, box, contrast)) is not None
    ]
    for frame, region, ink in regions:
        cells = framed(region, ink, frame)
        others = [each for each in found if not within(each[0], frame)]
        if len(cells) >= max(1, len(found) - len(others)):
            found = others + cells
    found.sort(key=lambda each: -each[1].size)
    outermost = [
        a for place, a in enumerate(found) if not any(within(a[0], b[0]) for b in found[:place])
    ]
    return [cut_out(grey, scale, *each) for each in outermost]


def against_page(grey: UInt8) -> Floats:
    """How far each pixel is from what most of the picture's border is: float32 of shape (h, w)."""
    return np.asarray(grey - np.float32(np.median(border(grey))))


def sheet(region: Mask, box: Box, contrast: Floats) -> Mask | None:
    """The outline of what something may be written on.

    Args:
        region: bool of shape (h, w), a box that it fills from side to side.
        box: where that is.
        contrast: float32 of shape (H, W), the picture `against_page`.

    Returns:
        bool of shape (h, w), with all that is inside; None where the region is no sheet.
    """
    filled = ndimage.binary_fill_holes(region)
    if filled.sum() > MOST * contrast.size:
        return None
    if not is_convex(filled):
        lies_on_page = all(
            span.start > 0 and span.stop < side
            for span, side in zip(box, contrast.shape, strict=True)
        )
        return notched(filled, contrast[box]) if lies_on_page else None
    holes, _ = ndimage.label(filled & ~region)
    boxes = ndimage.find_objects(holes)
    sides = [max(span.stop - span.start for span in box) for box in boxes]
    if sides and max(sides) >= WRITING * min(region.shape):
        number = int(np.argmax(sides))
        hole = ndimage.binary_fill_holes(holes[boxes[number]] == number + 1)
        if is_convex(hole) and filled.mean() < BOX:
            return None
        return filled if region.mean() >= SOLID else None
    broad = min(region.shape) >= BROAD * max(region.shape)  # not the bar of a 1
    plain = filled.mean() >= RECTANGLE and (broad or region.size >= MAIN * contrast.size)
    return filled if plain else None


def notched(filled: Mask, contrast: Floats) -> Mask | None:
    """The outline of a sheet with writing that touches its edge; None where it is no such sheet.

    Args:
        filled: a region without holes, bool of shape (h, w).
        contrast: float32 of the same shape.
    """
    outline = Image.new("1", filled.shape[::-1])
    corners = hull(filled)
    vertices = corners.points[corners.vertices] - 0.5  # of the centres of pixels
    ImageDraw.Draw(outline).polygon([(x, y) for y, x in vertices], fill=1)
    whole = np.asarray(outline) | filled
    if filled.sum() < NOTCHED * whole.sum() or whole.mean() < SQUARE:
        return None
    notches, _ = ndimage.label(whole & ~filled)
    boxes = ndimage.find_objects(notches)
    sides = [max(span.stop - span.start for span in box) for box in boxes]
    notch = notches == int(np.argmax(sides)) + 1
    breadth = 2 * ndimage.distance_transform_edt(np.pad(notch, 1)).max()
    stroke = max(sides) >= LONG * min(filled.shape) and breadth <= STROKE * min(filled.shape)
    # Between the strokes of a bold digit, the other way round, lies the page.
    ink = abs(np.median(contrast[notch])) >= STANDS_OUT * np.ptp(contrast)
    return whole if stroke and ink else None


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
