"""Synthetic pictures of MNIST's digits: rows, digits that touch a frame, and photos.

Each generator of pictures has its own seeds, so that the pictures are always the same.
"""

import io
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

UInt8 = npt.NDArray[np.uint8]

DIGIT_HEIGHT_RANGE_PX = (24, 120)
MAX_SLANT = 0.25  # columns per row: 14 degrees
MIN_LEVEL_IN_BOX = 60  # of 255: digits are cut out at this level
POINTS_PER_SIDE = 8  # of a frame drawn by an unsteady hand
PHOTO_DIGIT_SIDE_PX = 28 * 7
PHOTO_HEIGHT_PX, PHOTO_WIDTH_PX = 300, 340
PHOTO_GRADIENT_LEVELS = 90  # of 255, from the brightest to the darkest corner
PHOTO_JPEG_QUALITY = 60
PAPER_LEVEL, PEN_LEVEL = 248, 47  # of ruled paper and a blue pen
MAX_TILT = 0.03  # rows per column of a line: 2 degrees


def digit_rows(x: UInt8, y: UInt8, count: int) -> Iterator[tuple[UInt8, str]]:
    """Yields pictures of 2 to 8 digits beside each other, and the number that they form.

    Args:
        x: images, uint8 of shape (n, 28, 28).
        y: labels, integers of shape (n,).
        count: number of pictures.
    """
    for index in range(count):
        random = np.random.default_rng([1, index])
        chosen = random.integers(len(x), size=random.integers(2, 9))
        yield draw_row([x[each] for each in chosen], random), "".join(str(y[i]) for i in chosen)


def draw_row(images: list[UInt8], random: np.random.Generator) -> UInt8:
    """Draws digits dark on light, each slanted, and 0.6 to 1 times as high as the row."""
    height = int(random.integers(*DIGIT_HEIGHT_RANGE_PX))
    # The sum of the writer's slant and the digit's own.
    writer_slant = random.uniform(-0.6, 0.6) * MAX_SLANT
    digits = []
    for image in images:
        slant = writer_slant + random.uniform(-0.4, 0.4) * MAX_SLANT
        digits.append(shear_and_crop(image, int(random.uniform(0.6, 1) * height * 28 / 20), slant))
    max_height = max(digit.shape[0] for digit in digits)
    width = sum(digit.shape[1] for digit in digits) + len(digits) * height
    coverage = np.zeros((2 * max_height, width))
    left = int(0.4 * height)
    for digit in digits:
        top = max_height // 2 + int(random.uniform(0, 1) * (max_height - digit.shape[0]))
        coverage[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
        left += digit.shape[1] + int(random.uniform(0.12, 0.6) * height)
    coverage = coverage[:, : left + int(0.4 * height)] / 255
    return add_noise(random.uniform(170, 255) * (1 - random.uniform(0.5, 0.95) * coverage), random)


def shear_and_crop(image: UInt8, side: int, slant: float) -> UInt8:
    """Enlarges an image of 28x28 to `side` pixels, shears it, and crops it to the digit."""
    width, scale = side + int(abs(slant) * side), 28 / side
    shift = scale * (slant * side + width - side) / 2
    matrix = (scale, scale * slant, -shift, 0, scale, 0)
    large = Image.fromarray(image).transform(
        (width, side), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC
    )
    pixels = np.asarray(large)
    indices = (np.flatnonzero(pixels.max(axis=axis) > MIN_LEVEL_IN_BOX) for axis in (1, 0))
    return pixels[tuple(slice(each[0], each[-1] + 1) for each in indices)]


def framed_digits(x: UInt8, y: UInt8, count: int) -> Iterator[tuple[UInt8, str]]:
    """Yields pictures of a digit that touches its frame, and the digit; see `digit_rows`.

    In every second picture, the frame is the border of the picture.
    """
    for index in range(count):
        random = np.random.default_rng([2, index])
        chosen = random.integers(len(x))
        yield draw_in_frame(x[chosen], index % 2 == 1, random), str(y[chosen])


def draw_in_frame(image: UInt8, is_cropped: bool, random: np.random.Generator) -> UInt8:
    """Draws a digit dark on light, in a frame drawn by an unsteady hand, which it touches."""
    digit = Image.fromarray(shear_and_crop(image, int(random.integers(80, 400)), 0))
    height = digit.height
    pen = max(2, int(random.uniform(0.03, 0.12) * height))
    gaps = (random.uniform(0.15, 0.6, 4) * height).astype(int)  # left, top, right, bottom
    gaps[random.integers(4)] = -int(random.uniform(0.2, 0.8) * pen)
    margin = pen // 2 if is_cropped else int(random.uniform(0.1, 0.5) * height)
    width = digit.width + gaps[0] + gaps[2] + 2 * margin
    height = height + gaps[1] + gaps[3] + 2 * margin
    level = int(random.uniform(0, 90))
    picture = Image.new("L", (width, height), int(random.uniform(170, 255)))
    picture.paste(level, (margin + gaps[0], margin + gaps[1]), mask=digit)
    left, top, right, bottom = margin, margin, width - margin, height - margin
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)])
    line = [
        tuple(start + (end - start) * fraction + random.uniform(-0.3, 0.3, 2) * pen)
        for start, end in pairwise(corners)
        for fraction in np.arange(POINTS_PER_SIDE) / POINTS_PER_SIDE
    ]
    ImageDraw.Draw(picture).line([*line, line[0]], fill=level, width=pen, joint="curve")
    return add_noise(np.asarray(picture), random)


def add_noise(grey: npt.NDArray[Any], random: np.random.Generator) -> UInt8:
    """Adds a camera's noise to grey levels of shape (h, w)."""
    noise = random.normal(0, random.uniform(0, 4), grey.shape)
    return np.clip(grey + noise, 0, 255).astype(np.uint8)


def photograph(image: UInt8, random: np.random.Generator) -> bytes:
    """Simulates a photo of a digit: dark on light, enlarged, shifted, with a gradient of light.

    Args:
        image: uint8 of shape (28, 28), bright strokes on 0.
        random: for the position and the direction of the gradient.

    Returns:
        A JPEG file.
    """
    side = PHOTO_DIGIT_SIDE_PX
    large = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
    top = random.integers(PHOTO_HEIGHT_PX - side + 1)
    left = random.integers(PHOTO_WIDTH_PX - side + 1)
    picture = np.full((PHOTO_HEIGHT_PX, PHOTO_WIDTH_PX), 255.0)
    picture[top : top + side, left : left + side] -= np.asarray(large)

    angle = random.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-1 : 1 : PHOTO_HEIGHT_PX * 1j, -1 : 1 : PHOTO_WIDTH_PX * 1j]
    slope = np.cos(angle) * x + np.sin(angle) * y
    gradient = (slope - slope.min()) / np.ptp(slope)  # 0 to 1
    picture = np.clip(picture - PHOTO_GRADIENT_LEVELS * gradient, 0, 255)

    file = io.BytesIO()
    Image.fromarray(picture.astype(np.uint8)).save(file, "JPEG", quality=PHOTO_JPEG_QUALITY)
    return file.getvalue()


def ruled_pages(
    x: UInt8, y: UInt8, count: int, line_level: int, seed: int = 3
) -> Iterator[tuple[UInt8, str]]:
    """Yields pages of squared and lined paper with 1 to 5 digits, and the number that they form.

    Args:
        x: images, uint8 of shape (n, 28, 28).
        y: labels, integers of shape (n,).
        count: number of pictures. Every second paper is lined, the others are squared.
        line_level: luminance of the lines; the paper has 248 and the pen 47.
        seed: of the pictures.
    """
    for index in range(count):
        random = np.random.default_rng([seed, index])
        chosen = random.integers(len(x), size=random.integers(1, 6))
        images = [x[each] for each in chosen]
        yield (
            draw_on_ruled_paper(images, line_level, index % 2 == 0, random),
            "".join(str(y[each]) for each in chosen),
        )


def draw_on_ruled_paper(
    images: list[UInt8], line_level: int, is_squared: bool, random: np.random.Generator
) -> UInt8:
    """Draws a row of digits with a pen on ruled paper, photographed at a slight angle."""
    side = int(random.integers(120, 260))
    spacing = side * random.uniform(0.2, 0.6)
    width, height = int(side * (len(images) + 1.2)), int(1.8 * side)
    paper = Image.new("L", (width, height), PAPER_LEVEL)
    draw = ImageDraw.Draw(paper)
    pen_px = int(random.integers(1, 5))
    tilt = random.uniform(-MAX_TILT, MAX_TILT)
    for offset in np.arange(-width, width + height, spacing) + random.uniform(0, spacing):
        line = [(0, offset), (width, offset + tilt * width)]
        draw.line(line, fill=line_level, width=pen_px)
        if is_squared:
            draw.line(
                [(offset, 0), (offset - tilt * height, height)], fill=line_level, width=pen_px
            )
    left = int(0.6 * side)
    for image in images:
        digit = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
        top = int(random.uniform(0.2, 0.6) * side)
        paper.paste(PEN_LEVEL, (left, top), mask=digit)
        left += side
    return add_noise(np.asarray(paper), random)
