"""Replacement of Keras's dense layers and random numbers by versions for compiled programs."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from stages.training.deterministic_matmul import dense
from stages.training.tensorflow_setup import keras, tf


@contextmanager
def deterministic_layers() -> Iterator[None]:
    """Makes Keras's layers use `dense` and a faster random number generator while it is active.

    It must be active while a tf.function is traced, not when it runs. Networks can then use
    ordinary Keras layers. Keras has no hook for this: clone_model does not reach nested layers, and
    a custom class would have to be installed wherever the network is loaded.

    The random numbers are unchanged: Philox is TensorFlow's default on a CPU. But if the algorithm
    is not named, XLA computes the key again for each number, which takes 25 times as long.
    """
    replacements = {
        (keras.layers.Dense, "call"): call_dense,
        (tf.nn.experimental, "stateless_dropout"): partial(
            tf.nn.experimental.stateless_dropout, rng_alg="philox"
        ),
    }
    for name in ("stateless_uniform", "stateless_normal", "stateless_truncated_normal"):
        replacements[tf.random, name] = partial(getattr(tf.random, name), alg="philox")
    originals = {place: getattr(*place) for place in replacements}
    try:
        for place, function in replacements.items():
            setattr(*place, function)
        yield
    finally:
        for place, function in originals.items():
            setattr(*place, function)


def call_dense(layer: Any, inputs: Any, training: bool | None = None) -> Any:  # noqa: ARG001
    """The output of a keras.layers.Dense for inputs, (…, m) -> (…, n)."""
    kernel = keras.ops.convert_to_tensor(layer.kernel)  # (m, n)
    x = keras.ops.reshape(inputs, (-1, kernel.shape[0]))  # (b, m)
    bias = None if layer.bias is None else keras.ops.convert_to_tensor(layer.bias)  # (n,)
    y = dense(x, kernel, bias)
    y = keras.ops.reshape(y, (*inputs.shape[:-1], kernel.shape[1]))
    return y if layer.activation is None else layer.activation(y)
