"""Dense layers and random numbers that are deterministic in compiled programs."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from stages.training.deterministic_matmul import matmul
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


def dense(x: Any, kernel: Any, bias: Any = None) -> Any:
    """A dense layer without activation, x · kernel + bias, with an explicit gradient.

    The bias's gradient is a sum over the batch, which XLA would fuse with the operation before it
    and add in another order on ARM. Here it is the last row of the product that gives the kernel's
    gradient, computed with a column of ones beside x.

    Args:
        x: float32 of shape (b, m).
        kernel: float32 of shape (m, n).
        bias: float32 of shape (n,), or None.

    Returns:
        float32 of shape (b, n).
    """

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def biased(x: Any, kernel: Any, bias: Any) -> Any:
        def gradients(upstream: Any) -> tuple[Any, Any, Any]:  # (b, n)
            ones = tf.ones_like(x[:, :1])
            # The explicit transpose keeps XLA from calling Eigen, whose order of summation depends
            # on the cache sizes. TensorFlow's own gradient uses transpose_a.
            stacked = matmul(tf.transpose(tf.concat([x, ones], 1)), upstream)  # (m + 1, n)
            return matmul(upstream, kernel, transpose_b=True), stacked[:-1], stacked[-1]

        return matmul(x, kernel) + bias, gradients

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def unbiased(x: Any, kernel: Any) -> Any:
        def gradients(upstream: Any) -> tuple[Any, Any]:
            of_kernel = matmul(tf.transpose(x), upstream)
            return matmul(upstream, kernel, transpose_b=True), of_kernel

        return matmul(x, kernel), gradients

    return unbiased(x, kernel) if bias is None else biased(x, kernel, bias)
