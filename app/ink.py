"""The ink of a picture, prepared as MNIST's makers prepared theirs.

Source: Y. LeCun, C. Cortes and C. Burges, "The MNIST database": digits "were size normalized
to fit in a 20x20 pixel box while preserving their aspect ratio", with the grey levels of
anti-aliasing, and "centered in a 28x28 image by computing the center of mass of the pixels".
The numbers below were chosen on training images that had been through round trips like that
of benchmarks/round_trip.py.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from stages.data.arrays import SIDE
from stages.edges.bad_input import BadInput

UInt8 = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

BOX = 20
CENTRE = 14  # the index of the pixel that holds the centre of mass
# Of the frame's longer side: the cells in which the paper is seen, in a window wider than a
# stroke and what it encloses.
CELLS = 32
WINDOW = 21
# Light is uneven where a smooth surface explains this share of the deviations from one level:
# a tenth in a picture that a digit fills, half and more where there is a gradient.
UNEVEN = 0.35
# Of the contrast of the strongest ink.
INK = 0.35
EDGE = 0.1
# Ink differs from its paper by so many levels of 255, and so many deviations of the paper.
FAINTEST = 8
CLEAREST_NOISE = 5
# Of the longer side of the frame, and of the ink of the largest piece: less is a speck.
SPECK_SIDE = 1 / 60
SPECK_INK = 0.04
# Where this share of the ink is free of the border, what touches it is no part of the digit.
INSIDE = 0.15
# 99 of 100 training digits have strokes wider than this, in pixels of the 20x20 box.
THINNEST = 1.8


def mnist_image(grey: UInt8) -> UInt8:
    """The digit in a picture, as an image like MNIST's.

    Args:
        grey: luminance, uint8 of shape (h, w), of one digit: dark on light or light on dark,
            anywhere in the frame, under light that need not be even.

    Returns:
        uint8 of shape (28, 28): ink towards 255 on 0.

    Raises:
        BadInput: there is no ink.
    """
    return centred(boxed(ink(grey)))


def ink(grey: UInt8) -> Floats:
    """How much ink there is at each pixel: from 0, paper, to 1.

    Args:
        grey: uint8 of shape (h, w).

    Returns:
        float32 of the same shape, with only the pieces that belong to the digit.

    Raises:
        BadInput: nothing stands out from the paper and its noise.
    """
    contrast = grey - paper(grey)
    # Ink is what the fewer pixels are, far off: the sign of the third moment is its side.
    if np.sum(contrast.astype(np.float64) ** 3) < 0:
        contrast = -contrast
    smooth = ndimage.gaussian_filter(contrast, 0.5 + max(grey.shape) / 1_000)
    strongest = float(smooth.max())
    mask = digit_pieces(smooth > INK * strongest, np.maximum(smooth, 0))
    if not mask.any():
        raise no_ink()

    rows, columns = extent(mask)
    pixel = max(rows.stop - rows.start, columns.stop - columns.start) / BOX
    halo = ndimage.distance_transform_edt(~mask) <= max(1, pixel)
    # Medians, in which ruled lines and what was left out above do not count.
    noise = 0.0
    if not halo.all():
        contrast -= np.median(contrast[~halo])
        noise = 1.48 * float(np.median(np.abs(contrast[~halo])))
    # Not the median: the mask of a hairline is mostly its surroundings.
    full = float(np.percentile(contrast[mask], 75))
    if full < max(FAINTEST, CLEAREST_NOISE * noise):
        raise no_ink()
    floor = min(2 * noise, full / 3)
    return np.where(halo, np.clip((contrast - floor) / (full - floor), 0, 1), 0).astype(np.float32)


def no_ink() -> BadInput:
    return BadInput("no ink stands out from the paper; draw darker, or crop to the digit")


def paper(grey: UInt8) -> Floats:
    """The paper under the ink, with its gradients and shadows.

    Args:
        grey: uint8 of shape (h, w).

    Returns:
        float32 of the same shape, from the medians of at most CELLS x CELLS cells. Under even
        light it is their median, for a surface would follow a digit that fills the frame. Under
        uneven light it is their local median, with or without a quadratic surface taken away
        first, whichever leaves less.
    """
    height, width = grey.shape
    cell = -(-max(height, width) // CELLS)
    whole = np.pad(grey, ((0, -height % cell), (0, -width % cell)), mode="edge")
    cells = whole.reshape(whole.shape[0] // cell, cell, whole.shape[1] // cell, cell)
    medians = np.median(cells, axis=(1, 3))  # (rows, columns)
    flat = np.full_like(medians, np.median(medians))
    surface = quadratic(medians)
    if np.abs(medians - surface).sum() > (1 - UNEVEN) * np.abs(medians - flat).sum():
        return np.full(grey.shape, flat[0, 0], dtype=np.float32)
    # The edge of a hard shadow bends the surface; the window alone keeps it.
    candidates = [
        base + ndimage.median_filter(medians - base, size=WINDOW, mode="nearest")
        for base in (surface, flat)
    ]
    best = min(candidates, key=lambda candidate: float(np.abs(medians - candidate).sum()))
    return resized(best.astype(np.float32), whole.shape)[:height, :width]


def quadratic(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The quadratic surface with the least absolute deviations from values of shape (h, w)."""
    y, x = (np.linspace(-1, 1, n) for n in values.shape)
    x, y = (axis.ravel() for axis in np.meshgrid(x, y))
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)  # (h * w, 6)
    flat = values.ravel()
    surface = np.full_like(flat, np.median(flat))
    for _ in range(10):  # least squares, weighted anew, come to the least absolute deviations
        weights = 1 / np.sqrt(np.maximum(np.abs(flat - surface), 1))
        solution = np.linalg.lstsq(terms * weights[:, None], flat * weights, rcond=None)[0]
        surface = terms @ solution
    return surface.reshape(values.shape)


def digit_pieces(mask: Mask, amount: Floats) -> Mask:
    """Leaves out specks, and what reaches in from the border, such as the edge of a table.

    Args:
        mask: bool of shape (h, w), where there may be ink.
        amount: float32 of shape (h, w), how much of it.

    Returns:
        The mask of the pieces that are left. Ink at the border counts where there is little else.
    """
    pieces, count = ndimage.label(mask, structure=np.ones((3, 3)))
    if count == 0:
        return mask
    amounts = np.bincount(pieces.ravel(), weights=amount.ravel())
    amounts[0] = 0
    boxes = ndimage.find_objects(pieces)
    sides = [max(s.stop - s.start for s in box) for box in boxes]
    amounts[1:][np.array(sides) < SPECK_SIDE * max(mask.shape)] = 0

    border = np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]])
    inside = amounts.copy()
    inside[border] = 0
    if inside.sum() > INSIDE * amounts.sum():
        amounts = inside
    kept = amounts > SPECK_INK * amounts.max()
    return np.asarray(kept[pieces], dtype=np.bool_)


def extent(mask: Mask) -> tuple[slice, slice]:
    """The rows and the columns of the box around a mask."""
    box: tuple[slice, slice] = ndimage.find_objects(mask.astype(np.uint8))[0]
    return box


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
