"""The one digit of a picture, and how alike two images are, whatever pixel they centre on."""

import itertools

import numpy as np
import numpy.typing as npt

from app.digits import digits

UInt8 = npt.NDArray[np.uint8]


def likeness(a: UInt8, b: UInt8) -> float:
    """The correlation of two images' pixels, 1 for the same; a pixel's shift costs nothing."""
    shifted = (np.roll(b, by, (0, 1)) for by in itertools.product((-1, 0, 1), repeat=2))
    return max(float(np.corrcoef(a.ravel(), each.ravel())[0, 1]) for each in shifted)


def mnist_image(grey: UInt8) -> UInt8:
    """The image of the only digit in a picture."""
    (digit,) = digits(grey)
    return digit.image
