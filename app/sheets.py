"""Where in a picture the writing lies: on a sheet, in a box or in a frame."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from app.frames import framed
from app.mnist_form import Floats, Mask, UInt8
from app.regions import WRITING, Box, Region, border, longest_side, within

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
            mask = numbers[box] == number
            if mask.size >= LEAST * small.size:
                regions.append((Region(mask, box), side[box]))
    found = [
        (region.box, outline)
        for region, _ in regions
        if (outline := sheet(region, contrast)) is not None
    ]
    for region, ink in regions:
        cells = framed(region, ink)
        others = [each for each in found if not within(each[0], region.box)]
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


def sheet(region: Region, contrast: Floats) -> Mask | None:
    """The outline of what something may be written on.

    Args:
        region: of the picture.
        contrast: float32 of shape (H, W), the picture `against_page`.

    Returns:
        bool of the region's shape, with all that is inside; None where it is no sheet.
    """
    mask, filled = region.mask, region.filled
    if filled.sum() > MOST * contrast.size:
        return None
    if not region.is_convex:
        return notched(region, contrast)
    holes, _ = ndimage.label(filled & ~mask)
    boxes = ndimage.find_objects(holes)
    sides = list(map(longest_side, boxes))
    if sides and max(sides) >= WRITING * min(mask.shape):
        number = int(np.argmax(sides))
        hole = Region(holes[boxes[number]] == number + 1, boxes[number])
        if hole.is_convex and filled.mean() < BOX:
            return None
        return filled if mask.mean() >= SOLID else None
    broad = min(mask.shape) >= BROAD * max(mask.shape)  # not the bar of a 1
    plain = filled.mean() >= RECTANGLE and (broad or mask.size >= MAIN * contrast.size)
    return filled if plain else None


def notched(region: Region, contrast: Floats) -> Mask | None:
    """The outline of a sheet with writing that touches its edge; see `sheet`."""
    lies_on_page = all(
        span.start > 0 and span.stop < side
        for span, side in zip(region.box, contrast.shape, strict=True)
    )
    if not lies_on_page:
        return None
    filled = region.filled
    outline = Image.new("1", filled.shape[::-1])
    vertices = region.hull.points[region.hull.vertices] - 0.5  # of the centres of pixels
    ImageDraw.Draw(outline).polygon([(x, y) for y, x in vertices], fill=1)
    whole = np.asarray(outline) | filled
    if filled.sum() < NOTCHED * whole.sum() or whole.mean() < SQUARE:
        return None
    notches, _ = ndimage.label(whole & ~filled)
    sides = list(map(longest_side, ndimage.find_objects(notches)))
    notch = notches == int(np.argmax(sides)) + 1
    breadth = 2 * ndimage.distance_transform_edt(np.pad(notch, 1)).max()
    stroke = max(sides) >= LONG * min(filled.shape) and breadth <= STROKE * min(filled.shape)
    # Between the strokes of a bold digit, the other way round, lies the page.
    levels = contrast[region.box]
    ink = abs(np.median(levels[notch])) >= STANDS_OUT * np.ptp(levels)
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
