"""Grid search over epochs and widths with several seeds: `make study`."""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.check_params import read_params
from experiments.repository.clones import temporary_clone
from experiments.repository.dvc_experiments import Changes
from experiments.repository.lockfile_checks import PREDICTIONS, SCORES
from experiments.repository.recovery_steps import print_recovery_steps
from experiments.study import cluster
from experiments.study.error_tables import (
    check_trials,
    errors_after_epochs,
    errors_by_seed,
    read_output,
)
from experiments.study.grid import STUDY, Study, Trial, layers_name, read_study, trials_of
from experiments.study.local import run_locally
from experiments.study.report import (
    BIAS_ON_TEST,
    describe_images,
    describe_test_error,
    markdown,
    plot,
)
from experiments.study.runner import ATTEMPTS, FinishedTrials, TrialRunner, get_or_run
from experiments.study.significance import summarize
from experiments.study.trial import (
    Inputs,
    commit_snapshot,
    prepare_data,
    read_inputs,
    trial_name,
)
from stages.common import command_line
from stages.common.atomic_write import atomic_write
from stages.common.errors import UserError
from stages.common.params import check_range
from stages.data.datasets import DATASETS
from stages.data.mirrors import make_mirrors_absolute

REPORTS = Path("reports")
OTHER_REPORTS = REPORTS / "options"  # ignored by git


def main() -> None:
    options = parse()
    study = read_study(STUDY, axis_options(options))
    params = read_params()
    print_recovery_steps()
    make_mirrors_absolute()
    on_test = options.on == "test"
    validation = 0 if on_test else study.validation
    check_data(validation, params)
    # A study with options does not replace the report of study.yaml.
    reports = REPORTS if study == read_study(STUDY, {}) and not on_test else OTHER_REPORTS
    with temporary_clone("study") as snapshot:
        commit_snapshot(snapshot)
        inputs = read_inputs(snapshot)
        run_trials = choose_runner(snapshot, validation, options.jobs)
        run_study(study, on_test, inputs, run_trials, reports)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.study",
        description="Compares epochs and widths over several seeds. The defaults of the first four "
        "options are in study.yaml.",
    )
    parser.add_argument("--epochs", type=int, nargs="+", metavar="N", help="numbers of epochs")
    parser.add_argument(
        "--hidden-units", type=parse_layers, nargs="+", metavar="N,N", help="such as 64,32 128,64"
    )
    parser.add_argument("--seeds", type=int, nargs="+", metavar="N", help="one trial for each")
    parser.add_argument("--validation", type=int, metavar="N", help="images to hold out")
    parser.add_argument(
        "--on",
        choices=["validation", "test"],
        default="validation",
        help="images to compare on: held-out training images, or the test set as in the tutorial",
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="trials at a time")
    options = parser.parse_args()
    if options.jobs is not None and options.jobs < 1:
        parser.error("--jobs must be at least 1")
    if options.jobs is not None and os.environ.get(cluster.ADDRESS):
        parser.error(f"--jobs has no effect on a cluster ({cluster.ADDRESS}): ray start --num-cpus")
    if options.on == "test" and options.validation is not None:
        parser.error("--validation holds images out to compare on, which --on test does not use")
    return options


def check_data(validation: int, params: Mapping[str, Any]) -> None:
    """Checks the ranges that depend on the data set.

    Args:
        validation: number of training images held out.
        params: sections of params.yaml by name.

    Raises:
        UserError: more images are held out than there are, or fewer than a batch are left.
    """
    images = DATASETS[params["download"].dataset].training_images
    check_range("study.validation", validation, 0, images - 1, STUDY)
    check_range("train.batch_size", params["train"].batch_size, 1, images - validation)


def axis_options(options: argparse.Namespace) -> dict[str, Any]:
    """The axes that options replace, by the names of study.yaml."""
    return {
        key: value
        for key, value in vars(options).items()
        if key in Study.model_fields and value is not None
    }


def parse_layers(text: str) -> list[int]:
    return [int(units) for units in text.split(",")]


def choose_runner(snapshot: Path, validation: int, jobs: int | None) -> TrialRunner:
    """A function that runs trials on this machine, or on the cluster at RAY_ADDRESS if it is set.

    Args:
        snapshot: directory of the snapshot.
        validation: number of training images held out.
        jobs: number of trials at a time on this machine; None for one per processor.
    """
    address = os.environ.get(cluster.ADDRESS)

    @cache  # once, when the first trial is to be run
    def prepare() -> None:
        remote_name = cluster.check_cluster(address) if address else None
        prepare_data(snapshot, validation, remote_name)

    def run_trials(trials: Mapping[str, Changes]) -> FinishedTrials:
        prepare()
        if address:
            return cluster.run_on_cluster(snapshot, address, trials)
        return run_locally(snapshot, jobs, trials)

    return run_trials


def run_study(
    study: Study, on_test: bool, inputs: Inputs, run_trials: TrialRunner, reports: Path
) -> None:
    """Runs the trials of a study and writes its report.

    Args:
        study: the axes.
        on_test: whether the cells are compared on the test images.
        inputs: of the pipeline.
        run_trials: runs trials.
        reports: directory of the report.

    Raises:
        UserError: a trial has failed. The report is written from the others, if there are any.
    """
    trials = name_trials(trials_of(study, on_test), inputs)
    commits = get_or_run("Trials", trials, run_trials)
    if not commits:
        raise UserError(failure_message(list(trials), len(trials)))
    check_trials(trials, commits)
    rows = errors_after_epochs(
        {trials[name]: commit for name, commit in commits.items()}, study.epochs
    )
    stopped = [
        f"{row.hidden_units} after {row.epochs} epochs (seed {row.seed})"
        for row in rows[rows["error"].isna()].itertuples()
    ]
    if len(stopped) == len(rows):
        raise UserError(
            f"study: no training reached {min(study.epochs)} epochs; "
            "expected fewer epochs, or callbacks() in network.py that stop later"
        )
    summary = summarize(errors_by_seed(rows, study))

    test_images = len(read_output(next(iter(commits.values())), PREDICTIONS).splitlines()) - 1
    images = describe_images(on_test, test_images if on_test else study.validation)
    wanted, test_error = trials, BIAS_ON_TEST
    if not on_test:
        best_width, best_epochs = summary.index[summary["best"]][0]
        best_trials = name_trials(
            [
                trials[name]._replace(epochs=int(best_epochs))
                for name in commits
                if layers_name(trials[name].hidden_units) == best_width
            ],
            inputs,
        )
        best_commits = get_or_run("Trials of the best cell", best_trials, run_trials)
        check_trials(best_trials, best_commits)
        scores = [json.loads(read_output(commit, SCORES)) for commit in best_commits.values()]
        errors = pd.Series([score["baseline_error"] for score in scores], dtype=float)
        test_error = describe_test_error(errors, test_images)
        wanted, commits = trials | best_trials, commits | best_commits
    failed = [name for name in wanted if name not in commits]

    schedule = inputs.params.get("train.schedule", "constant")
    text = markdown(summary, images, test_error, failed, stopped, schedule)
    write(rows, text, reports)
    from stages.evaluation.plots import save  # imported late: matplotlib takes a second

    save(plot(summary, images), reports / "study.png")
    print(f"\n{text}\nWritten to {reports}/study.md, .csv and .png")
    if failed:
        raise UserError(f"{failure_message(failed, len(wanted))}\nThe report is without them")


def name_trials(trials: Sequence[Trial], inputs: Inputs) -> dict[str, Trial]:
    return {trial_name(trial, inputs): trial for trial in trials}


def failure_message(failed: Sequence[str], wanted: int) -> str:
    return (
        f"study: {len(failed)} of {wanted} trials failed {ATTEMPTS} times (output above): "
        f"{', '.join(failed)}. The same command tries them again"
    )


def write(rows: pd.DataFrame, text: str, reports: Path) -> None:
    with atomic_write(reports / "study.csv") as partial:
        rows.to_csv(partial, index=False)
    with atomic_write(reports / "study.md") as partial:
        partial.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    command_line.run(main)
