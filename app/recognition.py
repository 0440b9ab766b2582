"""Probabilities of the digits in images of MNIST's format."""

from collections.abc import Callable

import numpy as np

from app.array_types import Float32, UInt8
from stages.data.scaling import Scaling

# Rows and columns, in pixels. A digit keeps its class when it is moved by a pixel; what the network
# makes of something else often changes.
MOVES_PX = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))


def digit_probabilities(
    images: UInt8, predict: Callable[[Float32], Float32], scaling: Scaling
) -> Float32:
    """Averages the network's probabilities over each image and its copies moved by a pixel.

    The average separates digits from non-digits and right from wrong answers better than the
    probabilities of the image alone: see benchmarks.non_digits. Such averages are called test-time
    augmentation.

    Args:
        images: uint8 of shape (n, 28, 28).
        predict: float32 (n, 28, 28) -> (n, 10).
        scaling: of the network's input.

    Returns:
        float32 of shape (n, 10).
    """
    copies = [np.roll(images, move, axis=(1, 2)) for move in MOVES_PX]
    probabilities = predict(scaling(np.concatenate(copies)))  # (5 * n, 10)
    return np.asarray(np.mean(np.split(probabilities, len(MOVES_PX)), axis=0))
