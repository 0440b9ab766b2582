"""How Keras's layers are computed inside of a compiled epoch: the same, in a form for XLA."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from stages.training.products import dense
from stages.training.repeatable import keras, tf


@contextmanager
def layers_for_xla() -> Iterator[None]:
    """While this lasts, Keras's layers multiply by `products.dense`, and draw fast.

    So a network is written as in any other project. It lasts while a program is traced, not while
    it runs. Keras has no hook for this: clone_model reaches no layer inside of another layer, and
    a class of our own would have to be used in every network, and be there for whoever loads one.

    The numbers drawn are those of TensorFlow's default, which is Philox on a processor. But unless
    it is named, XLA fuses the making of its key into the drawing of each number: 25 times as slow.
    """
    own = {
        (keras.layers.Dense, "call"): call_dense,
        (tf.nn.experimental, "stateless_dropout"): partial(
            tf.nn.experimental.stateless_dropout, rng_alg="philox"
        ),
    }
    for name in ("stateless_uniform", "stateless_normal", "stateless_truncated_normal"):
        own[tf.random, name] = partial(getattr(tf.random, name), alg="philox")
    theirs = {place: getattr(*place) for place in own}
    try:
        for place, function in own.items():
            setattr(*place, function)
        yield
    finally:
        for place, function in theirs.items():
            setattr(*place, function)


def call_dense(layer: Any, inputs: Any, training: bool | None = None) -> Any:  # noqa: ARG001
    """What a keras.layers.Dense gives for inputs, (…, m) -> (…, n)."""
    kernel = keras.ops.convert_to_tensor(layer.kernel)  # (m, n)
    x = keras.ops.reshape(inputs, (-1, kernel.shape[0]))  # (b, m)
    bias = None if layer.bias is None else keras.ops.convert_to_tensor(layer.bias)  # (n,)
    y = dense(x, kernel, bias)
    y = keras.ops.reshape(y, (*inputs.shape[:-1], kernel.shape[1]))
    return y if layer.activation is None else layer.activation(y)
