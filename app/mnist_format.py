"""Conversion of a digit to the format of MNIST's images.

Source: Y. LeCun, C. Cortes and C. Burges, "The MNIST database": digits "were size normalized
to fit in a 20x20 pixel box while preserving their aspect ratio", with the grey levels of
anti-aliasing, and "centered in a 28x28 image by computing the center of mass of the pixels".

A digit is given by its coverage: the fraction of each pixel that its strokes cover, from 0, which
is background, to 1.
"""

import numpy as np
from PIL import Image
from scipy import ndimage

from app import SIDE
from app.array_types import Float32, Mask, UInt8
from app.regions import Box

BOX_SIDE_PX = 20
CENTER_PX = 14  # index of the pixel that contains the centre of mass
# Pixels with less coverage are cut off: they are blur.
MIN_COVERAGE_IN_BOX = 0.1
# In pixels of the 20x20 box. 99% of the training digits have wider strokes.
MIN_STROKE_WIDTH_PX = 1.8
# Stroke widths are measured in a box this many times larger, where they are not rounded.
ENLARGEMENT = 4


def mnist_image(coverage: Float32) -> UInt8:
    """Returns one digit as an image like MNIST's.

    Args:
        coverage: float32 of shape (h, w), from 0 to 1, not all 0.

    Returns:
        uint8 of shape (28, 28), bright strokes on 0.
    """
    return center_by_mass(fit_to_box(coverage))


def fit_to_box(coverage: Float32) -> Float32:
    """Scales a digit to 20x20 with its aspect ratio, and widens hairlines to a pen's strokes.

    Args:
        coverage: float32 of shape (h, w), from 0 to 1, not all 0.

    Returns:
        float32 of shape (20, w) or (h, 20), from 0 to 1.
    """
    digit = coverage[bounding_box(coverage > MIN_COVERAGE_IN_BOX)]
    large = scale_to_side(digit, ENLARGEMENT * BOX_SIDE_PX)
    missing_width = ENLARGEMENT * MIN_STROKE_WIDTH_PX - stroke_width(large)
    if missing_width > 0:
        digit = ndimage.grey_dilation(large, footprint=disk(missing_width))
    return scale_to_side(digit, BOX_SIDE_PX)


def stroke_width_in_box(coverage: Float32) -> float:
    """Mean width of the strokes in pixels of the 20x20 box, for coverage of shape (h, w)."""
    return stroke_width(scale_to_side(coverage, ENLARGEMENT * BOX_SIDE_PX)) / ENLARGEMENT


def stroke_width(coverage: Float32) -> float:
    """Mean width of the strokes in pixels.

    Across a stroke, the distance to the background averages a quarter of the width.
    """
    distance = ndimage.distance_transform_edt(np.pad(coverage > 0.5, 1))
    return 4 * float(distance[distance > 0].mean()) - 1 if distance.any() else 0.0


def bounding_box(mask: Mask) -> Box:
    box: Box = ndimage.find_objects(mask.astype(np.uint8))[0]
    return box


def disk(diameter: float) -> Mask:
    offsets = np.arange(-int(diameter / 2), int(diameter / 2) + 1)
    return np.asarray(np.hypot(*np.meshgrid(offsets, offsets)) <= diameter / 2)


def scale_to_side(values: Float32, side: int) -> Float32:
    """Scales an array of shape (h, w) so that its longer side becomes `side` pixels."""
    height, width = values.shape
    scale = side / max(height, width)
    return resize(values, (max(1, round(height * scale)), max(1, round(width * scale))))


def resize(values: Float32, shape: tuple[int, ...]) -> Float32:
    """Scales to a shape (h, w), with anti-aliasing: Pillow averages over all covered pixels."""
    height, width = shape
    image = Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)


def center_by_mass(coverage: Float32) -> UInt8:
    """Places a digit by its centre of mass and scales its maximum to 255.

    Args:
        coverage: float32 of shape (h, w), no side above 20, not all 0.

    Returns:
        uint8 of shape (28, 28).
    """
    spans = []
    for center, side in zip(ndimage.center_of_mass(coverage), coverage.shape, strict=True):
        start = int(np.floor(CENTER_PX - center + 0.5))
        start = min(max(start, 0), SIDE - side)
        spans.append(slice(start, start + side))
    image = np.zeros((SIDE, SIDE), dtype=np.float32)
    image[tuple(spans)] = coverage * (255 / coverage.max())
    return np.rint(image).astype(np.uint8)
