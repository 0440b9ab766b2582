"""Input of Keras's `fit`: the order of the training images, and the validation images."""

from typing import Any

import numpy as np
import numpy.typing as npt

from stages.training.tensorflow_setup import tf

Array = npt.NDArray[Any]


def permutations(images: int, seed: int, first: int, last: int) -> Any:
    """The order of the training images in each epoch from `first` to `last`, counted from 1.

    It depends on the seed and the epoch only, so that a resumed training sees the same batches.

    A Python generator or Keras's PyDataset is not used: TensorFlow then changes malloc's settings
    for large blocks (on Python 3.11), and an epoch on all cores takes 1.5 times as long.

    Returns:
        A tf.data.Dataset of the epoch's number, int64, and its order, int32 of shape (images,).
    """

    def permutation(epoch: int) -> npt.NDArray[np.int32]:
        return np.random.default_rng([seed, epoch]).permutation(images).astype(np.int32)

    def add_permutation(epoch: Any) -> Any:
        drawn = tf.numpy_function(permutation, [epoch], tf.int32)
        return epoch, tf.ensure_shape(drawn, [images])

    return without_autotune(tf.data.Dataset.range(first, last + 1).map(add_permutation))


def one_batch(x: Array, y: Array) -> Any:
    """A tf.data.Dataset with a single batch of all x, (n, …), and y, (n, …), without a copy."""
    return without_autotune(
        tf.data.Dataset.from_tensors((zero_copy_tensor(x), zero_copy_tensor(y)))
    )


def zero_copy_tensor(array: Array) -> Any:
    """A tensor that shares an array's memory, which must not change any more."""
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def without_autotune(dataset: Any) -> Any:
    """The dataset without its autotuning thread.

    These datasets need no tuning, and the end of an iteration waits for the thread's next wake-up:
    a little after each epoch, and seconds at the end of a training.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    # To rewrite the dataset's graph, TensorFlow would copy the arrays in it.
    options.experimental_optimization.apply_default_optimizations = False
    return dataset.with_options(options)
