"""Keras model that compiles a whole training epoch into one XLA program.

For small networks the Python call for each batch costs as much as the arithmetic: at batch size 32
a step of the tutorial's network takes half a millisecond, and so does Keras's call. Here `fit`
still drives the epochs, callbacks and validation, but one of its steps is a whole epoch: its input
is a permutation of the training images, and XLA compiles the loop over the batches.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.common.errors import UserError
from stages.training.augmentation import Augmenter
from stages.training.deterministic_layers import deterministic_layers
from stages.training.network_checks import NOT_COMPILABLE, check_trainable
from stages.training.tensorflow_setup import keras, tf

# The outputs of a convolution for all images at once would take gigabytes.
EVAL_BATCH_SIZE = 1_000


class CompiledEpoch(keras.Model):  # type: ignore[misc]
    """Trains a network one epoch a step; call `fit` with `permutations`.

    A batch is trained as Keras does: with training=True, regularization losses, and the updates of
    state that is not trained (batch statistics, seeds of random layers).

    Args:
        network: a keras.Model from images, (n, …), to probabilities, (n, classes).
        x: training images, float32 of shape (n, …), used without a copy.
        y: labels, integers of shape (n,).
        batch_size: from 1 to n. The last batch of an epoch has the remaining images.
        augmenter: distorts each batch, or None.
    """

    def __init__(
        self,
        network: Any,
        x: npt.NDArray[Any],
        y: npt.NDArray[Any],
        batch_size: int,
        augmenter: Augmenter | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.x = zero_copy_tensor(x)
        self.y = tf.constant(y, tf.int32)
        self.batch_size = batch_size
        self.augmenter = augmenter

    def compile(self, optimizer: Any, loss: Any) -> None:
        """Compiles the network with an optimizer and a loss, which are saved with it.

        Raises:
            UserError: the network cannot be trained in this way; the message names the layer.
        """
        check_trainable(self.network)
        self.network.compile(optimizer, loss, metrics=["accuracy"])
        super().compile(self.network.optimizer, jit_compile=True)
        if not self.jit_compile:  # Keras has found a nested layer that XLA cannot compile
            raise UserError(f"The network {NOT_COMPILABLE}")
        # Variables cannot be created while the loop is traced.
        self.optimizer.build(self.network.trainable_variables)

    def train_step(self, epoch_and_permutation: tuple[Any, Any]) -> dict[str, Any]:
        """Trains one epoch, given its number and the order of the images, (n,)."""
        epoch, permutation = epoch_and_permutation
        images = self.y.shape[0]
        augmenter = self.augmenter
        noise = augmenter.noise(images, epoch) if augmenter else None  # (n, k)

        def train(start: Any, size: int) -> tuple[Any, Any]:
            # tf.slice: XLA would not know the length of permutation[start : start + size].
            indices = tf.slice(permutation, [start], [size])
            x = tf.gather(self.x, indices)
            if augmenter:
                x = augmenter(x, tf.gather(noise, indices))
            return self.train_batch(x, tf.gather(self.y, indices))

        with deterministic_layers():
            return mean_over_batches(train, images, self.batch_size)

    def train_batch(self, x: Any, labels: Any) -> tuple[Any, Any]:
        """Trains on images, (b, …), with labels, (b,); returns the mean loss and correct images."""
        variables = self.network.trainable_variables
        with tf.GradientTape() as tape:
            probabilities = self.network(x, training=True)  # (b, classes)
            loss = self.network.compute_loss(y=labels, y_pred=probabilities, training=True)
            scaled = self.optimizer.scale_loss(loss)  # for mixed precision
        self.optimizer.apply(tape.gradient(scaled, variables), variables)
        return loss, count_correct(labels, probabilities)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Loss and accuracy for images, (n, …), and labels, (n,)."""
        x, y = data

        def evaluate(start: Any, size: int) -> tuple[Any, Any]:
            indices = start + tf.range(size)
            labels = tf.gather(y, indices)
            probabilities = self.network(tf.gather(x, indices), training=False)  # (b, classes)
            loss = self.network.compute_loss(y=labels, y_pred=probabilities, training=False)
            return loss, count_correct(labels, probabilities)

        with deterministic_layers():
            return mean_over_batches(evaluate, y.shape[0], min(EVAL_BATCH_SIZE, y.shape[0]))


def mean_over_batches(
    step: Callable[[Any, int], tuple[Any, Any]], images: int, batch_size: int
) -> dict[str, Any]:
    """Mean loss and accuracy over batches.

    Args:
        step: from the index of a batch's first image and the size of the batch to its mean loss and
            its number of correct images.
        images: number of images, at least `batch_size`.
        batch_size: size of all batches but the last.
    """

    def add(i: Any, loss: Any, correct: Any) -> tuple[Any, Any, Any]:
        batch_loss, batch_correct = step(i * batch_size, batch_size)
        return (
            i + 1,
            loss + tf.cast(batch_loss, tf.float32) * batch_size,
            correct + batch_correct,
        )

    batches, rest = divmod(images, batch_size)
    _, loss, correct = tf.while_loop(lambda i, *_: i < batches, add, (0, 0.0, 0.0))
    if rest:
        rest_loss, rest_correct = step(batches * batch_size, rest)
        loss, correct = loss + tf.cast(rest_loss, tf.float32) * rest, correct + rest_correct
    return {"loss": loss / images, "accuracy": correct / images}


def count_correct(labels: Any, probabilities: Any) -> Any:
    best = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
    return tf.reduce_sum(tf.cast(best == tf.cast(labels, tf.int32), tf.float32))


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


def one_batch(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> Any:
    """A tf.data.Dataset with a single batch of all x, (n, …), and y, (n,), without a copy."""
    return without_autotune(
        tf.data.Dataset.from_tensors((zero_copy_tensor(x), zero_copy_tensor(y)))
    )


def zero_copy_tensor(array: npt.NDArray[Any]) -> Any:
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
