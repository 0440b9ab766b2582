"""Matrix products that add up in one order on every processor, and dense layers made of them.

XLA leaves products of float32 to YNNPACK, a library that can be told to add up alike everywhere.
Each element of (m, k) · (k, n) is there the sum of a few blocks of k, and a block is added up by
fused multiply-adds in order. How long a block is follows from the sizes alone, but for two things
that depend on the instructions of the processor: for how many rows a product counts as small, and
to what multiple its columns are filled up (`ynnpack/subgraph/dot.cc` of XNNPACK, early in 2026).

- Between x86-64 processors with and without AVX-512 that matters for a few sizes only. A product
  of such a size gets rows and columns of zeros, up to the next size for which it does not.
- ARM's kernels have no product count as small. There the blocks of x86-64 are multiplied one by
  one, each too short to be cut again.
"""

import platform
from typing import Any

from stages.training.repeatable import tf

# The 128 KiB of float32 that YNNPACK keeps in a cache: of each block, a row of every k for some
# columns. It packs a second factor into at most 64 columns, fewer by the multiple of its kernel:
# 4 on ARM, 8 with AVX2, 16 with AVX-512.
CACHE = 32_768
PACKED_COLUMNS, COLUMNS = 64, 32
# Up to 10 times the rows of its kernel a product is small: 5 with AVX-512, 6 with AVX2.
SMALL_ROWS, MAYBE_SMALL_ROWS = 50, 60
# XLA itself multiplies by a vector, and where all sizes are less than this. One term it does not
# even round before it adds it to something else.
LEAST = 8
ARM = platform.machine() in ("aarch64", "arm64")


def dense(x: Any, kernel: Any, bias: Any = None) -> Any:
    """A dense layer without its activation, x · kernel + bias, with its gradient written out.

    The gradient of the bias is a sum over the batch. By itself XLA would fuse that sum with what
    comes before it, and add up in another order on ARM. So it is the last row of the product that
    gives the gradient of the kernel, with a column of ones beside x.

    Args:
        x: float32 of shape (b, m).
        kernel: float32 of shape (m, n).
        bias: float32 of shape (n,), or None for none.

    Returns:
        float32 of shape (b, n).
    """

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def biased(x: Any, kernel: Any, bias: Any) -> Any:
        def gradients(upstream: Any) -> tuple[Any, Any, Any]:  # (b, n)
            ones = tf.ones_like(x[:, :1])
            # Transposed here: TensorFlow's own gradient has x read as if transposed. XLA leaves
            # such a product to Eigen, whose order depends on the sizes of the processor's caches.
            of_both = product(tf.transpose(tf.concat([x, ones], 1)), upstream)  # (m + 1, n)
            return product(upstream, kernel, transpose_b=True), of_both[:-1], of_both[-1]

        return product(x, kernel) + bias, gradients

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def unbiased(x: Any, kernel: Any) -> Any:
        def gradients(upstream: Any) -> tuple[Any, Any]:
            of_kernel = product(tf.transpose(x), upstream)
            return product(upstream, kernel, transpose_b=True), of_kernel

        return product(x, kernel), gradients

    return unbiased(x, kernel) if bias is None else biased(x, kernel, bias)


def product(a: Any, b: Any, transpose_b: bool = False) -> Any:
    """(m, k) · (k, n) -> (m, n), with the same bits on every processor.

    Args:
        a: float32 of shape (m, k), all of it known when the program is traced.
        b: float32 of shape (k, n).
        transpose_b: b is of shape (n, k).
    """
    m, k = a.shape
    n = b.shape[0] if transpose_b else b.shape[1]
    rows, terms, columns = filled_up(m, k, n)
    zeros = [[0, terms - k], [0, columns - n]]
    a = tf.pad(a, [[0, rows - m], [0, terms - k]])
    b = tf.pad(b, zeros[::-1] if transpose_b else zeros)
    c = in_blocks(a, b, transpose_b) if ARM else tf.matmul(a, b, transpose_b=transpose_b)
    return c[:m, :n]


def filled_up(m: int, k: int, n: int) -> tuple[int, int, int]:
    """The sizes, at least m, k and n, with which all processors cut k alike."""
    rows = max(m, LEAST)
    if SMALL_ROWS < rows <= MAYBE_SMALL_ROWS:
        rows = MAYBE_SMALL_ROWS + 1
    columns = multiple(n, COLUMNS)
    is_cut = k * min(columns, PACKED_COLUMNS) > CACHE
    return rows, max(k, 2), columns if is_cut or n == 1 else n


def multiple(size: int, of: int) -> int:
    return -(-size // of) * of


def blocks(m: int, k: int, n: int, transpose_b: bool) -> list[tuple[int, int]]:
    """How x86-64 cuts k in a product of sizes that `filled_up` gives, on two threads and more.

    Returns:
        From left to right, so many columns with blocks of so many elements of k, at most k.
    """
    if m > SMALL_ROWS or transpose_b:
        # The second factor is packed: into more than 64 columns where k is short.
        width = PACKED_COLUMNS * max(1, CACHE // (PACKED_COLUMNS * k))
        return [(n, min(k, CACHE // min(n, width)))]
    # It is read where it lies, for a task at a time.
    width = columns_of_task(m, k, n)
    cuts = [(n - n % width, width), (n % width, n % width)]
    return [(columns, min(k, CACHE // width)) for columns, width in cuts if columns]


def columns_of_task(m: int, k: int, n: int) -> int:
    """The columns of the tasks that a product is shared out in, at most n.

    A task starts with 16 rows and 64 columns and is doubled, preferably to four times as many rows
    as columns, until it is worth its overhead or has it all.
    """
    rows, columns = min(m, 16), min(n, 64)
    enough = min(m, 64) * min(n, 64)
    while rows * columns < enough or (
        (rows + columns) * min(k, 1024) < 2**16 and rows * columns < 2**16
    ):
        if (4 * columns < rows or rows >= m) and columns < n:
            columns *= 2
        elif (rows < 4 * columns or columns >= n) and rows < m:
            rows *= 2
        else:
            break
    return min(columns, n)


def in_blocks(a: Any, b: Any, transpose_b: bool) -> Any:
    """The product as x86-64 adds it up, of parts that are too small for ARM to be cut again."""
    m, k = a.shape
    b = tf.transpose(b) if transpose_b else b
    parts, left = [], 0
    for columns, length in blocks(m, k, b.shape[1], transpose_b):
        right = left + columns
        # Its kernel takes four elements of k at a time.
        width = PACKED_COLUMNS * max(1, CACHE // (PACKED_COLUMNS * multiple(length, 4)))
        # All blocks are of one length: a last one could be a single term.
        more = [0, multiple(k, length) - k]
        x = tf.pad(a, [[0, 0], more])
        for start in range(left, right, width):
            stop = min(start + width, right)
            # At least two columns, for one would be a vector.
            y = tf.pad(b[:, start:stop], [more, [0, 1 if stop - start == 1 else 0]])
            terms = [
                tf.matmul(x[:, first : first + length], y[first : first + length])
                for first in range(0, k, length)
            ]
            parts.append(sum(terms[1:], terms[0])[:, : stop - start])
        left = right
    return parts[0] if len(parts) == 1 else tf.concat(parts, 1)
