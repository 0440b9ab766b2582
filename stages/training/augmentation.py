"""Random affine and elastic distortions of training images.

Source: P. Y. Simard, D. Steinkraus and J. C. Platt, "Best practices for convolutional neural
networks applied to visual document analysis" (ICDAR 2003). Each image is distorted anew in each
epoch.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.data.arrays import SIDE
from stages.training.hyperparameters import Augmentation
from stages.training.tensorflow_setup import tf

CENTRE = (SIDE - 1) / 2
AFFINE = 6  # random numbers of an image: rotation, two scales, shear, two shifts


class Augmenter:
    """Draws random distortions and applies them.

    Args:
        augmentation: the limits of the distortions, of which one is not 0.
        seed: from 0 to 2**32 - 1.
        background: value of a black pixel, which fills the area around an image.
    """

    def __init__(self, augmentation: Augmentation, seed: int, background: float) -> None:
        self.augmentation, self.seed, self.background = augmentation, seed, background
        is_elastic = augmentation.elastic_amplitude > 0
        smoothness = augmentation.elastic_smoothness
        self.basis = gaussian_basis(smoothness) if is_elastic else np.zeros((SIDE, 0), np.float32)

    def noise(self, images: int, epoch: Any) -> Any:
        """The random numbers of an epoch, from -1 to 1, float32 of shape (images, k).

        A row depends on the seed, the epoch and the index of its image only.
        """
        numbers = AFFINE + 2 * self.basis.shape[1] ** 2
        key = tf.stack([tf.constant(self.seed, tf.int64), tf.cast(epoch, tf.int64)])
        return tf.random.stateless_uniform((images, numbers), key, -1, 1, alg="philox")

    def __call__(self, images: Any, noise: Any) -> Any:
        """Distorts images, (b, 28, 28), given their rows of the noise, (b, k)."""
        rows, columns = self.source_positions(noise)
        return resample(images - self.background, rows, columns) + self.background

    def source_positions(self, noise: Any) -> tuple[Any, Any]:
        """The row and column that each output pixel is read from, (b, 28, 28) each.

        Each step adds one product to one number. In a·b + c·d one product is fused into the
        addition and not rounded; which one differs between x86-64 and ARM. Sine and cosine also
        differ between processors in the last bit, so they are avoided.
        """
        limits = self.augmentation
        turn, wide, high, slant, right, down = (
            tf.reshape(number, (-1, 1, 1)) for number in tf.unstack(noise[:, :AFFINE], axis=1)
        )
        from_centre = tf.range(SIDE, dtype=tf.float32) - CENTRE
        y, x = from_centre[:, None], from_centre
        # A rotation as three shears: A. W. Paeth, "A fast algorithm for general raster rotation",
        # Graphics Interface '86.
        half = math.tan(math.radians(limits.rotation) / 2) * turn  # tangent of half the angle
        x += half * y  # (b, 28, 28)
        y -= 2 * half / (1 + half * half) * x
        x += half * y
        x += math.tan(math.radians(limits.shear)) * slant * y
        y, x = y / (1 + limits.scale * high), x / (1 + limits.scale * wide)
        y, x = y + limits.shift * down, x + limits.shift * right
        if self.basis.shape[1]:
            grid = (-1, 2, self.basis.shape[1], self.basis.shape[1])
            coarse = tf.reshape(noise[:, AFFINE:], grid)
            field = tf.matmul(self.basis, tf.matmul(coarse, self.basis, transpose_b=True))
            # √3: uniform numbers from -1 to 1 have the root mean square 1/√3.
            field *= math.sqrt(3) * limits.elastic_amplitude  # (b, 2, 28, 28)
            y, x = y + field[:, 0], x + field[:, 1]
        return y + CENTRE, x + CENTRE


def gaussian_basis(smoothness: float) -> npt.NDArray[np.float32]:
    """Basis functions B, (28, g), such that B · noise · Bᵀ is a smooth random field.

    Simard's field is noise on each pixel, smoothed by a Gaussian. Noise on a grid with a spacing of
    1.5 standard deviations approximates that field to 1/40 of its amplitude, from a tenth of the
    random numbers. At each pixel, the field's root mean square is that of the noise.

    Args:
        smoothness: standard deviation of the Gaussian in pixels.
    """
    spacing = 1.5 * smoothness
    reach = math.ceil(CENTRE / spacing + 1)
    # math.exp: the last bit of NumPy's depends on the processor.
    weights = [
        [
            math.exp(-(((pixel - CENTRE - spacing * place) / smoothness) ** 2) / 2)
            for place in range(-reach, reach + 1)
        ]
        for pixel in range(SIDE)
    ]
    return np.array([[w / math.hypot(*row) for w in row] for row in weights], np.float32)


def resample(images: Any, rows: Any, columns: Any) -> Any:
    """Reads images at other positions by bilinear interpolation; outside of an image is 0.

    Args:
        images: float32 of shape (b, 28, 28).
        rows: the row to read for each output pixel, float32 of shape (b, 28, 28).
        columns: the column to read.
    """
    # A border of zeros, wide enough for the neighbours of clipped positions.
    side = SIDE + 3
    padded = tf.pad(images, [[0, 0], [1, 2], [1, 2]])  # (b, 31, 31)
    rows = tf.clip_by_value(rows + 1, 0, SIDE + 1)
    columns = tf.clip_by_value(columns + 1, 0, SIDE + 1)
    row, column = tf.floor(rows), tf.floor(columns)
    down, right = rows - row, columns - column
    # One flat index: XLA gathers by it several times faster than by (image, row, column).
    pixels = tf.reshape(padded, [-1])
    image = tf.reshape(tf.range(images.shape[0]) * side**2, (-1, 1, 1))
    index = image + tf.cast(side * row + column, tf.int32)  # (b, 28, 28)
    above, below = (
        lerp(tf.gather(pixels, start), tf.gather(pixels, start + 1), right)
        for start in (index, index + side)
    )
    return lerp(above, below, down)


def lerp(a: Any, b: Any, weight: Any) -> Any:
    """Linear interpolation from a (weight 0) to b (weight 1)."""
    return a + (b - a) * weight
