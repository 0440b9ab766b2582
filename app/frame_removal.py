"""Removal of frames around digits, which the digits may touch."""

import numpy as np
from scipy import ndimage

from app.array_types import Mask
from app.regions import MIN_WRITING_FRACTION, Box, Region, longest_side, to_picture_coordinates

# The line of a frame ends at the depth at which this fraction of the pixels is background.
MIN_BACKGROUND_FRACTION = 0.7


def frame_cells(region: Region, foreground: Mask) -> list[tuple[Box, Mask]]:
    """Finds what a frame encloses; where writing divides it, several cells.

    Args:
        region: the frame and whatever touches it.
        foreground: bool of the region's shape, True for all pixels of the frame's brightness.

    Returns:
        Boxes in the picture, and the masks of the cells in them, without the frame. The list is
        empty if the region is not a frame with writing in it.
    """
    mask, filled = region.mask, region.filled
    if not region.is_rectangle:  # such as a 0
        return []
    # Depth of each pixel below the outline, and pixels by depth.
    depth = np.ceil(ndimage.distance_transform_edt(np.pad(filled, 1))[1:-1, 1:-1]).astype(int)
    background_pixels, all_pixels = (
        np.bincount(depth[pixels])[1:] for pixels in (filled & ~mask, filled)
    )
    is_background = (
        background_pixels >= MIN_BACKGROUND_FRACTION * all_pixels[: len(background_pixels)]
    )
    depths = np.flatnonzero(is_background)
    min_writing_side = MIN_WRITING_FRACTION * min(mask.shape)
    if not depths.size or depths[0] > min_writing_side:  # too wide for a line
        return []
    inside = depth > depths[0]
    writing, _ = ndimage.label(inside & foreground)
    sides = map(longest_side, ndimage.find_objects(writing))
    if max(sides, default=0) < min_writing_side:
        return []
    cells, _ = ndimage.label(inside)
    return [
        (to_picture_coordinates(box, region.box), cells[box] == label)
        for label, box in enumerate(ndimage.find_objects(cells), 1)
    ]
