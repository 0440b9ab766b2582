"""How alike two images are, whatever the pixel that they were centred on."""

import itertools

import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]


def likeness(a: UInt8, b: UInt8) -> float:
    """The correlation of two images' pixels, 1 for the same; a pixel's shift costs nothing."""
    shifted = (np.roll(b, by, (0, 1)) for by in itertools.product((-1, 0, 1), repeat=2))
    return max(float(np.corrcoef(a.ravel(), each.ravel())[0, 1]) for each in shifted)
