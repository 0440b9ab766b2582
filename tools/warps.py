"""Pictures digits and how reader.yaml has them warped, an epoch in each column: docs/warps.png."""

from pathlib import Path

import numpy as np

from stages.data.datasets import embedded_mnist_5k
from stages.edges.bad_input import explained, no_arguments
from stages.results.pictures import digits, save
from stages.training.repeatable import set_threads
from stages.training.warps import Warping
from tools.reader import read_sections

PICTURE = Path("docs/warps.png")
DIGITS, EPOCHS = 6, 5


def main() -> None:
    set_threads()
    arrays = embedded_mnist_5k()
    places = [int(np.flatnonzero(arrays["y_train"] == digit)[0]) for digit in range(DIGITS)]
    images = arrays["x_train"][places].astype(np.float32)  # (d, 28, 28)
    warping = Warping(read_sections()["warp"], seed=42, background=0)
    warped = [
        np.asarray(warping(images, warping.noise(DIGITS, epoch))) for epoch in range(1, EPOCHS + 1)
    ]
    grid = np.stack([images, *warped], axis=1).reshape(-1, 28, 28)  # (d * (1 + e), 28, 28)
    captions = ["as it is", *(f"epoch {epoch}" for epoch in range(1, EPOCHS + 1))]
    save(digits(grid, captions * DIGITS, "Digits and their warps"), PICTURE)


if __name__ == "__main__":
    with explained():
        no_arguments(__doc__)
        main()
