"""The ink of a picture: what stands out from its paper, and how much of it there is.

Most of the numbers were chosen on training images that had been through round trips like those of
benchmarks/round_trip.py.
BLUR, FLAT and FAINT were chosen among four settings each by what benchmarks.own_digits reports.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from app.mnist_form import BOX, Floats, UInt8, resized
from app.regions import Box, border, longest_side
from app.sheets import otsu
from stages.edges.bad_input import BadInput

# Of the frame's longer side: the cells in which the paper is seen, in a window wider than a
# stroke and what it encloses.
CELLS = 32
WINDOW = 21
# Light is uneven where a smooth surface explains this share of the deviations from one level:
# a tenth in a picture that a digit fills, half and more where there is a gradient.
UNEVEN = 0.35
# And then it shows in this share of the picture's border at least.
VARIED = 0.3
# Where ink and paper have at least this share of the picture each, the border tells which is which.
CROWDED = 0.25
# Of the contrast of the strongest ink: what is sure to be ink, and what is where it goes on
# from there, as a stroke does that gets faint. Source of two thresholds: J. Canny, "A
# computational approach to edge detection", IEEE PAMI 8 (1986), hysteresis.
INK = 0.35
FAINT = 0.2
# Ink differs from its paper by so many levels of 255, and so many deviations of the paper.
FAINTEST = 8
CLEAREST_NOISE = 5
# Of the longer side of the frame, and of the ink of the largest piece: less is a speck.
SPECK_SIDE = 1 / 60
SPECK_INK = 0.04
# Where this share of the ink is free of the border, what touches it is no part of the digit.
INSIDE = 0.15
# Of the picture's shorter side: ink that is nowhere farther from the border is a strip, no digit.
STRIP = 1 / 14
# Of the full contrast of a digit: less is blur around its strokes, and what lacks no more than
# this is full.
BLUR = 0.3
FLAT = 0.1
# More pieces than these are a text, a texture or noise.
MOST = 100
# In pixels of the 20x20 box: how far from the sure ink the paper is looked at.
RING = 4


Pieces = npt.NDArray[np.int32]


class Ink(NamedTuple):
    """What stands out from the paper.

    contrast: float32 of shape (h, w), in levels of 255, ink above 0.
    pieces: int32 of the same shape: 1, 2, ... where there is ink, connected by sides or
        corners; 0 elsewhere.
    boxes: the rows and columns of piece 1, 2, ...
    """

    contrast: Floats
    pieces: Pieces
    boxes: list[Box]


def ink(grey: UInt8) -> Ink:
    """The pieces of ink in a picture, specks left out.

    Args:
        grey: luminance, uint8 of shape (h, w), under light that need not be even, dark on
            light or light on dark.

    Raises:
        BadInput: nothing stands out from the paper, or too much does.
    """
    contrast = against(grey, paper(grey))
    smooth = ndimage.gaussian_filter(contrast, 0.5 + max(grey.shape) / 1_000)
    pieces = sure_pieces(smooth)
    strange = at_border(pieces)
    if strange:
        amounts = np.bincount(pieces.ravel(), weights=smooth.ravel())
        amounts[0] = 0
        touching = np.isin(pieces, strange)
        depth = math.ceil(STRIP * min(pieces.shape))
        strips = not touching[depth:-depth, depth:-depth].any()
        if strips or amounts.sum() - amounts[strange].sum() > INSIDE * amounts.sum():
            # What reaches in from the border, such as the edge of a table, gives way, and the
            # rest is looked at again with the contrast that is left.
            edge = ndimage.binary_dilation(touching, iterations=2)
            pieces = sure_pieces(np.where(edge, 0, smooth))
    if pieces.max() > MOST:
        raise BadInput("no ink stands out from so many specks; crop to the digits")
    return Ink(contrast, pieces, ndimage.find_objects(pieces))


def against(grey: UInt8, paper: Floats) -> Floats:
    """How far each pixel is from the paper, on the side where the ink is.

    Args:
        grey: uint8 of shape (h, w).
        paper: float32 of the same shape.

    Returns:
        float32 of the same shape, ink above 0.
    """
    contrast = grey - paper
    threshold = otsu(grey)
    bright = grey > threshold
    if np.ptp(paper) == 0 and CROWDED < bright.mean() < 1 - CROWDED:
        # As in a digit cut out without a margin: paper is what most of the border is.
        dark_ink = border(bright).mean() >= 0.5
        contrast += paper - np.median(grey[bright == dark_ink])
    else:
        # Ink is what the fewer pixels are, far off: the sign of the third moment is its side.
        dark_ink = np.vdot(contrast * contrast, contrast) < 0
    return -contrast if dark_ink else contrast


def sure_pieces(smooth: Floats) -> Pieces:
    """The pieces of what is sure to be ink, numbered, without specks.

    Args:
        smooth: float32 of shape (h, w), the contrast, ink above 0.

    Raises:
        BadInput: nothing stands out.
    """
    around = np.ones((3, 3), dtype=bool)
    strongest = float(smooth.max())
    noise = 1.48 * float(np.median(np.abs(smooth)))
    faint = min(max(FAINT * strongest, 3 * noise), INK * strongest)
    fainter, _ = ndimage.label(smooth > faint, structure=around)
    sure = np.unique(fainter[smooth > INK * strongest])
    kept = np.zeros(fainter.max() + 1, dtype=bool)
    kept[sure] = True
    kept[0] = False
    if strongest <= 0 or not kept.any():
        raise no_ink()
    amounts = np.bincount(fainter.ravel(), weights=np.maximum(smooth, 0).ravel()) * kept
    sides = list(map(longest_side, ndimage.find_objects(fainter)))
    kept[1:] &= np.array(sides) >= SPECK_SIDE * max(smooth.shape)
    kept &= amounts > SPECK_INK * (amounts * kept).max()
    if not kept.any():
        raise no_ink()
    return np.asarray((np.cumsum(kept) * kept)[fainter], dtype=np.int32)


def at_border(pieces: Pieces) -> list[int]:
    """The numbers of the pieces that touch the border of the picture."""
    return [int(number) for number in np.unique(border(pieces)) if number]


def around(boxes: Sequence[Box]) -> Box:
    """The box around boxes."""
    rows, columns = (
        slice(min(span.start for span in spans), max(span.stop for span in spans))
        for spans in zip(*boxes, strict=True)
    )
    return rows, columns


def amount(ink: Ink, numbers: Sequence[int]) -> Floats:
    """How much ink there is of some pieces: from 0, paper, to 1.

    Args:
        ink: what `ink` found.
        numbers: of the pieces.

    Returns:
        float32 of the shape of a box around the pieces.

    Raises:
        BadInput: they do not stand out from the noise of the paper around them.
    """
    rows, columns = around([ink.boxes[number - 1] for number in numbers])
    pixel = max(1, max(rows.stop - rows.start, columns.stop - columns.start) / BOX)
    margin = int((1 + RING) * pixel) + 1
    window = tuple(slice(max(0, s.start - margin), s.stop + margin) for s in (rows, columns))
    contrast, pieces = ink.contrast[window], ink.pieces[window]
    mask = np.isin(pieces, numbers)
    distance = ndimage.distance_transform_edt(~mask)
    halo = distance <= pixel
    ring = ~halo & (distance <= RING * pixel)
    other = (pieces > 0) & ~mask
    if other.any():
        to_other = ndimage.distance_transform_edt(~other)
        halo &= distance < to_other
        ring &= to_other > pixel
    # Medians, in which ruled lines and specks do not count.
    level = noise = 0.0
    if ring.any():
        level = float(np.median(contrast[ring]))
        noise = 1.48 * float(np.median(np.abs(contrast[ring] - level)))
    # Not the median: the mask of a hairline is mostly its surroundings.
    full = float(np.percentile(contrast[mask], 75)) - level
    if full < max(FAINTEST, CLEAREST_NOISE * noise):
        raise no_ink()
    floor = min(max(2 * noise, BLUR * full), full / 3)
    full *= 1 - FLAT
    share = np.clip((contrast - level - floor) / (full - floor), 0, 1)
    return np.where(halo, share, 0).astype(np.float32)


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
    frame = border(medians)
    varied = np.percentile(np.abs(frame - np.median(frame)), 100 * (1 - VARIED))
    if varied < 0.05 * np.ptp(medians):
        return np.full(grey.shape, flat[0, 0], dtype=np.float32)
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
