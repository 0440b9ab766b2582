"""Digits as another hand might have drawn them: turned, scaled, slanted, shifted, bent.

Affine and elastic distortions as by Simard, Steinkraus and Platt, "Best practices for
convolutional neural networks applied to visual document analysis" (ICDAR 2003), fresh for every
image in every epoch.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.data.arrays import SIDE
from stages.training.parameters import Warp
from stages.training.repeatable import tf

CENTRE = (SIDE - 1) / 2
AFFINE = 6  # random numbers of an image: rotation, two scales, shear, two shifts


class Warping:
    """Draws the warps of an epoch, and applies them.

    Args:
        warp: how far images are warped; not all 0.
        seed: from 0 to 2**32 - 1.
        background: the value of a black pixel, which is what lies outside of an image.
    """

    def __init__(self, warp: Warp, seed: int, background: float) -> None:
        self.warp, self.seed, self.background = warp, seed, background
        bends = warp.elastic_amplitude > 0
        self.bumps = bumps(warp.elastic_smoothness) if bends else np.zeros((SIDE, 0), np.float32)

    def noise(self, images: int, epoch: Any) -> Any:
        """What decides the warps of an epoch: numbers from -1 to 1, float32 of shape (images, k).

        A row depends on the seed, the epoch and the image's place alone.
        """
        numbers = AFFINE + 2 * self.bumps.shape[1] ** 2
        key = tf.stack([tf.constant(self.seed, tf.int64), tf.cast(epoch, tf.int64)])
        return tf.random.stateless_uniform((images, numbers), key, -1, 1, alg="philox")

    def __call__(self, images: Any, noise: Any) -> Any:
        """Warps images, (b, 28, 28), by their rows of the noise, (b, k)."""
        return resampled(images - self.background, *self.places(noise)) + self.background

    def places(self, noise: Any) -> tuple[Any, Any]:
        """Where each pixel comes from, as `resampled` takes it: rows and columns, (b, 28, 28).

        Every step adds one product to one number. Of a sum of two products a compiler rounds the
        one or the other but once, and not the same on every processor. Sine and cosine, too,
        differ in the last bit.
        """
        warp = self.warp
        turn, wide, high, slant, right, down = (
            tf.reshape(number, (-1, 1, 1)) for number in tf.unstack(noise[:, :AFFINE], axis=1)
        )
        from_centre = tf.range(SIDE, dtype=tf.float32) - CENTRE
        y, x = from_centre[:, None], from_centre
        # A rotation as three shears: A. W. Paeth, "A fast algorithm for general raster rotation",
        # Graphics Interface '86.
        half = math.tan(math.radians(warp.rotation) / 2) * turn  # the tangent of half the angle
        x += half * y  # (b, 28, 28)
        y -= 2 * half / (1 + half * half) * x
        x += half * y
        x += math.tan(math.radians(warp.shear)) * slant * y
        y, x = y / (1 + warp.scale * high), x / (1 + warp.scale * wide)
        y, x = y + warp.shift * down, x + warp.shift * right
        if self.bumps.shape[1]:
            grid = (-1, 2, self.bumps.shape[1], self.bumps.shape[1])
            coarse = tf.reshape(noise[:, AFFINE:], grid)
            bent = tf.matmul(self.bumps, tf.matmul(coarse, self.bumps, transpose_b=True))
            # √3: the numbers' own root mean square is 1/√3.
            bent *= math.sqrt(3) * warp.elastic_amplitude  # (b, 2, 28, 28)
            y, x = y + bent[:, 0], x + bent[:, 1]
        return y + CENTRE, x + CENTRE


def bumps(smoothness: float) -> npt.NDArray[np.float32]:
    """What makes noise on a coarse grid a smooth field: bumps, (28, g), B of B · noise · Bᵀ.

    Simard's field is noise on every pixel, smoothed by a Gaussian. Noise on a grid of one and a
    half of its standard deviations gives the same field but for a fortieth, with a tenth as much
    to draw. The field's root mean square is that of the noise, on every pixel.

    Args:
        smoothness: the standard deviation of the Gaussian in pixels.
    """
    spacing = 1.5 * smoothness
    reach = math.ceil(CENTRE / spacing + 1)
    # By math, not NumPy, whose exp depends on the processor.
    weights = [
        [
            math.exp(-(((pixel - CENTRE - spacing * place) / smoothness) ** 2) / 2)
            for place in range(-reach, reach + 1)
        ]
        for pixel in range(SIDE)
    ]
    return np.array([[w / math.hypot(*row) for w in row] for row in weights], np.float32)


def resampled(images: Any, rows: Any, columns: Any) -> Any:
    """Images whose pixels come from elsewhere, linearly interpolated; 0 from outside.

    Args:
        images: float32 of shape (b, 28, 28).
        rows: for each pixel, which row it comes from, float32 of shape (b, 28, 28).
        columns: and which column.
    """
    # With a border of 0, wide enough for the neighbours of what is clipped.
    side = SIDE + 3
    padded = tf.pad(images, [[0, 0], [1, 2], [1, 2]])  # (b, 31, 31)
    rows = tf.clip_by_value(rows + 1, 0, SIDE + 1)
    columns = tf.clip_by_value(columns + 1, 0, SIDE + 1)
    row, column = tf.floor(rows), tf.floor(columns)
    down, right = rows - row, columns - column
    # One index into all pixels: XLA looks them up several times faster than by image, row, column.
    pixels = tf.reshape(padded, [-1])
    image = tf.reshape(tf.range(images.shape[0]) * side**2, (-1, 1, 1))
    place = image + tf.cast(side * row + column, tf.int32)  # (b, 28, 28)
    above, below = (
        between(tf.gather(pixels, start), tf.gather(pixels, start + 1), right)
        for start in (place, place + side)
    )
    return between(above, below, down)


def between(a: Any, b: Any, share: Any) -> Any:
    return a + (b - a) * share
