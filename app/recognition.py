"""Probabilities of the digits in images of MNIST's format, and whether they are sure."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from app import SIDE
from app.array_types import Float32, Mask, UInt8
from stages.data.scaling import Scaling

# A digit whose probabilities have a higher entropy, in nats, is shown as uncertain, with the two
# likeliest digits. In rows of held-out training digits, 99.5% of the digits with at most this
# entropy were right: see benchmarks.confidence_threshold. It is not a parameter, because the
# tutorial trains on all training images, and a value chosen on the test images would be too
# optimistic. benchmarks.non_digits compares entropy with other scores.
MAX_ENTROPY = 0.57


class Move(NamedTuple):
    """Rotation in degrees, scale, and shift in rows and columns of pixels."""

    rotation: float = 0
    scale: float = 1
    rows: float = 0
    columns: float = 0


# A digit that is moved as little as this keeps its class. What the network makes of something else
# often changes.
MOVES = (
    Move(),
    *(Move(rows=1), Move(rows=-1), Move(columns=1), Move(columns=-1)),
    *(Move(rotation=10), Move(rotation=-10), Move(scale=1.1), Move(scale=0.9)),
)


def digit_probabilities(
    images: UInt8, predict: Callable[[Float32], Float32], scaling: Scaling
) -> Float32:
    """Averages the network's probabilities over each image and slightly moved copies of it.

    Such averages are called test-time augmentation.

    Args:
        images: uint8 of shape (n, 28, 28).
        predict: float32 (n, 28, 28) -> (n, 10).
        scaling: of the network's input.

    Returns:
        float32 of shape (n, 10).
    """
    copies = [moved(images, move) for move in MOVES]
    probabilities = predict(scaling(np.concatenate(copies)))
    return np.asarray(np.mean(np.split(probabilities, len(MOVES)), axis=0))


def moved(images: UInt8, move: Move) -> UInt8:
    """Rotates and scales images, uint8 (n, 28, 28), about their centre, and shifts them."""
    angle, center = np.radians(move.rotation), np.full(2, (SIDE - 1) / 2)
    inverse = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    inverse /= move.scale
    matrix = np.eye(3)
    matrix[1:, 1:] = inverse
    shift = np.array([move.rows, move.columns])
    offset = [0, *(center - inverse @ (center + shift))]
    return np.asarray(ndimage.affine_transform(images, matrix, offset, order=1))


def entropy(probabilities: Float32) -> Float32:
    """Entropy in nats of probabilities of shape (n, 10): 0 if one of them is 1."""
    return np.asarray(-(probabilities * np.log(np.maximum(probabilities, 1e-12))).sum(axis=1))


def is_sure(probabilities: Float32) -> Mask:
    """Whether each digit of a picture is sure, bool (n,), by its probabilities, float32 (n, 10)."""
    sure = entropy(probabilities) <= MAX_ENTROPY
    return np.asarray(sure & (np.mean(sure) > 0.5))
