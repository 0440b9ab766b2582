"""Ink in the form of MNIST's images.

Source: Y. LeCun, C. Cortes and C. Burges, "The MNIST database": digits "were size normalized
to fit in a 20x20 pixel box while preserving their aspect ratio", with the grey levels of
anti-aliasing, and "centered in a 28x28 image by computing the center of mass of the pixels".
"""

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from stages.data.arrays import SIDE

UInt8 = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

BOX = 20
CENTRE = 14  # the index of the pixel that holds the centre of mass
# Of the contrast of the strongest ink: less lies outside the box.
EDGE = 0.1
# 99 of 100 training digits have strokes wider than this, in pixels of the 20x20 box.
THINNEST = 1.8


def mnist_image(amount: Floats) -> UInt8:
    """One digit as an image like MNIST's.

    Args:
        amount: float32 of shape (h, w), how much ink there is, from 0, paper, to 1; not all 0.

    Returns:
        uint8 of shape (28, 28): ink towards 255 on 0.
    """
    return centred(boxed(amount))


def boxed(amount: Floats) -> Floats:
    """Scales the ink to fit 20x20, its proportions kept, and hairlines widened to a pen's.

    Args:
        amount: float32 of shape (h, w), from 0 to 1, not all 0.

    Returns:
        float32 of shape (20, w) or (h, 20), from 0 to 1.
    """
    cut = amount[extent(amount > EDGE)]
    if stroke(fitted(cut, 4 * BOX)) < 4 * THINNEST:
        cut = fitted(cut, 4 * BOX)
        cut = ndimage.grey_dilation(cut, footprint=disc(4 * THINNEST - stroke(cut)))
    return fitted(cut, BOX)


def extent(mask: Mask) -> tuple[slice, slice]:
    """The rows and the columns of the box around a mask."""
    box: tuple[slice, slice] = ndimage.find_objects(mask.astype(np.uint8))[0]
    return box


def stroke(amount: Floats) -> float:
    """The mean width of a stroke, in pixels: across one, the distance to paper averages 1/4."""
    distance = ndimage.distance_transform_edt(np.pad(amount > 0.5, 1))
    return 4 * float(distance[distance > 0].mean()) - 1 if distance.any() else 0.0


def disc(diameter: float) -> Mask:
    reach = np.arange(-int(diameter / 2), int(diameter / 2) + 1)
    return np.asarray(np.hypot(*np.meshgrid(reach, reach)) <= diameter / 2)


def fitted(amount: Floats, side: int) -> Floats:
    """Scales so that the longer side becomes `side` pixels, anti-aliased."""
    height, width = amount.shape
    scale = side / max(height, width)
    return resized(amount, (max(1, round(height * scale)), max(1, round(width * scale))))


def resized(values: Floats, shape: tuple[int, ...]) -> Floats:
    """Scales to (h, w); where that is smaller, Pillow's filter averages over what it covers."""
    height, width = shape
    image = Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)


def centred(amount: Floats) -> UInt8:
    """Places the ink by its centre of mass, and its strongest at 255.

    Args:
        amount: float32 of shape (h, w), no side above 20, not all 0.

    Returns:
        uint8 of shape (28, 28).
    """
    place = []
    for centre, side in zip(ndimage.center_of_mass(amount), amount.shape, strict=True):
        start = int(np.floor(CENTRE - centre + 0.5))
        place.append(slice(start := min(max(start, 0), SIDE - side), start + side))
    image = np.zeros((SIDE, SIDE), dtype=np.float32)
    image[tuple(place)] = amount * (255 / amount.max())
    return np.rint(image).astype(np.uint8)
