"""From which probability on what is read is right in 99 of 100 cases.

    python -m benchmarks.sure

Trains the tutorial's network for ten epochs without 10,000 of MNIST's training images, the same
share of each digit, writes rows of those as benchmarks.drawn does, reads them as the
command does, and prints the least probability p such that of the digits read with p or more 99
of 100 are right: app.answers.SURE. No test image is looked at.
"""

from pathlib import Path

import numpy as np

from benchmarks.drawn import rows
from benchmarks.own_digits import readings
from benchmarks.training import BATCH_SIZE, compiled
from stages.data.arrays import load_split
from stages.data.scaling import Scaling
from stages.data.splitting import held_out
from stages.edges.bad_input import explained, no_arguments
from stages.training.repeatable import keras

RAW = Path("data/raw")
HELD_OUT = 10_000
ROWS = 2_000
RIGHT = 0.99


def main() -> None:
    x, y = load_split(RAW, "train", "uint8")  # (n, 28, 28), (n,)
    out = held_out(y, HELD_OUT)
    scaling = Scaling.fit("unit", x[~out])
    data = {"x_train": scaling(x[~out]), "y_train": y[~out]}
    data |= {"x_test": scaling(x[out]), "y_test": y[out]}  # watched only
    network = compiled(10, 42, BATCH_SIZE, keras.callbacks.Callback(), data)

    result = readings("rows", list(rows(x[out], y[out], ROWS)), network, scaling)
    counted = [
        (share.max(), str(share.argmax()) == digit)
        for number, shares in zip(result.numbers, result.probabilities, strict=True)
        if shares is not None and len(shares) == len(number)
        for share, digit in zip(shares, number, strict=True)
    ]
    confidence, right = (np.array(each) for each in zip(*sorted(counted)[::-1], strict=True))
    share = np.cumsum(right) / np.arange(1, len(right) + 1)  # of the surest k that are right
    last = np.flatnonzero(share >= RIGHT)[-1]
    print(f"{len(right):,} digits, {100 * right.mean():.2f}% right")
    print(
        f"with {confidence[last]:.4f} or more: {100 * (last + 1) / len(right):.1f}% of them, "
        f"{100 * share[last]:.2f}% right"
    )


if __name__ == "__main__":
    with explained():
        no_arguments(__doc__)
        main()
