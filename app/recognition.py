"""Probabilities of the digits in images of MNIST's format, and their entropy."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from app import SIDE
from app.array_types import Float32, UInt8
from stages.data.scaling import Scaling


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
