"""Matrix multiplication with the same order of summation on every processor.

XLA multiplies float32 matrices with YNNPACK, which has an option for a fixed order: each element of
(m, k) · (k, n) is the sum of a few blocks of k, and each block is added up in order, by fused
multiply-adds. The length of a block depends on m, k and n, and on two properties of the instruction
set: the number of rows up to which a product counts as small, and the multiple to which columns are
padded (`ynnpack/subgraph/dot.cc` of XNNPACK, early in 2026).

- On x86-64, AVX2 and AVX-512 differ for few sizes. `padded_sizes` pads such matrices with zeros to
  the next size for which they agree.
- On ARM no product counts as small. `blocked_matmul` multiplies the blocks of x86-64 one by one;
  each is too short for ARM's kernel to split it.
"""

import platform
from typing import Any

from stages.training.tensorflow_setup import tf

# YNNPACK keeps 128 KiB of float32 in a cache: k rows of some columns for each block. It packs the
# second factor into at most 64 columns, a multiple of its kernel's width: 4 on ARM, 8 with AVX2, 16
# with AVX-512.
CACHE_FLOATS = 32_768
MAX_PACKED_COLUMNS, COLUMN_MULTIPLE = 64, 32
# A product with up to 10 times the kernel's rows counts as small: 5 rows with AVX-512, 6 with AVX2.
SMALL_ROWS_AVX512, SMALL_ROWS_AVX2 = 50, 60
# XLA computes products with fewer rows, and products with vectors, by itself.
MIN_ROWS = 8
IS_ARM = platform.machine() in ("aarch64", "arm64")


def matmul(a: Any, b: Any, transpose_b: bool = False) -> Any:
    """(m, k) · (k, n) -> (m, n), with the same bits on every processor.

    Args:
        a: float32 of shape (m, k), with all sizes known when the program is traced.
        b: float32 of shape (k, n).
        transpose_b: whether b has shape (n, k).
    """
    m, k = a.shape
    n = b.shape[0] if transpose_b else b.shape[1]
    rows, terms, columns = padded_sizes(m, k, n)
    padding = [[0, terms - k], [0, columns - n]]
    a = tf.pad(a, [[0, rows - m], [0, terms - k]])
    b = tf.pad(b, padding[::-1] if transpose_b else padding)
    c = blocked_matmul(a, b, transpose_b) if IS_ARM else tf.matmul(a, b, transpose_b=transpose_b)
    return c[:m, :n]


def padded_sizes(m: int, k: int, n: int) -> tuple[int, int, int]:
    """The smallest sizes, at least m, k and n, for which AVX2 and AVX-512 use the same blocks."""
    rows = max(m, MIN_ROWS)
    if SMALL_ROWS_AVX512 < rows <= SMALL_ROWS_AVX2:
        rows = SMALL_ROWS_AVX2 + 1
    columns = round_up(n, COLUMN_MULTIPLE)
    is_split = k * min(columns, MAX_PACKED_COLUMNS) > CACHE_FLOATS
    # k = 1: XLA would fuse a product without a sum into the addition that follows.
    return rows, max(k, 2), columns if is_split or n == 1 else n


def round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def blocks(m: int, k: int, n: int, transpose_b: bool) -> list[tuple[int, int]]:
    """The blocks of k that x86-64 uses for padded sizes, with two or more threads.

    Returns:
        (number of columns, length of a block) for each group of columns, from left to right.
    """
    if m > SMALL_ROWS_AVX512 or transpose_b:
        # The second factor is packed, into more than 64 columns if k is short.
        width = MAX_PACKED_COLUMNS * max(1, CACHE_FLOATS // (MAX_PACKED_COLUMNS * k))
        return [(n, min(k, CACHE_FLOATS // min(n, width)))]
    # A small product reads the second factor in place, the columns of one task at a time.
    width = task_columns(m, k, n)
    groups = [(n - n % width, width), (n % width, n % width)]
    return [(columns, min(k, CACHE_FLOATS // width)) for columns, width in groups if columns]


def task_columns(m: int, k: int, n: int) -> int:
    """The columns of one task of a small product, at most n.

    A task starts with 16 rows and 64 columns. It is doubled, preferably towards four times as many
    rows as columns, until it is worth its overhead or is the whole product.
    """
    rows, columns = min(m, 16), min(n, 64)
    min_size = min(m, 64) * min(n, 64)
    while rows * columns < min_size or (
        (rows + columns) * min(k, 1024) < 2**16 and rows * columns < 2**16
    ):
        if (4 * columns < rows or rows >= m) and columns < n:
            columns *= 2
        elif (rows < 4 * columns or columns >= n) and rows < m:
            rows *= 2
        else:
            break
    return min(columns, n)


def blocked_matmul(a: Any, b: Any, transpose_b: bool) -> Any:
    """The product as x86-64 computes it, from blocks that ARM's kernel does not split further."""
    m, k = a.shape
    b = tf.transpose(b) if transpose_b else b
    parts, left = [], 0
    for columns, length in blocks(m, k, b.shape[1], transpose_b):
        right = left + columns
        # ARM's kernel takes four elements of k at a time.
        width = MAX_PACKED_COLUMNS * max(
            1, CACHE_FLOATS // (MAX_PACKED_COLUMNS * round_up(length, 4))
        )
        # Pad k so that the last block is as long as the others: XLA treats a single term otherwise.
        padding = [0, round_up(k, length) - k]
        x = tf.pad(a, [[0, 0], padding])
        for start in range(left, right, width):
            stop = min(start + width, right)
            # At least two columns: XLA treats a single one as a vector.
            y = tf.pad(b[:, start:stop], [padding, [0, 1 if stop - start == 1 else 0]])
            terms = [
                tf.matmul(x[:, first : first + length], y[first : first + length])
                for first in range(0, k, length)
            ]
            parts.append(sum(terms[1:], terms[0])[:, : stop - start])
        left = right
    return parts[0] if len(parts) == 1 else tf.concat(parts, 1)
