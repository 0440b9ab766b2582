"""Pictures as people make them, of MNIST's digits: rows, and frames that a digit touches."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

SIZES = (24, 120)  # pixels of a digit's height
SLANT = 0.25  # columns a row: 14 degrees
CORNERS = 8  # of each side of a frame, drawn by an unsteady hand

UInt8 = npt.NDArray[np.uint8]


def rows(x: UInt8, y: UInt8, count: int) -> Iterator[tuple[UInt8, str]]:
    """Pictures of 2 to 8 digits beside each other, and the number they make."""
    for place in range(count):
        chance = np.random.default_rng([1, place])
        chosen = chance.integers(len(x), size=chance.integers(2, 9))
        yield row([x[each] for each in chosen], chance), "".join(str(y[each]) for each in chosen)


def row(images: list[UInt8], chance: np.random.Generator) -> UInt8:
    """A row of digits, dark on light: each from 0.6 to 1 of the row's height, slanted."""
    height = int(chance.integers(*SIZES))
    common = chance.uniform(-0.6, 0.6) * SLANT  # a writer's slant; a digit's own is added
    drawn = []
    for image in images:
        slant = common + chance.uniform(-0.4, 0.4) * SLANT
        drawn.append(slanted(image, int(chance.uniform(0.6, 1) * height * 28 / 20), slant))
    tallest = max(each.shape[0] for each in drawn)
    picture = np.zeros((2 * tallest, sum(each.shape[1] for each in drawn) + len(drawn) * height))
    left = int(0.4 * height)
    for each in drawn:
        top = tallest // 2 + int(chance.uniform(0, 1) * (tallest - each.shape[0]))
        picture[top : top + each.shape[0], left : left + each.shape[1]] = each
        left += each.shape[1] + int(chance.uniform(0.12, 0.6) * height)
    picture = picture[:, : left + int(0.4 * height)] / 255
    grey = chance.uniform(170, 255) * (1 - chance.uniform(0.5, 0.95) * picture)
    return noisy(grey, chance)


def slanted(image: UInt8, side: int, slant: float) -> UInt8:
    """An image of 28x28, enlarged to a side and sheared, cut out around its ink."""
    width, scale = side + int(abs(slant) * side), 28 / side
    shift = scale * (slant * side + width - side) / 2
    matrix = (scale, scale * slant, -shift, 0, scale, 0)
    large = Image.fromarray(image).transform(
        (width, side), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC
    )
    pixels = np.asarray(large)
    spans = (np.flatnonzero(pixels.max(axis=axis) > 60) for axis in (1, 0))
    return pixels[tuple(slice(span[0], span[-1] + 1) for span in spans)]


def touching(x: UInt8, y: UInt8, count: int) -> Iterator[tuple[UInt8, str]]:
    """Pictures of a digit in a frame that it touches, and the digit."""
    for place in range(count):
        chance = np.random.default_rng([2, place])
        chosen = chance.integers(len(x))
        yield in_frame(x[chosen], place % 2 == 1, chance), str(y[chosen])


def in_frame(image: UInt8, cropped: bool, chance: np.random.Generator) -> UInt8:
    """A digit in a frame, one of whose lines it touches, dark on light; cropped: to the frame."""
    digit = Image.fromarray(slanted(image, int(chance.integers(80, 400)), 0))
    height = digit.height
    pen = max(2, int(chance.uniform(0.03, 0.12) * height))
    gaps = (chance.uniform(0.15, 0.6, 4) * height).astype(int)  # left, top, right, bottom
    gaps[chance.integers(4)] = -int(chance.uniform(0.2, 0.8) * pen)
    margin = pen // 2 if cropped else int(chance.uniform(0.1, 0.5) * height)
    width = digit.width + gaps[0] + gaps[2] + 2 * margin
    height = height + gaps[1] + gaps[3] + 2 * margin
    ink = int(chance.uniform(0, 90))
    picture = Image.new("L", (width, height), int(chance.uniform(170, 255)))
    picture.paste(ink, (margin + gaps[0], margin + gaps[1]), mask=digit)
    left, top, right, bottom = margin, margin, width - margin, height - margin
    ends = np.array([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)])
    line = [
        tuple(start + (end - start) * share + chance.uniform(-0.3, 0.3, 2) * pen)
        for start, end in pairwise(ends)
        for share in np.arange(CORNERS) / CORNERS
    ]
    ImageDraw.Draw(picture).line([*line, line[0]], fill=ink, width=pen, joint="curve")
    return noisy(np.asarray(picture), chance)


def noisy(grey: npt.NDArray[Any], chance: np.random.Generator) -> UInt8:
    """Grey levels of shape (h, w) with a camera's noise."""
    noise = chance.normal(0, chance.uniform(0, 4), grey.shape)
    return np.clip(grey + noise, 0, 255).astype(np.uint8)
