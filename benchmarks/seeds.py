"""Whether this is the same training: test errors of plain Keras `fit` and of the compiled epoch.

python -m benchmarks.seeds
"""

import numpy as np

from benchmarks.training import train
from stages.edges.bad_input import explained, no_arguments

SEEDS = range(5)
EPOCHS = 10


def main() -> None:
    errors = {
        how: np.array([train(how, EPOCHS, seed)["test_error"] for seed in SEEDS])
        for how in ("plain", "compiled")
    }
    seeds = f"seeds {SEEDS[0]} to {SEEDS[-1]}"
    print(f"| test error, %, after {EPOCHS} epochs | {seeds} | mean ± standard error |")
    print("| --- | --- | ---: |")
    for how, values in errors.items():
        mean = f"{values.mean():.2f} ± {values.std(ddof=1) / np.sqrt(len(values)):.2f}"
        print(f"| {how} | {', '.join(f'{value:.2f}' for value in values)} | {mean} |")
    difference = errors["compiled"].mean() - errors["plain"].mean()
    error = np.sqrt(sum(values.var(ddof=1) / len(values) for values in errors.values()))
    print(f"\nDifference {difference:+.2f}, its standard error {error:.2f}")


if __name__ == "__main__":
    with explained():
        no_arguments(__doc__)
        main()
