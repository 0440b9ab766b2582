"""Tables of errors: of each trial and number of epochs, and of each seed and cell."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from experiments.repository.pipeline import PIPELINE
from experiments.repository.subprocesses import git
from experiments.study.grid import Study, Trial, layers_name
from stages.common.errors import UserError
from stages.common.lockfile import LOCKFILE, locked_parameters, locked_stages
from stages.common.params import as_yaml
from stages.training.history import read_curves

ACCURACY = "metrics/train/plots/custom/accuracy.json"


def errors_after_epochs(commits: Mapping[Trial, str], epochs: Sequence[int]) -> pd.DataFrame:
    """A row for each trial and number of epochs, with the error in percent.

    The error is NaN if the training ended before, for example by a callback.
    """
    rows: list[dict[str, Any]] = []
    for trial, commit in commits.items():
        # The split `validation` has the held-out images, or the test images if none are held out.
        curve = read_curves(read_output(commit, ACCURACY), "accuracy")["validation"]
        accuracy = curve.reindex(list(epochs))
        rows += [
            {
                "hidden_units": layers_name(trial.hidden_units),
                "epochs": count,
                "seed": trial.seed,
                "error": round(100 * (1 - accuracy[count]), 4),
            }
            for count in epochs
        ]
    return pd.DataFrame(rows)


def check_trials(trials: Mapping[str, Trial], commits: Mapping[str, str]) -> None:
    """Checks that experiments have the results of their trials' parameters.

    Args:
        trials: by name.
        commits: of the experiments, by name.

    Raises:
        UserError: a stage was run with other parameters.
    """
    for name, commit in commits.items():
        used = locked_parameters(locked_stages(read_output(commit, LOCKFILE)))
        for key, value in trials[name].changes.items():
            if used.get(key) != value:
                raise UserError(
                    f"{name}: {LOCKFILE} has {key} {as_yaml(used.get(key))}; expected "
                    f"{as_yaml(value)}, which no stage has used. Compare {PIPELINE} with its stages"
                )


def errors_by_seed(rows: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The errors with a row for each seed and a column for each cell, in the study's order."""
    cells = pd.MultiIndex.from_product(
        [[layers_name(units) for units in study.hidden_units], study.epochs],
        names=["hidden_units", "epochs"],
    )
    errors = rows.pivot_table(index="seed", columns=["hidden_units", "epochs"], values="error")
    return errors.reindex(index=study.seeds, columns=cells)


def read_output(commit: str, path: str) -> str:
    """An output that git keeps, as it is in a commit."""
    return git("show", f"{commit}:{path}")
