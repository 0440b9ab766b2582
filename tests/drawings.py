"""Pictures of digits for the tests."""

import io
from typing import Any

from PIL import Image

from app.array_types import UInt8
from stages.data.datasets import load_mnist_5k

ARRAYS = load_mnist_5k()


def draw_row(*images: UInt8, background: int = 240, foreground: int = 20) -> Image.Image:
    """Draws images of MNIST side by side, 140 pixels high, with gaps of 30 pixels.

    Args:
        images: uint8 of shape (28, 28) each.
        background: grey level.
        foreground: grey level of the strokes.
    """
    digits = []
    for image in images:
        digit = Image.fromarray(image[:, image.any(axis=0)])
        digits.append(digit.resize((5 * digit.width, 140), Image.Resampling.BICUBIC))
    picture = Image.new("L", (60 + sum(digit.width + 30 for digit in digits), 200), background)
    left = 45
    for digit in digits:
        picture.paste(foreground, (left, 30), mask=digit)
        left += digit.width + 30
    return picture


def encode(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    """Encodes a picture as the content of a file; `options` are those of Pillow's save()."""
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()
