"""Time of an epoch: plain Keras, this project's compiled epoch, and NumPy's matrix products.

    python -m benchmarks.epoch

The medians leave out the first epoch of each training, which includes the compilation.
"""

from collections.abc import Mapping
from statistics import median

from benchmarks.common import print_table, run_python
from benchmarks.training import BATCH_SIZE, train
from stages.common import command_line

ROUNDS, EPOCHS = 3, 5
AUGMENTED_BATCH_SIZE = 64  # of reader.yaml

Seconds = list[list[float]]  # of each training and epoch


def main() -> None:
    times = train_alternately(
        {
            "plain Keras fit": "keras",
            "compiled epoch": "compiled",
            "plain Keras fit, three more metrics": "keras-metrics",
            "compiled epoch, three more metrics": "compiled-metrics",
        }
    )
    # In a separate process, as the trainings.
    products = float(run_python("-m", "benchmarks.matmul"))
    keras = median_epoch(times["plain Keras fit"])
    rows = [
        (
            name,
            f"{median(run[0] for run in runs):.2f}",
            f"{median_epoch(runs):.2f}",
            f"{median_epoch(runs) / keras:.2f}",
            f"{median_epoch(runs) / products:.2f}",
        )
        for name, runs in times.items()
    ]
    rows.append(("NumPy's products", "", f"{products:.2f}", f"{products / keras:.2f}", "1.00"))
    print_table(("one epoch", "first, s", "median, s", "/ plain Keras", "/ NumPy's products"), rows)

    methods = {"without augmentation": "compiled", "with augmentation": "augmented"}
    times = train_alternately(methods, AUGMENTED_BATCH_SIZE)
    plain = median_epoch(times["without augmentation"])
    print()
    print_table(
        (f"one epoch, batch size {AUGMENTED_BATCH_SIZE}", "median, s", "/ without augmentation"),
        [
            (name, f"{median_epoch(runs):.2f}", f"{median_epoch(runs) / plain:.2f}")
            for name, runs in times.items()
        ],
    )


def train_alternately(
    methods: Mapping[str, str], batch_size: int = BATCH_SIZE
) -> dict[str, Seconds]:
    """Trains with each method in turn, since the speed of the machine may drift."""
    seconds: dict[str, Seconds] = {name: [] for name in methods}
    for _ in range(ROUNDS):
        for name, method in methods.items():
            seconds[name].append(train(method, EPOCHS, 0, batch_size)["seconds"])
    return seconds


def median_epoch(runs: Seconds) -> float:
    return median(seconds for run in runs for seconds in run[1:])


if __name__ == "__main__":
    command_line.run(main, __doc__)
