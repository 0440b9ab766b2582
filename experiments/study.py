"""Compares epochs and widths over several seeds, by DVC's experiments: `make study`."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.evidence import summarize
from experiments.grid import STUDY, Study, Training, read_study, width
from experiments.recipes import HISTORY, PREDICTIONS, SCORES, read
from experiments.report import ErrorsOnTest, Reading, page, picture
from experiments.trainings import Trainings
from experiments.workspace import alone
from stages.edges.bad_input import BadInput, explained
from stages.edges.replacing import replacing
from stages.training.history import curves_in
from tools.leftovers import name_leftovers
from tools.parameters import read_parameters

REPORTS = Path("reports")
OTHER_REPORTS = REPORTS / "options"  # which git ignores


def main() -> None:
    options = parse()
    study = read_study(STUDY, axes(options))
    read_parameters()
    name_leftovers()
    on_test = options.on == "test"
    # What compares something else does not replace the report on study.yaml.
    usual = study == read_study(STUDY, {}) and not on_test
    validation = 0 if on_test else study.validation
    with alone(), Trainings(validation, options.jobs) as trainings:
        compare(study, on_test, trainings, REPORTS if usual else OTHER_REPORTS)


def compare(study: Study, on_test: bool, trainings: Trainings, reports: Path) -> None:
    """Obtains the trainings of a study, and writes what they show.

    Raises:
        BadInput: some never came through; what the others show is written all the same.
    """
    # After k epochs a training of more is the training of k: the longest serves all cells.
    longest = [
        Training(tuple(units), max(study.epochs), seed, trainings.validation)
        for seed in study.seeds
        for units in study.hidden_units
    ]
    commits = trainings.obtain("Trainings", longest)
    if not commits:
        raise BadInput("No training came through; what is above says why")
    rows = table(commits, study.epochs)
    summary = summarize(by_seed(rows, study))

    best_width, best_epochs = summary.index[summary["best"]][0]
    chosen = [
        training._replace(epochs=int(best_epochs))
        for training in commits
        if width(training.hidden_units) == best_width
    ]
    commits_of_chosen = commits if on_test else trainings.obtain("Tests of the best", chosen)
    scores = [json.loads(read(commit, SCORES)) for commit in commits_of_chosen.values()]
    test_images = len(read(next(iter(commits.values())), PREDICTIONS).splitlines()) - 1
    test = None if on_test or not scores else ErrorsOnTest.of(scores, test_images)

    reading = Reading(on_test, test_images if on_test else trainings.validation)
    asked_for = longest if on_test else [*longest, *chosen]
    missing = [
        trainings.name(training)
        for training in dict.fromkeys(asked_for)
        if training not in commits and training not in commits_of_chosen
    ]
    text = page(summary, reading, test, missing)
    write(rows, text, reports)
    from stages.results.pictures import save  # imported late: matplotlib takes a second

    save(picture(summary, reading), reports / "study.png")
    print(f"\n{text}\nWritten to {reports}/study.md, .csv and .png")
    if missing:
        raise BadInput(f"Never came through: {', '.join(missing)}")


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
    if options.on == "test" and options.validation is not None:
        parser.error("--validation holds images out to compare on, which --on test does not use")
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


def table(commits: Mapping[Training, str], epochs: Sequence[int]) -> pd.DataFrame:
    """A row for each training and number of epochs, with the error in percent."""
    rows: list[dict[str, Any]] = []
    for training, commit in commits.items():
        # Its validation is the held-out images, or, where there are none, the test images.
        accuracy = curves_in(read(commit, HISTORY.format("accuracy")), "accuracy")["validation"]
        rows += [
            {
                "hidden_units": width(training.hidden_units),
                "epochs": count,
                "seed": training.seed,
                "error": round(100 * (1 - accuracy[count]), 4),
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


def write(rows: pd.DataFrame, text: str, reports: Path) -> None:
    with replacing(reports / "study.csv") as unfinished:
        rows.to_csv(unfinished, index=False)
    with replacing(reports / "study.md") as unfinished:
        unfinished.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    with explained():
        main()
