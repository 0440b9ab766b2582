"""Pictures of digits, drawn for the tests."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from stages.data.datasets import embedded_mnist_5k

UInt8 = npt.NDArray[np.uint8]

ARRAYS = embedded_mnist_5k()


def on_paper(*images: UInt8, paper: int = 240, ink: int = 20) -> Image.Image:
    """Draws MNIST's images side by side, 140 pixels high, with gaps of 30 pixels."""
    cut = [Image.fromarray(image[:, image.any(axis=0)]) for image in images]
    digits = [each.resize((5 * each.width, 140), Image.Resampling.BICUBIC) for each in cut]
    picture = Image.new("L", (60 + sum(digit.width + 30 for digit in digits), 200), paper)
    left = 45
    for digit in digits:
        picture.paste(ink, (left, 30), mask=digit)
        left += digit.width + 30
    return picture


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The content of a picture file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
