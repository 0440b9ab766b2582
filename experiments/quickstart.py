"""Runs the whole pipeline on mnist-5k as a DVC experiment; the workspace stays as it is."""

import json
import shutil
from pathlib import Path

from experiments.check_params import read_params
from experiments.repository.clones import temporary_clone
from experiments.repository.dvc_experiments import run_and_import_experiment
from experiments.repository.recovery_steps import print_recovery_steps
from stages.common import command_line
from stages.common.atomic_write import atomic_write
from stages.data.datasets import DATASETS

NAME = "quickstart"
DATASET = "mnist-5k"
RESULTS = Path("quickstart")


def main() -> None:
    params = read_params()
    print_recovery_steps()
    with temporary_clone(NAME) as clone:
        run_and_import_experiment(clone, NAME, {"download.dataset": DATASET})
        with atomic_write(RESULTS) as partial:
            for directory in ("metrics", "plots"):
                shutil.copytree(clone / directory, partial / directory)
    scores = json.loads((RESULTS / "metrics/evaluate.json").read_text())
    training_images = DATASETS[DATASET].training_images - params["normalize"].validation
    test_images = len((RESULTS / "plots/predictions.csv").read_text().splitlines()) - 1
    print(f"""
The network of params.yaml, trained on {training_images:,} digits, tested on {test_images:,} others:

  Baseline Error: {scores["baseline_error"]:.2f}% \
({100 * params["evaluate"].confidence:g}% interval \
{scores["baseline_error_low"]:.2f}–{scores["baseline_error_high"]:.2f})

This was an experiment in a temporary clone: your files are unchanged.

Plots:     {RESULTS}/plots/*.png
Type next: . .venv/bin/activate      makes the command dvc available
           dvc exp apply {NAME}  use its network: make predict, make app
           make experiments          all experiments in a table
           dvc exp run --temp -S download.dataset={DATASET} -S train.epochs=20
           make repro                the same on all of MNIST (11 MB to download)""")


if __name__ == "__main__":
    command_line.run(main, __doc__)
