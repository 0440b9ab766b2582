"""Test errors of plain Keras and of this project's compiled epoch, over five seeds.

python -m benchmarks.seeds
"""

import numpy as np

from benchmarks.common import mean_and_error, print_table, standard_error
from benchmarks.training import train
from stages.common import command_line

SEEDS = range(5)
EPOCHS = 10


def main() -> None:
    errors = {
        name: [train(method, EPOCHS, seed)["test_error"] for seed in SEEDS]
        for name, method in {"plain Keras fit": "keras", "compiled epoch": "compiled"}.items()
    }
    print_table(
        (
            f"test error, %, after {EPOCHS} epochs",
            f"seeds {SEEDS[0]} to {SEEDS[-1]}",
            "mean ± standard error",
        ),
        [
            (name, ", ".join(f"{value:.2f}" for value in values), mean_and_error(values, 2))
            for name, values in errors.items()
        ],
    )
    keras, compiled = errors.values()
    difference = np.mean(compiled) - np.mean(keras)
    error = np.hypot(standard_error(keras), standard_error(compiled))
    print(f"\nDifference {difference:+.2f} ± {error:.2f} (standard error)")


if __name__ == "__main__":
    command_line.run(main, __doc__)
