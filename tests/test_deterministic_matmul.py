"""Matrix products are added up in the blocks that `deterministic_matmul.blocks` predicts.

A TensorFlow with other blocks fails these tests. AVX-512 has another rule than AVX2, which only a
processor with AVX-512 tests.
"""

import numpy as np
import numpy.typing as npt
import pytest

from stages.training.deterministic_layers import dense
from stages.training.deterministic_matmul import blocks, matmul, padded_sizes
from stages.training.tensorflow_setup import tf

Array = npt.NDArray[np.float32]
RANDOM = np.random.default_rng(0)
# (b, m, n) of dense layers: common sizes, and sizes around each limit of the rule.
LAYERS = [
    *((32, 784, 512), (32, 512, 256), (32, 256, 128), (32, 128, 10)),  # the tutorial's
    *((1, 784, 512), (2, 784, 10), (7, 300, 77), (8, 784, 2048), (16, 512, 1024)),
    *((50, 784, 300), (51, 784, 300), (60, 300, 256), (61, 300, 256), (100, 300, 100)),
    *((32, 784, 16), (32, 784, 33), (32, 784, 48), (32, 784, 50), (128, 784, 20), (128, 784, 56)),
    *((32, 784, 100), (32, 1025, 64), (8, 2048, 7), (64, 4096, 10), (1000, 784, 64)),
    *((4000, 64, 10), (32, 1, 1), (5, 1, 3), (3, 2, 700), (7, 13, 9000), (33, 10, 4096)),
]


def matrix(*shape: int) -> Array:
    return RANDOM.uniform(-1, 1, shape).astype(np.float32)


def fused_sum(a: Array, b: Array) -> Array:
    """(m, k) · (k, n) -> (m, n), added up over k by fused multiply-adds, each rounded once.

    A product of two float32 is exact in float64, but adding a third number rounds to float64, and
    the conversion to float32 rounds again. If the first rounding is to odd, the result is the same
    as after a single rounding.

    Source: S. Boldo and G. Melquiond, "Emulation of FMA and correctly rounded sums: proved
    algorithms using rounding to odd", IEEE Transactions on Computers 57 (2008).
    """
    total = np.zeros((len(a), b.shape[1]), np.float64)
    for column, row in zip(a.T.astype(np.float64), b.astype(np.float64), strict=True):
        term = column[:, np.newaxis] * row
        exact = term + total
        back = exact - term
        rest = (term - (exact - back)) + (total - back)  # the rounding error
        bits = exact.view(np.int64)
        towards_rest = np.where((rest > 0) == (exact > 0), 1, -1)
        bits += np.where((rest != 0) & (bits % 2 == 0), towards_rest, 0)
        total = exact.astype(np.float32).astype(np.float64)
    return total.astype(np.float32)


def blocked_product(a: Array, b: Array, length: int) -> Array:
    """The product, (m, k) · (k, n) -> (m, n), as the sum of blocks of `length` elements of k."""
    total = fused_sum(a[:, :length], b[:length])
    for start in range(length, len(b), length):
        total = total + fused_sum(a[:, start : start + length], b[start : start + length])
    return total


def sample(size: int) -> npt.NDArray[np.int64]:
    """Up to five indices below `size`, including the first and the last."""
    return np.unique(np.linspace(0, size - 1, 5).astype(np.int64))


@pytest.mark.parametrize(("b", "m", "n"), LAYERS)
@pytest.mark.parametrize("which", ["forward", "gradient of weights", "gradient of input"])
def test_products_are_added_up_in_the_predicted_blocks(b: int, m: int, n: int, which: str) -> None:
    rows, k, columns = {
        "forward": (b, m, n),
        "gradient of weights": (m + 1, b, n),
        "gradient of input": (b, n, m),
    }[which]
    transpose_b = which == "gradient of input"
    x, y = matrix(rows, k), matrix(k, columns)
    given = np.ascontiguousarray(y.T) if transpose_b else y
    compiled = tf.function(matmul, jit_compile=True, autograph=False)
    computed = compiled(tf.constant(x), tf.constant(given), transpose_b).numpy()

    full_rows, full_k, full_columns = padded_sizes(rows, k, columns)
    left = 0
    for width, length in blocks(full_rows, full_k, full_columns, transpose_b):
        part = left + sample(width)
        part = part[part < columns]
        expected = blocked_product(x[sample(rows)], y[:, part], length)
        np.testing.assert_array_equal(computed[np.ix_(sample(rows), part)], expected)
        left += width


def test_other_blocks_give_other_bits() -> None:
    """Otherwise the test above could not fail."""
    x, y = matrix(32, 784), matrix(784, 8)
    assert (blocked_product(x, y, 512) != blocked_product(x, y, 256)).any()
    assert (blocked_product(x, y, 512) != blocked_product(x, y, 784)).any()


@pytest.mark.parametrize("has_bias", [True, False])
def test_the_gradients_of_a_dense_layer_are_those_of_tensorflow(has_bias: bool) -> None:
    x, kernel, bias = (tf.constant(matrix(*shape)) for shape in ((6, 5), (5, 3), (3,)))
    given = (x, kernel, bias) if has_bias else (x, kernel)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(given)
        ours = dense(*given)
        theirs = tf.matmul(x, kernel) + (bias if has_bias else 0)
        our_sum, their_sum = (tf.reduce_sum(y**2) for y in (ours, theirs))

    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    gradients = (tape.gradient(our_sum, given), tape.gradient(their_sum, given))
    for our_gradient, their_gradient in zip(*gradients, strict=True):
        np.testing.assert_allclose(our_gradient, their_gradient, rtol=1e-4)
