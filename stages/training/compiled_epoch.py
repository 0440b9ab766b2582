"""Training epochs that are compiled into one XLA program each.

For small networks the Python call for each batch costs as much as the arithmetic: at batch size 32
a step of the tutorial's network takes half a millisecond, and so does Keras's call. Here Keras's
`fit` still drives epochs, callbacks and validation, but one of its steps is a whole epoch: its
input is a permutation of the training images, and XLA compiles the loop over the batches.
"""

from collections.abc import Callable
from typing import Any

import numpy.typing as npt

from stages.common.errors import UserError
from stages.training.augmentation import Augmenter
from stages.training.definition_checks import DEFINITION, check_metrics, check_sample_weight
from stages.training.deterministic_layers import deterministic_layers
from stages.training.image_order import zero_copy_tensor
from stages.training.network_checks import NOT_COMPILABLE
from stages.training.tensorflow_setup import tf

Array = npt.NDArray[Any]


def compile_epochs(
    network: Any,
    x: Array,
    y: Array,
    batch_size: int,
    sample_weight: Array | None = None,
    augmenter: Augmenter | None = None,
) -> None:
    """Makes a network's `fit` train a whole epoch in each step; pass `permutations` to it.

    It replaces the network's `train_step` by a loop that calls Keras's own `train_step` for each
    batch, so optimizer, loss and metrics do what they do in Keras. `fit` and `train_on_batch` then
    take no images any more, but `evaluate` and `predict` do.

    Args:
        network: a compiled keras.Model from images, (n, …), to probabilities, (n, classes).
        x: training images, float32 of shape (n, …), used without a copy.
        y: labels as the loss takes them, of shape (n,) or (n, classes).
        batch_size: from 1 to n. The last batch of an epoch has the remaining images.
        sample_weight: weights of the images in the loss, of shape (n,), or None.
        augmenter: distorts each batch, or None.

    Raises:
        UserError: the network cannot be trained in this way.
    """
    network.jit_compile = True
    if not network.jit_compile:  # Keras has found a nested layer that XLA cannot compile
        raise UserError(f"The network {NOT_COMPILABLE}")
    check_metrics(network, x, y)
    # Variables cannot be created while the loop is traced.
    network.optimizer.build(network.trainable_variables)
    data = [zero_copy_tensor(x), tf.constant(y)]
    if sample_weight is not None:
        check_sample_weight(sample_weight, len(y))
        data.append(tf.constant(sample_weight, tf.float32))
    train_batch, evaluate_batch = network.train_step, network.test_step

    def train_epoch(epoch_and_permutation: tuple[Any, ...]) -> Any:
        epoch, permutation = epoch_and_permutation[:2]
        if permutation.dtype != tf.int32 or permutation.shape != (len(y),):
            raise UserError(
                f"{DEFINITION}: a callback calls fit or train_on_batch, which train whole epochs "
                "of the training images here; expected neither"
            )
        noise = augmenter.noise(len(y), epoch) if augmenter else None  # (n, k)

        def train(start: Any, size: int) -> None:
            # tf.slice: XLA would not know the length of permutation[start : start + size].
            indices = tf.slice(permutation, [start], [size])
            images, *others = (tf.gather(tensor, indices) for tensor in data)
            if augmenter:
                images = augmenter(images, tf.gather(noise, indices))
            train_batch((images, *others))

        with deterministic_layers():
            for_each_batch(train, len(y), batch_size)
        return network.get_metrics_result()

    def evaluate(batch: tuple[Any, ...]) -> Any:
        images = batch[0].shape[0]
        if images is None:  # batches of several sizes, when a callback calls `evaluate`
            return evaluate_batch(batch)

        def evaluate_part(start: Any, size: int) -> None:
            indices = start + tf.range(size)
            evaluate_batch(tuple(None if t is None else tf.gather(t, indices) for t in batch))

        # In parts: the outputs of a convolution for all images at once would take gigabytes.
        with deterministic_layers():
            for_each_batch(evaluate_part, images, min(batch_size, images))
        return network.get_metrics_result()

    network.train_step, network.test_step = train_epoch, evaluate


def for_each_batch(step: Callable[[Any, int], None], images: int, batch_size: int) -> None:
    """Calls a function for each batch, in a compiled loop.

    Args:
        step: takes the index of a batch's first image, and the size of the batch.
        images: number of images, at least `batch_size`.
        batch_size: size of all batches but the last.
    """

    def step_and_count(i: Any) -> Any:
        step(i * batch_size, batch_size)
        return i + 1

    batches, rest = divmod(images, batch_size)
    tf.while_loop(lambda i: i < batches, step_and_count, [0])
    if rest:
        step(batches * batch_size, rest)
