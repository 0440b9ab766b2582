"""Draws docs/augmentation.png: digits as reader.yaml distorts them, a column for each epoch."""

from pathlib import Path

import numpy as np

from experiments.reader import read_params_with_changes
from stages.common import command_line
from stages.data.datasets import load_mnist_5k
from stages.evaluation.plots import draw_digits, save
from stages.training.augmentation import Augmenter
from stages.training.threads import set_threads

PLOT = Path("docs/augmentation.png")
DIGITS, EPOCHS = 6, 5


def main() -> None:
    set_threads()
    arrays = load_mnist_5k()
    first = [int(np.flatnonzero(arrays["y_train"] == digit)[0]) for digit in range(DIGITS)]
    images = arrays["x_train"][first].astype(np.float32)  # (d, 28, 28)
    limits = read_params_with_changes()["augmentation"]
    augmenter = Augmenter(limits, seed=42, background=0, image_shape=images.shape[1:])
    distorted = [
        np.asarray(augmenter(images, augmenter.noise(DIGITS, epoch)))
        for epoch in range(1, EPOCHS + 1)
    ]
    grid = np.stack([images, *distorted], axis=1).reshape(-1, 28, 28)  # (d * (1 + e), 28, 28)
    captions = ["original", *(f"epoch {epoch}" for epoch in range(1, EPOCHS + 1))]
    save(draw_digits(grid, captions * DIGITS, "Digits with random distortions"), PLOT)


if __name__ == "__main__":
    command_line.run(main, __doc__)
