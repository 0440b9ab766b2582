"""Scaling of pixels from 0..255 to the network's input."""

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt


class Scaling(NamedTuple):
    """Maps a pixel x to (x - offset) / divisor."""

    offset: float
    divisor: float

    @classmethod
    def fit(
        cls, name: Literal["unit", "standard"], x_train: Iterable[npt.NDArray[np.uint8]]
    ) -> Self:
        """Computes the offset and the divisor from the training images.

        Args:
            name: `unit` maps 0..255 to 0..1. `standard` gives the training pixels, taken
                together, mean 0 and variance 1.
            x_train: the images, or parts of them, uint8 of any shape.
        """
        if name == "unit":
            return cls(offset=0.0, divisor=255.0)
        # Sums of integers are exact, so they do not depend on the order of summation.
        counts = sum(np.bincount(part.ravel(), minlength=256) for part in x_train)
        pixels, size = np.arange(256), int(np.sum(counts))
        mean = int(counts @ pixels) / size
        variance = int(counts @ pixels**2) / size - mean**2
        return cls(offset=mean, divisor=float(np.sqrt(variance)))

    def __call__(self, x: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Scales pixels, uint8 or float, of any shape to float32."""
        scaled = x.astype(np.float32)
        scaled -= np.float32(self.offset)
        scaled /= np.float32(self.divisor)
        return scaled
