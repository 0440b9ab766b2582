"""Random affine and elastic distortions of training images.

Source: P. Y. Simard, D. Steinkraus and J. C. Platt, "Best practices for convolutional neural
networks applied to visual document analysis" (ICDAR 2003). Each image is distorted anew in each
epoch.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.training.hyperparameters import Augmentation
from stages.training.tensorflow_setup import tf

AFFINE = 6  # random numbers of an image: rotation, two scales, shear, two shifts


class Augmenter:
    """Draws random distortions and applies them.

    Args:
        augmentation: the limits of the distortions, of which one is not 0.
        seed: from 0 to 2**32 - 1.
        background: value of a black pixel, which fills the area around an image.
        image_shape: (h, w) or (h, w, channels).
    """

    def __init__(
        self,
        augmentation: Augmentation,
        seed: int,
        background: float,
        image_shape: tuple[int, ...],
    ) -> None:
        self.augmentation, self.seed, self.background = augmentation, seed, background
        self.height, self.width = image_shape[:2]
        self.is_elastic = augmentation.elastic_amplitude > 0
        smoothness = augmentation.elastic_smoothness
        self.row_basis = gaussian_basis(smoothness, self.height)  # (h, g)
        self.column_basis = gaussian_basis(smoothness, self.width)  # (w, k)
        self.grid = (2, self.row_basis.shape[1], self.column_basis.shape[1])

    def noise(self, images: int, epoch: Any) -> Any:
        """The random numbers of an epoch, from -1 to 1, float32 of shape (images, k).

        A row depends on the seed, the epoch and the index of its image only.
        """
        numbers = AFFINE + (math.prod(self.grid) if self.is_elastic else 0)
        key = tf.stack([tf.constant(self.seed, tf.int64), tf.cast(epoch, tf.int64)])
        return tf.random.stateless_uniform((images, numbers), key, -1, 1, alg="philox")

    def __call__(self, images: Any, noise: Any) -> Any:
        """Distorts images, (b, *image_shape), given their rows of the noise, (b, k)."""
        rows, columns = self.source_positions(noise)
        return resample(images - self.background, rows, columns) + self.background

    def source_positions(self, noise: Any) -> tuple[Any, Any]:
        """The row and column that each output pixel is read from, (b, h, w) each.

        Each step adds one product to one number. In a·b + c·d one product is fused into the
        addition and not rounded; which one differs between x86-64 and ARM. Sine and cosine also
        differ between processors in the last bit, so they are avoided.
        """
        limits = self.augmentation
        turn, wide, high, slant, right, down = (
            tf.reshape(number, (-1, 1, 1)) for number in tf.unstack(noise[:, :AFFINE], axis=1)
        )
        centre_y, centre_x = (self.height - 1) / 2, (self.width - 1) / 2
        y = tf.range(self.height, dtype=tf.float32)[:, None] - centre_y
        x = tf.range(self.width, dtype=tf.float32) - centre_x
        # A rotation as three shears: A. W. Paeth, "A fast algorithm for general raster rotation",
        # Graphics Interface '86.
        half = math.tan(math.radians(limits.rotation) / 2) * turn  # tangent of half the angle
        x += half * y  # (b, h, w)
        y -= 2 * half / (1 + half * half) * x
        x += half * y
        x += math.tan(math.radians(limits.shear)) * slant * y
        y, x = y / (1 + limits.scale * high), x / (1 + limits.scale * wide)
        y, x = y + limits.shift * down, x + limits.shift * right
        if self.is_elastic:
            coarse = tf.reshape(noise[:, AFFINE:], (-1, *self.grid))
            of_rows = tf.matmul(coarse, self.column_basis, transpose_b=True)
            field = tf.matmul(self.row_basis, of_rows)
            # √3: uniform numbers from -1 to 1 have the root mean square 1/√3.
            field *= math.sqrt(3) * limits.elastic_amplitude  # (b, 2, h, w)
            y, x = y + field[:, 0], x + field[:, 1]
        return y + centre_y, x + centre_x


def gaussian_basis(smoothness: float, side: int) -> npt.NDArray[np.float32]:
    """Basis functions, (side, g), such that B · noise · Cᵀ is a smooth random field.

    B is the basis of an image's height and C that of its width.

    Simard's field is noise on each pixel, smoothed by a Gaussian. Noise on a grid with a spacing of
    1.5 standard deviations approximates that field to 1/40 of its amplitude, from a tenth of the
    random numbers. At each pixel, the field's root mean square is that of the noise.

    Args:
        smoothness: standard deviation of the Gaussian in pixels.
        side: height or width of an image in pixels.
    """
    spacing, centre = 1.5 * smoothness, (side - 1) / 2
    reach = math.ceil(centre / spacing + 1)
    # math.exp: the last bit of NumPy's depends on the processor.
    weights = [
        [
            math.exp(-(((pixel - centre - spacing * place) / smoothness) ** 2) / 2)
            for place in range(-reach, reach + 1)
        ]
        for pixel in range(side)
    ]
    return np.array([[w / math.hypot(*row) for w in row] for row in weights], np.float32)


def resample(images: Any, rows: Any, columns: Any) -> Any:
    """Reads images at other positions by bilinear interpolation; outside of an image is 0.

    Args:
        images: float32 of shape (b, h, w) or (b, h, w, channels).
        rows: the row to read for each output pixel, float32 of shape (b, h, w).
        columns: the column to read.
    """
    height, width, *channels = images.shape[1:]
    # A border of zeros, wide enough for the neighbours of clipped positions.
    padded = tf.pad(images, [[0, 0], [1, 2], [1, 2], *([0, 0] for _ in channels)])
    row_pixels = width + 3
    rows = tf.clip_by_value(rows + 1, 0, height + 1)
    columns = tf.clip_by_value(columns + 1, 0, width + 1)
    row, column = tf.floor(rows), tf.floor(columns)
    down, right = rows - row, columns - column
    # One flat index: XLA gathers by it several times faster than by (image, row, column).
    pixels = tf.reshape(padded, [-1, *channels])
    image = tf.reshape(tf.range(images.shape[0]) * ((height + 3) * row_pixels), (-1, 1, 1))
    index = image + tf.cast(row_pixels * row + column, tf.int32)  # (b, h, w)
    if channels:  # all channels of a pixel have the same weights
        down, right = down[..., None], right[..., None]
    above, below = (
        lerp(tf.gather(pixels, start), tf.gather(pixels, start + 1), right)
        for start in (index, index + row_pixels)
    )
    return lerp(above, below, down)


def lerp(a: Any, b: Any, weight: Any) -> Any:
    """Linear interpolation from a (weight 0) to b (weight 1)."""
    return a + (b - a) * weight
