"""Eight trainings by DVC's queue, one a processor, against the same eight one after the other.

    python -m benchmarks.parallel_study

It works in a clone of the last commit, so the workspace stays as it is. The two eights differ
in their seeds, so that DVC's run cache has no results for either. The data is there for both.
"""

import argparse
import subprocess
import tempfile
import time
from contextlib import chdir
from pathlib import Path

from experiments.grid import STUDY, read_study
from experiments.study import prepare_data, workers
from experiments.tasks import carry_out, dvc, settings

ROOT = Path(__file__).parents[1]
TRAININGS = 8
TARGET = 0.6


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.parallel_study",
        description="Times eight trainings, by the queue and one after the other.",
    )
    longest = max(read_study(STUDY, {}).epochs)
    parser.add_argument("--epochs", type=int, default=longest, help=f"the study's: {longest}")
    epochs = parser.parse_args().epochs
    first, second = (
        [{"train.epochs": epochs, "train.seed": seed + first} for seed in range(TRAININGS)]
        for first in (1000, 2000)
    )
    jobs = workers()

    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
        with chdir(folder):
            prepare_data(validation=0)
            start = time.perf_counter()
            carry_out({f"queue-{place}": changes for place, changes in enumerate(first)}, jobs)
            by_queue = time.perf_counter() - start
            start = time.perf_counter()
            for changes in second:
                dvc("exp", "run", *(f"--set-param={setting}" for setting in settings(changes)))
            one_by_one = time.perf_counter() - start
            done = subprocess.run(
                ["dvc", "exp", "list", "--name-only"], check=True, capture_output=True, text=True
            ).stdout.split()

    if len(done) != 2 * TRAININGS:
        raise SystemExit(f"only {len(done)} of {2 * TRAININGS} trainings came through")
    ratio = by_queue / one_by_one
    print(
        f"{TRAININGS} trainings of {epochs} epochs: {by_queue:.0f} s by the queue, {jobs} at a "
        f"time; {one_by_one:.0f} s one after the other: {ratio:.2f} (at most {TARGET})"
    )
    raise SystemExit(ratio > TARGET)


if __name__ == "__main__":
    main()
