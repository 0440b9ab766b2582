"""A whole epoch as one compiled program, for networks whose single steps are over too soon.

At batch size 32 a step of the tutorial's network is half a millisecond of arithmetic, and
Keras's `fit` spends as much again on calling it. Here `fit` still drives the epochs, the
callbacks and the validation, but what it takes for one step is an epoch: the batch is a
permutation of the training images, and XLA compiles the loop over its minibatches.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.edges.bad_input import BadInput
from stages.training.layers import layers_for_xla
from stages.training.repeatable import keras, tf
from stages.training.unsupported import COMPILES, refuse_unsupported
from stages.training.warps import Warping

# Images that are judged at a time. All at once, a convolution's outputs would take gigabytes.
JUDGED = 1_000


class CompiledEpoch(keras.Model):  # type: ignore[misc]
    """Trains a network an epoch at a time; fit it on `permutations`, a step for each epoch.

    Every step is what Keras's own would be: layers know that they are trained, the losses of
    regularizers count, and what layers keep apart from weights (the statistics of a batch
    normalization, where a random layer has got to) goes on from step to step.

    Args:
        network: a keras.Model that gives probabilities, (n, …) -> (n, classes).
        x: the training images, float32 of shape (n, …), which are not copied.
        y: their labels, whole numbers of shape (n,).
        batch_size: from 1 to n. The last batch has what is left, as in Keras.
        warping: what is done to each image before the network is trained on it.
    """

    def __init__(
        self,
        network: Any,
        x: npt.NDArray[Any],
        y: npt.NDArray[Any],
        batch_size: int,
        warping: Warping | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.x = in_place(x)
        self.y = tf.constant(y, tf.int32)
        self.batch_size = batch_size
        self.warping = warping

    def compile(self, optimizer: Any, loss: Any) -> None:
        """Takes the optimizer and the loss, as Keras does; accuracy is reported with it.

        They become the network's own, so that they are saved with it.

        Raises:
            BadInput: the network cannot be trained in this way; the message names the layer.
        """
        refuse_unsupported(self.network)
        self.network.compile(optimizer, loss, metrics=["accuracy"])
        super().compile(self.network.optimizer, jit_compile=True)
        if not self.jit_compile:  # a layer inside of another has said that it cannot be compiled
            raise BadInput(f"The network {COMPILES}")
        # Before the loop is traced, which can create no variables.
        self.optimizer.build(self.network.trainable_variables)

    def train_step(self, epoch_and_order: tuple[Any, Any]) -> dict[str, Any]:
        """An epoch, of this number: updates the network by minibatches in this order, (n,)."""
        epoch, permutation = epoch_and_order
        images = self.y.shape[0]
        warping = self.warping
        noise = warping.noise(images, epoch) if warping else None  # (n, k)

        def train_on(start: Any, size: int) -> tuple[Any, Any]:
            # Not permutation[start : start + size], of which XLA does not see the length.
            places = tf.slice(permutation, [start], [size])
            x = tf.gather(self.x, places)
            if warping:
                x = warping(x, tf.gather(noise, places))
            return self.minibatch(x, tf.gather(self.y, places))

        with layers_for_xla():
            return means(train_on, images, self.batch_size)

    def minibatch(self, x: Any, labels: Any) -> tuple[Any, Any]:
        """Updates the network by images, (b, …), with labels, (b,); their mean loss, and hits."""
        variables = self.network.trainable_variables
        with tf.GradientTape() as tape:
            probabilities = self.network(x, training=True)  # (b, classes)
            loss = self.network.compute_loss(y=labels, y_pred=probabilities, training=True)
            scaled = self.optimizer.scale_loss(loss)  # for training in float16
        self.optimizer.apply(tape.gradient(scaled, variables), variables)
        return loss, hits(labels, probabilities)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Loss and accuracy of images, (n, …), with labels, (n,)."""
        x, y = data

        def judge(start: Any, size: int) -> tuple[Any, Any]:
            places = start + tf.range(size)
            labels = tf.gather(y, places)
            probabilities = self.network(tf.gather(x, places), training=False)  # (b, classes)
            loss = self.network.compute_loss(y=labels, y_pred=probabilities, training=False)
            return loss, hits(labels, probabilities)

        with layers_for_xla():
            return means(judge, y.shape[0], min(JUDGED, y.shape[0]))


def means(step: Callable[[Any, int], tuple[Any, Any]], images: int, size: int) -> dict[str, Any]:
    """The mean loss and accuracy of images that are taken so many at a time, then what is left.

    Args:
        step: from the place of a batch's first image and the batch's size to its mean loss
            and its hits.
        images: of them all, at least `size`.
        size: of a batch.
    """

    def add(i: Any, loss: Any, right: Any) -> tuple[Any, Any, Any]:
        batch_loss, batch_right = step(i * size, size)
        return i + 1, loss + tf.cast(batch_loss, tf.float32) * size, right + batch_right

    whole, left = divmod(images, size)
    _, loss, right = tf.while_loop(lambda i, *_: i < whole, add, (0, 0.0, 0.0))
    if left:
        rest_loss, rest_right = step(whole * size, left)
        loss, right = loss + tf.cast(rest_loss, tf.float32) * left, right + rest_right
    return {"loss": loss / images, "accuracy": right / images}


def hits(labels: Any, probabilities: Any) -> Any:
    best = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
    return tf.reduce_sum(tf.cast(best == tf.cast(labels, tf.int32), tf.float32))


def permutations(images: int, seed: int, first: int, last: int) -> Any:
    """For each epoch from the first to the last, counted from 1, the order of the training images.

    It depends on the seed and the epoch alone, so a training that goes on after some epochs
    sees what an uninterrupted one sees.

    Not from a generator, which a PyDataset of Keras is in the end: TensorFlow's Dataset of one (on
    Python 3.11) sets how malloc gets large blocks, and with all cores an epoch then takes half as
    long again.

    Returns:
        A tf.data.Dataset of each epoch's number, int64, and its order, int32 of shape (images,).
    """

    def permutation(epoch: int) -> npt.NDArray[np.int32]:
        return np.random.default_rng([seed, epoch]).permutation(images).astype(np.int32)

    def order(epoch: Any) -> Any:
        drawn = tf.numpy_function(permutation, [epoch], tf.int32)
        return epoch, tf.ensure_shape(drawn, [images])

    return untuned(tf.data.Dataset.range(first, last + 1).map(order))


def one_batch(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> Any:
    """A tf.data.Dataset whose only batch is all of x, (n, …), and y, (n,), in their own memory."""
    return untuned(tf.data.Dataset.from_tensors((in_place(x), in_place(y))))


def in_place(array: npt.NDArray[Any]) -> Any:
    """A tensor of an array's own memory, mapped from a file or not, which must stay as it is."""
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def untuned(dataset: Any) -> Any:
    """The dataset without the thread that tunes it.

    There is nothing to tune, and who is done with the dataset waits for that thread, which looks
    up ever more seldom: for seconds at the end of a training, and a little after each epoch.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
