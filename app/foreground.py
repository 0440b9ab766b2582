"""Separation of writing from its background.

LOW_THRESHOLD is the best of four values in benchmarks.own_digits. The other constants were chosen
on training images, drawn as simulated photographs by benchmarks.synthetic_pictures.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from app.array_types import Float32, Labels, Mask, UInt8
from app.background import estimate_background
from app.mnist_format import BOX_SIDE_PX
from app.otsu import otsu_threshold
from app.regions import Box, border, enclosing_box, longest_side
from app.ruled_lines import remove_ruled_lines
from stages.common.errors import UserError

# Hysteresis thresholds, as fractions of the maximum contrast: a component of pixels above the low
# threshold counts if one of them is above the high one. So a stroke may fade. Source: J. Canny,
# "A computational approach to edge detection", IEEE PAMI 8 (1986).
HIGH_THRESHOLD = 0.35
LOW_THRESHOLD = 0.2
# Specks are smaller than this fraction of the picture's longer side, or have less than this
# fraction of the mass of the component with the largest mass. Mass is the sum of the contrast.
MIN_SIDE_FRACTION = 1 / 60
MIN_MASS_FRACTION = 0.04
# More components are a text, a texture or noise.
MAX_COMPONENTS = 100
# Components that touch the border are removed if they all lie within a strip along the border of
# this depth, as a fraction of the picture's shorter side.
MAX_STRIP_DEPTH_FRACTION = 1 / 14
# Minimum contrast of a digit, in grey levels of 255 and in standard deviations of the noise. The
# low threshold is at least the latter, too, but never above the high one.
MIN_CONTRAST_LEVELS = 8
MIN_CONTRAST_TO_NOISE = 5
# In pixels of the 20x20 box: the background is measured up to this distance from a digit.
RING_WIDTH_PX = 4
# Standard deviation of normally distributed noise, in median absolute deviations.
SIGMA_PER_MAD = 1.48


class Foreground(NamedTuple):
    """The writing in a picture.

    Attributes:
        contrast: difference from the background, float32 of shape (h, w), in grey levels of 255;
            positive where there is writing.
        labels: int32 of shape (h, w): connected components, by sides or corners, from 1; 0 is
            background.
        boxes: box of component 1, 2, …
    """

    contrast: Float32
    labels: Labels
    boxes: list[Box]


def find_foreground(grey: UInt8) -> Foreground:
    """Finds the writing in a picture; specks are left out.

    Args:
        grey: luminance, uint8 of shape (h, w), dark on light or light on dark, in even or uneven
            light.

    Raises:
        UserError: nothing differs enough from the background, too many components do, or no writing
            stands out from ruled lines.
    """
    contrast = remove_ruled_lines(contrast_to_background(grey, estimate_background(grey)))
    smooth = ndimage.gaussian_filter(contrast, 0.5 + max(grey.shape) / 1_000)
    labels = label_foreground(smooth)
    removed = removable_at_border(labels)
    if removed.any():
        # Label again without them: the contrast of a table's edge raises the threshold for writing.
        removed = ndimage.binary_dilation(removed, iterations=2)
        labels = label_foreground(np.where(removed, 0, smooth))
    if labels.max() > MAX_COMPONENTS:
        raise UserError(f"more than {MAX_COMPONENTS} separate marks; crop to the digits")
    return Foreground(contrast, labels, ndimage.find_objects(labels))


def contrast_to_background(grey: UInt8, background: Float32) -> Float32:
    """Difference of each pixel from the background, positive where there is writing.

    Args:
        grey: uint8 of shape (h, w).
        background: grey levels, float32 of shape (h, w).

    Returns:
        float32 of shape (h, w).
    """
    contrast = grey - background
    is_bright = grey > otsu_threshold(grey)
    has_even_light = np.ptp(background) == 0
    if has_even_light:
        # The class of most border pixels is the background.
        is_dark_writing = border(is_bright).mean() >= 0.5
        contrast += background - np.median(grey[is_bright == is_dark_writing])
    else:
        # Writing is few pixels with a large difference: the third moment has its sign.
        is_dark_writing = np.vdot(contrast * contrast, contrast) < 0
    return -contrast if is_dark_writing else contrast


def label_foreground(smooth: Float32) -> Labels:
    """Labels the components of writing by hysteresis thresholds, without specks.

    Args:
        smooth: smoothed contrast, float32 of shape (h, w).

    Returns:
        int32 of shape (h, w): components from 1; 0 is background.

    Raises:
        UserError: there is no component.
    """
    maximum = float(smooth.max())
    noise = SIGMA_PER_MAD * float(np.median(np.abs(smooth)))
    high = HIGH_THRESHOLD * maximum
    low = min(max(LOW_THRESHOLD * maximum, MIN_CONTRAST_TO_NOISE * noise), high)
    labels, count = ndimage.label(smooth > low, structure=np.ones((3, 3), dtype=bool))
    kept = np.zeros(count + 1, dtype=bool)
    kept[np.unique(labels[smooth > high])] = True
    kept[0] = False
    if maximum <= 0 or not kept.any():
        raise no_foreground()
    masses = np.bincount(labels.ravel(), weights=np.maximum(smooth, 0).ravel()) * kept
    sides = np.array([longest_side(box) for box in ndimage.find_objects(labels)])
    kept[1:] &= sides >= MIN_SIDE_FRACTION * max(smooth.shape)
    kept &= masses > MIN_MASS_FRACTION * (masses * kept).max()
    if not kept.any():
        raise no_foreground()
    return np.asarray((np.cumsum(kept) * kept)[labels], dtype=np.int32)


def removable_at_border(labels: Labels) -> Mask:
    """The pixels of all components that touch the border, or none if they may be the writing."""
    mask = np.isin(labels, labels_at_border(labels))
    depth = math.ceil(MAX_STRIP_DEPTH_FRACTION * min(labels.shape))
    return mask & ~mask[depth:-depth, depth:-depth].any()


def labels_at_border(labels: Labels) -> list[int]:
    """The components that touch the border of the picture."""
    return [int(label) for label in np.unique(border(labels)) if label]


def coverage(foreground: Foreground, components: Sequence[int]) -> Float32:
    """Fraction of each pixel that is covered by some components, from 0 to 1.

    Args:
        foreground: of the picture.
        components: labels of the components.

    Returns:
        float32 with the shape of a box around the components.

    Raises:
        UserError: they do not differ enough from the noise of the background around them.
    """
    rows, columns = enclosing_box([foreground.boxes[label - 1] for label in components])
    # Size of a pixel of the 20x20 box.
    pixel = max(1, max(rows.stop - rows.start, columns.stop - columns.start) / BOX_SIDE_PX)
    margin = int((1 + RING_WIDTH_PX) * pixel) + 1
    window = tuple(slice(max(0, s.start - margin), s.stop + margin) for s in (rows, columns))
    contrast, labels = foreground.contrast[window], foreground.labels[window]
    mask = np.isin(labels, components)
    distance = ndimage.distance_transform_edt(~mask)
    halo = distance <= pixel
    ring = ~halo & (distance <= RING_WIDTH_PX * pixel)
    others = (labels > 0) & ~mask
    if others.any():
        distance_to_others = ndimage.distance_transform_edt(~others)
        halo &= distance < distance_to_others
        ring &= distance_to_others > pixel
    # Level and noise of the background. Medians ignore ruled lines and specks.
    level = noise = 0.0
    if ring.any():
        level = float(np.median(contrast[ring]))
        noise = SIGMA_PER_MAD * float(np.median(np.abs(contrast[ring] - level)))
    # A percentile above the median, because the mask of a hairline is mostly its surroundings.
    full = float(np.percentile(contrast[mask], 75)) - level
    if full < max(MIN_CONTRAST_LEVELS, MIN_CONTRAST_TO_NOISE * noise):
        raise no_foreground()
    floor = full / 3  # less is blur beside a stroke
    covered = np.clip((contrast - level - floor) / (full - floor), 0, 1)
    return np.where(halo, covered, 0).astype(np.float32)


def no_foreground() -> UserError:
    return UserError("no digit stands out from the background; draw darker, or crop to the digit")
