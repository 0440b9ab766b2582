"""Prints the seconds that NumPy takes for the matrix products of an epoch.

    python -m benchmarks.matmul

These are, for each batch and layer, the output, the gradient of the weights, and the gradient of
the input (not for the first layer).
"""

import time
from itertools import pairwise
from statistics import median

import numpy as np

from benchmarks.training import BATCH_SIZE, HIDDEN_UNITS
from stages.common import command_line

IMAGES = 60_000
REPETITIONS = 5
BATCHES = 200  # in each repetition


def main() -> None:
    random = np.random.default_rng(0)
    products = []
    for layer, (inputs, outputs) in enumerate(pairwise([784, *HIDDEN_UNITS, 10])):
        x = random.standard_normal((BATCH_SIZE, inputs), dtype=np.float32)
        w = random.standard_normal((inputs, outputs), dtype=np.float32)
        y = random.standard_normal((BATCH_SIZE, outputs), dtype=np.float32)
        products += [(x, w), (x.T, y)] + ([(y, w.T)] if layer else [])
    results = [a @ b for a, b in products]
    seconds = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        for _ in range(BATCHES):
            for (a, b), result in zip(products, results, strict=True):
                np.matmul(a, b, out=result)
        seconds.append((time.perf_counter() - start) / BATCHES)
    print(median(seconds) * IMAGES / BATCH_SIZE)


if __name__ == "__main__":
    command_line.run(main, __doc__)
