"""The time of an epoch: plain Keras `fit`, this project's loop, and numpy's products alone.

    python -m benchmarks.epoch

The trainings are run in turn; the medians are of all epochs but each training's first, in which
its program is compiled.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping
from itertools import pairwise
from statistics import median

import numpy as np

from benchmarks.training import BATCH_SIZE, HIDDEN_UNITS, train
from stages.edges.bad_input import explained

ROUNDS, EPOCHS = 3, 5
IMAGES = 60_000
WAYS = {"plain Keras fit": "plain", "compiled epoch": "compiled"}
LARGE = 64  # the batch size of reader.yaml, at which warped digits are trained on


def products_alone() -> float:
    """Seconds of an epoch's matrix products alone, by numpy, at these shapes.

    Of each layer the output, the gradient of the weights, and but for the first layer the
    gradient of the input.
    """
    random = np.random.default_rng(0)
    sizes = [784, *HIDDEN_UNITS, 10]
    products = []
    for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
        x = random.standard_normal((BATCH_SIZE, inputs), dtype=np.float32)
        w = random.standard_normal((inputs, outputs), dtype=np.float32)
        y = random.standard_normal((BATCH_SIZE, outputs), dtype=np.float32)
        products += [(x, w), (x.T, y)] + ([(y, w.T)] if layer else [])
    results = [a @ b for a, b in products]
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(200):
            for (a, b), result in zip(products, results, strict=True):
                np.matmul(a, b, out=result)
        seconds.append((time.perf_counter() - began) / 200)
    return median(seconds) * IMAGES / BATCH_SIZE


def in_turn(ways: Mapping[str, str], batch_size: int) -> dict[str, list[list[float]]]:
    """The seconds of each epoch, for each way and each of its trainings."""
    seconds: dict[str, list[list[float]]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, how in ways.items():
            seconds[way].append(train(how, EPOCHS, 0, batch_size)["seconds"])
    return seconds


def usual(runs: list[list[float]]) -> float:
    """The median second of all epochs but each training's first."""
    return median(second for run in runs for second in run[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("alone", nargs="?", choices=["products"])
    if parser.parse_args().alone:
        print(products_alone())
        return
    seconds = in_turn(WAYS, BATCH_SIZE)
    # In a process of its own, as the trainings are.
    products = float(
        subprocess.run(
            [sys.executable, "-m", "benchmarks.epoch", "products"],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
    )

    medians = {way: usual(runs) for way, runs in seconds.items()}
    baseline = medians["plain Keras fit"]
    print("| one epoch | first, s | median, s | of plain Keras | of numpy's products |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for way, value in medians.items():
        first = median(run[0] for run in seconds[way])
        ratio, times = value / baseline, value / products
        print(f"| {way} | {first:.2f} | {value:.2f} | {ratio:.2f} | {times:.2f} |")
    print(f"| numpy's products alone | | {products:.2f} | {products / baseline:.2f} | 1.00 |")
    print(f"\n| one epoch, batch size {LARGE} | median, s | of the other |\n| --- | ---: | ---: |")
    large = in_turn({"as they are": "compiled", "warped": "warped"}, LARGE)
    as_they_are, warped = map(usual, large.values())
    print(f"| digits as they are | {as_they_are:.2f} | 1.00 |")
    print(f"| on warped digits | {warped:.2f} | {warped / as_they_are:.2f} |")


if __name__ == "__main__":
    with explained():
        main()
