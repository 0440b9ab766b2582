"""A whole epoch as one compiled program, for networks whose single steps are over too soon.

At batch size 32 a step of the tutorial's network is half a millisecond of arithmetic, and
Keras's `fit` spends as much again on calling it. Here `fit` still drives the epochs, the
callbacks and the validation, but what it takes for one step is an epoch: the batch is a
permutation of the training images, and XLA compiles the loop over its minibatches.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from stages.training.repeatable import keras, tf


class CompiledEpoch(keras.Model):  # type: ignore[misc]
    """Trains a network an epoch at a time; fit it on `permutations`, a step for each epoch.

    Args:
        network: a keras.Sequential that gives probabilities, (n, …) -> (n, classes). Its dense
            layers have biases, as Keras's do unless told.
        x: the training images, float32 of shape (n, …). TensorFlow uses their memory as it
            is, mapped from a file or not, so they must stay as they are.
        y: their labels, whole numbers of shape (n,).
        batch_size: from 1 to n. The last batch has what is left, as in Keras.
    """

    def __init__(
        self, network: Any, x: npt.NDArray[Any], y: npt.NDArray[Any], batch_size: int
    ) -> None:
        super().__init__()
        self.network = network
        self.x = tf.experimental.dlpack.from_dlpack(x.__dlpack__())  # no copy
        self.y = tf.constant(y, tf.int32)
        self.batch_size = batch_size

    def compile(self, optimizer: Any) -> None:
        """Takes the optimizer; the loss is the cross-entropy, accuracy is reported with it."""
        super().compile(optimizer, jit_compile=True)
        # Before the loop is traced, which can create no variables.
        optimizer.build(self.network.trainable_variables)

    def train_step(self, permutation: Any) -> dict[str, Any]:
        """An epoch: updates the network by each minibatch of the images in this order, (n,)."""
        images, size = self.y.shape[0], self.batch_size

        def train_on(i: Any, loss: Any, right: Any) -> tuple[Any, Any, Any]:
            # Not permutation[i * size : ...], of which XLA does not see the length.
            batch_loss, batch_right = self.minibatch(tf.slice(permutation, [i * size], [size]))
            return i + 1, loss + batch_loss, right + batch_right

        whole = images // size
        _, loss, right = tf.while_loop(lambda i, *_: i < whole, train_on, (0, 0.0, 0.0))
        if images % size:
            rest_loss, rest_right = self.minibatch(permutation[whole * size :])
            loss, right = loss + rest_loss, right + rest_right
        return {"loss": loss / images, "accuracy": right / images}

    def minibatch(self, places: Any) -> tuple[Any, Any]:
        """Updates the network by the images at these places, (b,); sums of loss and hits."""
        variables = self.network.trainable_variables
        labels = tf.gather(self.y, places)
        with tf.GradientTape() as tape:
            probabilities = self.forward(tf.gather(self.x, places))  # (b, classes)
            losses = cross_entropy(labels, probabilities)  # (b,)
            loss = tf.reduce_mean(losses)
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return tf.reduce_sum(losses), hits(labels, probabilities)

    def forward(self, x: Any) -> Any:
        """What the network gives for images, (b, …) -> (b, classes), by `product`."""
        for layer in self.network.layers:
            if isinstance(layer, keras.layers.Dense):
                x = layer.activation(product(x, layer.kernel.value) + layer.bias)
            else:
                x = layer(x)
        return x

    def test_step(self, data: Any) -> dict[str, Any]:
        x, labels = data
        probabilities = self.network(x)
        images = tf.cast(tf.shape(labels)[0], tf.float32)
        return {
            "loss": tf.reduce_mean(cross_entropy(labels, probabilities)),
            "accuracy": hits(labels, probabilities) / images,
        }


@tf.custom_gradient  # type: ignore[untyped-decorator]
def product(x: Any, weights: Any) -> Any:
    """The matrix product, (b, m) · (m, n) -> (b, n), with its gradient written out.

    TensorFlow's own has x read as if transposed. XLA leaves such a product to Eigen, which adds
    up in an order that depends on the sizes of the processor's caches. All others it leaves to
    YNNPACK, which can add up alike everywhere, and takes less time. So x is transposed here, and
    the flags in `repeatable` keep XLA from putting the two back together.
    """

    def gradients(upstream: Any) -> tuple[Any, Any]:  # (b, n)
        return tf.matmul(upstream, weights, transpose_b=True), tf.matmul(tf.transpose(x), upstream)

    return tf.matmul(x, weights), gradients


def cross_entropy(labels: Any, probabilities: Any) -> Any:
    return keras.losses.sparse_categorical_crossentropy(labels, probabilities)


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
        A tf.data.Dataset of int32 tensors, (images,).
    """

    def permutation(epoch: int) -> npt.NDArray[np.int32]:
        return np.random.default_rng([seed, epoch]).permutation(images).astype(np.int32)

    def order(epoch: Any) -> Any:
        return tf.ensure_shape(tf.numpy_function(permutation, [epoch], tf.int32), [images])

    return untuned(tf.data.Dataset.range(first, last + 1).map(order))


def one_batch(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> Any:
    """A tf.data.Dataset whose only batch is all of x, (n, …), and y, (n,)."""
    return untuned(tf.data.Dataset.from_tensors((x, y)))


def untuned(dataset: Any) -> Any:
    """The dataset without the thread that tunes it.

    There is nothing to tune, and who is done with the dataset waits for that thread, which looks
    up ever more seldom: for seconds at the end of a training, and a little after each epoch.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
