"""Products add up in the blocks that `products.blocks` says: what ARM is made to imitate.

A TensorFlow that cuts otherwise is noticed here. The other rule of AVX-512 cannot be had on a
processor without it; there the same tests hold it.
"""

import numpy as np
import numpy.typing as npt
import pytest

from stages.training.products import blocks, dense, filled_up, product
from stages.training.repeatable import tf

Array = npt.NDArray[np.float32]
RANDOM = np.random.default_rng(0)
# (b, m, n) of dense layers. Sizes around all the bounds of the rule, and common ones.
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
    """(m, k) · (k, n) -> (m, n), added up over k by fused multiply-adds: one rounding a step.

    A product of two float32 is exact in float64, but its sum with a third is rounded there, and
    would be again to float32. Rounded to odd at first, it is as if it were rounded once
    (S. Boldo, G. Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
    """
    total = np.zeros((len(a), b.shape[1]), np.float64)
    for column, row in zip(a.T.astype(np.float64), b.astype(np.float64), strict=True):
        term = column[:, np.newaxis] * row
        exact = term + total
        back = exact - term
        rest = (term - (exact - back)) + (total - back)  # what the sum has lost
        bits = exact.view(np.int64)
        towards_rest = np.where((rest > 0) == (exact > 0), 1, -1)
        bits += np.where((rest != 0) & (bits % 2 == 0), towards_rest, 0)
        total = exact.astype(np.float32).astype(np.float64)
    return total.astype(np.float32)


def by_hand(a: Array, b: Array, length: int) -> Array:
    """The product, (m, k) · (k, n) -> (m, n), as the sum of blocks of so many elements of k."""
    total = fused_sum(a[:, :length], b[:length])
    for start in range(length, len(b), length):
        total = total + fused_sum(a[:, start : start + length], b[start : start + length])
    return total


def few(size: int) -> npt.NDArray[np.int64]:
    """Places among so many, the first and the last among them."""
    return np.unique(np.linspace(0, size - 1, 5).astype(np.int64))


@pytest.mark.parametrize(("b", "m", "n"), LAYERS)
@pytest.mark.parametrize("which", ["forward", "of the weights", "of the input"])
def test_products_add_up_in_the_blocks_that_are_said(b: int, m: int, n: int, which: str) -> None:
    rows, k, columns = {
        "forward": (b, m, n),
        "of the weights": (m + 1, b, n),
        "of the input": (b, n, m),
    }[which]
    transpose_b = which == "of the input"
    x, y = matrix(rows, k), matrix(k, columns)
    given = np.ascontiguousarray(y.T) if transpose_b else y
    compiled = tf.function(product, jit_compile=True, autograph=False)
    computed = compiled(tf.constant(x), tf.constant(given), transpose_b).numpy()

    full_rows, full_k, full_columns = filled_up(rows, k, columns)
    left = 0
    for width, length in blocks(full_rows, full_k, full_columns, transpose_b):
        part = left + few(width)
        part = part[part < columns]
        expected = by_hand(x[few(rows)], y[:, part], length)
        np.testing.assert_array_equal(computed[np.ix_(few(rows), part)], expected)
        left += width


def test_other_blocks_give_other_bits() -> None:
    """So the test above can fail."""
    x, y = matrix(32, 784), matrix(784, 8)
    assert (by_hand(x, y, 512) != by_hand(x, y, 256)).any()
    assert (by_hand(x, y, 512) != by_hand(x, y, 784)).any()


@pytest.mark.parametrize("has_bias", [True, False])
def test_a_dense_layer_has_the_gradients_that_tensorflow_derives(has_bias: bool) -> None:
    x, kernel, bias = (tf.constant(matrix(*shape)) for shape in ((6, 5), (5, 3), (3,)))
    given = (x, kernel, bias) if has_bias else (x, kernel)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(given)
        ours = dense(*given)
        theirs = tf.matmul(x, kernel) + (bias if has_bias else 0)
        (squares, others) = (tf.reduce_sum(y**2) for y in (ours, theirs))

    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    for mine, yours in zip(
        tape.gradient(squares, given), tape.gradient(others, given), strict=True
    ):
        np.testing.assert_allclose(mine, yours, rtol=1e-4)
