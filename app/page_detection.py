"""Detection of the part of a picture that is written on: a sheet of paper, a box or a frame."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from app.array_types import Float32, Mask, UInt8
from app.frame_removal import frame_cells
from app.otsu import otsu_threshold
from app.regions import (
    MIN_FILLED_FRACTION,
    MIN_WRITING_FRACTION,
    Box,
    Region,
    border,
    is_within,
    longest_side,
)

# Pages are searched for in a picture reduced to at most this longer side.
MAX_SEARCH_SIDE_PX = 200
# The edge of a page is blurred. It is removed to this depth, as a fraction of the longer side.
EDGE_FRACTION = 0.01
# The box of a page covers at least this fraction of the picture.
MIN_PICTURE_FRACTION = 0.05
# Without its holes, where the writing is, a page covers at least this fraction of its box. A
# foreground that covers more of a picture may be a page, too.
MIN_PAGE_FRACTION = 0.6
# A stroke that touches the edge of a page is a notch in it. Minimum contrast of a notch to the
# surroundings of the page, as a fraction of the range of contrast in its box. A gap between the
# strokes of a bold digit has none.
MIN_NOTCH_CONTRAST = 0.3


class Page(NamedTuple):
    """A part of a picture, and the pixel where it begins."""

    top: int
    left: int
    grey: UInt8  # (h, w); pixels outside the page have the level of its background


def find_pages(grey: UInt8) -> list[Page]:
    """Finds pages: sheets of paper, boxes on a page, insides of frames, cells of tables.

    Args:
        grey: luminance, uint8 of shape (h, w).

    Returns:
        Convex regions that are brighter or darker than their surroundings. Of pages in each other,
        only the outermost is returned.
    """
    scale = max(1, -(-max(grey.shape) // MAX_SEARCH_SIDE_PX))
    height, width = (side // scale for side in grey.shape)
    if min(height, width) == 0:
        return []
    blocks = grey[: height * scale, : width * scale].reshape(height, scale, width, scale)
    small = np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)
    contrast = contrast_to_border(small)
    is_bright = small > otsu_threshold(small)
    regions = []
    for mask in (is_bright, ~is_bright):
        labels, _ = ndimage.label(mask)
        for label, box in enumerate(ndimage.find_objects(labels), 1):
            region = Region(labels[box] == label, box)
            if region.mask.size >= MIN_PICTURE_FRACTION * small.size:
                regions.append((region, mask[box]))
    found = [
        (region.box, mask)
        for region, _ in regions
        if (mask := page_mask(region, contrast)) is not None
    ]
    for region, foreground in regions:
        cells = frame_cells(region, foreground)
        outside = [each for each in found if not is_within(each[0], region.box)]
        if len(cells) >= max(1, len(found) - len(outside)):
            found = outside + cells
    found.sort(key=lambda each: -each[1].size)
    outermost = [
        (box, mask)
        for index, (box, mask) in enumerate(found)
        if not any(is_within(box, larger) for larger, _ in found[:index])
    ]
    return [crop_page(grey, scale, box, mask) for box, mask in outermost]


def contrast_to_border(grey: UInt8) -> Float32:
    """Difference of each pixel from the median of the border: float32 of shape (h, w)."""
    return np.asarray(grey - np.float32(np.median(border(grey))))


def page_mask(region: Region, contrast: Float32) -> Mask | None:
    """Returns the filled area of a region that may be written on.

    Args:
        region: of the picture.
        contrast: of the picture to its border, float32 of shape (H, W).

    Returns:
        bool of the region's shape, True for the page and the writing; None if it is not a page.
    """
    mask, filled = region.mask, region.filled
    if filled.sum() == contrast.size:  # the whole picture
        return None
    if not region.is_convex:
        return notched_page_mask(region, contrast)
    holes, _ = ndimage.label(filled & ~mask)
    boxes = ndimage.find_objects(holes)
    sides = list(map(longest_side, boxes))
    if sides and max(sides) >= MIN_WRITING_FRACTION * min(mask.shape):
        largest = int(np.argmax(sides))
        hole = Region(holes[boxes[largest]] == largest + 1, boxes[largest])
        if hole.is_convex:  # a 0
            return None
        return filled if mask.mean() >= MIN_PAGE_FRACTION else None
    # No writing is visible. At the border it may be an area between strokes.
    return filled if region.is_rectangle and not touches_border(region, contrast) else None


def notched_page_mask(region: Region, contrast: Float32) -> Mask | None:
    """Returns the area of a page with a stroke that touches its edge; see `page_mask`."""
    if touches_border(region, contrast):
        return None
    filled = region.filled
    hull = Image.new("1", filled.shape[::-1])
    vertices = region.hull.points[region.hull.vertices] - 0.5  # Pillow counts from pixels' centres
    ImageDraw.Draw(hull).polygon([(x, y) for y, x in vertices], fill=1)
    hull_mask = np.asarray(hull) | filled
    if hull_mask.mean() < MIN_FILLED_FRACTION:
        return None
    notches, _ = ndimage.label(hull_mask & ~filled)
    lengths = list(map(longest_side, ndimage.find_objects(notches)))
    notch = notches == int(np.argmax(lengths)) + 1
    levels = contrast[region.box]
    has_contrast = abs(np.median(levels[notch])) >= MIN_NOTCH_CONTRAST * np.ptp(levels)
    return hull_mask if has_contrast else None


def touches_border(region: Region, picture: Float32) -> bool:
    """Whether a region touches the border of its picture."""
    return any(
        span.start == 0 or span.stop == side
        for span, side in zip(region.box, picture.shape, strict=True)
    )


def crop_page(grey: UInt8, scale: int, box: Box, mask: Mask) -> Page:
    """Crops a picture to a page whose box and mask are `scale` times smaller."""
    rows, columns = (slice(span.start * scale, span.stop * scale) for span in box)
    cropped = grey[rows, columns].copy()
    edge = 1 + round(EDGE_FRACTION * max(mask.shape))
    inside = ndimage.binary_erosion(mask, iterations=edge)
    inside = np.kron(inside, np.ones((scale, scale), dtype=bool))
    if inside.any():
        cropped[~inside] = np.median(cropped[inside])
    return Page(rows.start, columns.start, cropped)
