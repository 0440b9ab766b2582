"""Compares epochs and widths over several seeds, by DVC's experiments: `make study`."""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.evidence import summarize
from experiments.grid import STUDY, Study, Training, read_study
from experiments.recipes import held, read, recipe
from experiments.report import ErrorsOnTest, Reading, page, picture, width
from experiments.tasks import carry_out, dvc, settings
from stages.data.mirrors import make_mirrors_absolute
from stages.edges.bad_input import BadInput, explained
from stages.edges.replacing import replacing
from stages.results.pictures import save
from stages.training.threads import FEWEST, THREADS, processors

REPORTS = Path("reports")
# The history's validation is the held-out images, or, where there are none, the test images.
HISTORY = "metrics/train/plots/metrics/validation/accuracy.tsv"
SCORES = "metrics/evaluate.json"
PREDICTIONS = "plots/predictions.csv"
# Times that an experiment is asked for before it is given up.
ATTEMPTS = 3
PREPARATION = "study-data"


def main() -> None:
    options = parse()
    study = read_study(STUDY, axes(options))
    jobs = options.jobs or workers()
    # Or each of them would start a thread for every processor.
    os.environ.setdefault(THREADS, str(max(FEWEST, processors() // jobs)))
    on_test = options.on == "test"
    validation = 0 if on_test else study.validation

    # After k epochs a training of more is the training of k: the longest serves all cells.
    trainings = [
        Training(tuple(units), max(study.epochs), seed, validation)
        for seed in study.seeds
        for units in study.hidden_units
    ]
    commits = obtain("Trainings", trainings, jobs)
    if not commits:
        raise BadInput("No training came through; dvc queue logs <name> says why")
    rows = table(commits, study.epochs)
    summary = summarize(by_seed(rows, study))

    best_width, best_epochs = summary.index[summary["best"]][0]
    chosen = [
        training._replace(epochs=int(best_epochs))
        for training in commits
        if width(training.hidden_units) == best_width
    ]
    commits_of_chosen = commits if on_test else obtain("Tests of the best", chosen, jobs)
    scores = [json.loads(read(commit, SCORES)) for commit in commits_of_chosen.values()]
    test_images = len(read(next(iter(commits.values())), PREDICTIONS).splitlines()) - 1
    test = None if on_test or not scores else ErrorsOnTest.of(scores, test_images)

    reading = Reading(on_test, test_images if on_test else validation)
    asked_for = trainings if on_test else [*trainings, *chosen]
    missing = [
        name(training)
        for training in dict.fromkeys(asked_for)
        if training not in commits and training not in commits_of_chosen
    ]
    text = page(summary, reading, test, missing)
    write(rows, text)
    save(picture(summary, reading), REPORTS / "study.png")
    print(f"\n{text}")
    if missing:
        raise BadInput(f"Not there after {ATTEMPTS} attempts: {', '.join(missing)}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.study",
        description="Compares epochs and widths over several seeds; study.yaml has the axes.",
    )
    parser.add_argument("--epochs", type=int, nargs="+", metavar="N")
    parser.add_argument(
        "--hidden-units", type=layers, nargs="+", metavar="N,N", help="such as 64,32 128,64"
    )
    parser.add_argument("--seeds", type=int, nargs="+", metavar="N")
    parser.add_argument("--validation", type=int, metavar="N", help="images to hold out")
    parser.add_argument(
        "--on",
        choices=["validation", "test"],
        default="validation",
        help="the images to compare on: held out, or the test set, as the tutorial does",
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="trainings at a time")
    options = parser.parse_args()
    if options.jobs is not None and options.jobs < 1:
        parser.error("--jobs must be at least 1")
    return options


def axes(options: argparse.Namespace) -> dict[str, Any]:
    """The axes that are given as options, by their names in study.yaml."""
    return {
        key: value
        for key, value in vars(options).items()
        if key in Study.model_fields and value is not None
    }


def layers(text: str) -> list[int]:
    return [int(units) for units in text.split(",")]


def workers() -> int:
    """As many trainings at a time as there are processors for, each with the fewest threads."""
    return max(1, processors() // FEWEST)


def obtain(label: str, trainings: Sequence[Training], jobs: int) -> dict[Training, str]:
    """The commits that hold the results of trainings, after running those that none holds.

    What has failed or got lost is asked for again, ATTEMPTS times in all; a training that is
    then not there is left out.
    """
    recipes = {training: recipe(training.parameters) for training in trainings}
    commits = held()
    there = sum(digest in commits for digest in recipes.values())
    print(f"{label}: {there} of {len(trainings)} are there, {len(trainings) - there} to train")
    for attempt in range(ATTEMPTS):
        wanted = {
            name(training): training.parameters
            for training, digest in recipes.items()
            if digest not in commits
        }
        if not wanted:
            break
        if attempt == 0:
            prepare_data(trainings[0].validation)
        carry_out(wanted, jobs)
        commits = held()
    return {training: commits[digest] for training, digest in recipes.items() if digest in commits}


def name(training: Training) -> str:
    """Of its experiment; the digits at the end change when code or other parameters do."""
    return (
        f"study-{width(training.hidden_units)}-epochs-{training.epochs}-seed-{training.seed}-"
        f"{recipe(training.parameters)[:7]}"
    )


def prepare_data(validation: int) -> None:
    """Puts the data into DVC's cache, so that the workers do not all download it."""
    make_mirrors_absolute()
    with suppress(BadInput):  # of a study that was killed
        dvc("exp", "remove", PREPARATION)
    (change,) = settings({"normalize.validation": validation})
    dvc("exp", "run", "--temp", "--name", PREPARATION, "--set-param", change, "normalize")
    with suppress(BadInput):  # where the workspace has that data, there is no experiment
        dvc("exp", "remove", PREPARATION)


def table(commits: Mapping[Training, str], epochs: Sequence[int]) -> pd.DataFrame:
    """A row for each training and number of epochs, with the error in percent."""
    rows: list[dict[str, Any]] = []
    for training, commit in commits.items():
        history = pd.read_csv(StringIO(read(commit, HISTORY)), sep="\t", index_col="step")
        rows += [
            {
                "hidden_units": width(training.hidden_units),
                "epochs": count,
                "seed": training.seed,
                "error": round(100 * (1 - history["accuracy"][count]), 4),
            }
            for count in epochs
        ]
    return pd.DataFrame(rows)


def by_seed(rows: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The errors with a row for each seed and a column for each cell, in the study's order."""
    cells = pd.MultiIndex.from_product(
        [[width(units) for units in study.hidden_units], study.epochs],
        names=["hidden_units", "epochs"],
    )
    errors = rows.pivot_table(index="seed", columns=["hidden_units", "epochs"], values="error")
    return errors.reindex(index=study.seeds, columns=cells)


def write(rows: pd.DataFrame, text: str) -> None:
    with replacing(REPORTS / "study.csv") as partial:
        rows.to_csv(partial, index=False)
    with replacing(REPORTS / "study.md") as partial:
        partial.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    with explained():
        main()
