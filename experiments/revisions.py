"""What a revision, be it a branch, a commit, an experiment or the workspace, holds of its network.

Nothing is checked out: all is read through DVC's API.
"""

from functools import partial
from io import StringIO
from typing import Any, NamedTuple

import dvc.api
import pandas as pd
from dvc.exceptions import DvcException
from dvc.scm import RevError, SCMError
from pandas.api.types import is_numeric_dtype
from pydantic import BaseModel
from scmrepo.exceptions import SCMError as GitError

from experiments.recipes import (
    HISTORY,
    LOCK,
    PREDICTIONS,
    SCORES,
    locked_parameters,
    locked_stages,
    tells_of,
)
from stages.edges.bad_input import BadInput
from stages.edges.parameters import NO_YAML
from stages.training.history import METRICS, curves_in

WORKSPACE = "workspace"
RAW = "data/raw"


class Scores(BaseModel):
    """An error and its interval, in percent."""

    baseline_error: float
    baseline_error_low: float
    baseline_error_high: float


class Revision(NamedTuple):
    """What a revision holds of its network.

    Attributes:
        name: as it was asked for.
        parameters: that it was made with, by name, such as train.seed.
        predictions: a row for each test image: actual and predicted digit, confidence 0 to 1.
        scores: what is shown of metrics/evaluate.json.
        dataset: the MD5 of data/raw, which dvc.lock holds.
        history: for each metric a row for each epoch, columns `train` and `validation`.
    """

    name: str
    parameters: dict[str, Any]
    predictions: pd.DataFrame
    scores: Scores
    dataset: str
    history: dict[str, pd.DataFrame]


def read_revision(name: str) -> Revision:
    """Reads what a revision holds.

    Raises:
        BadInput: there is no such revision, or it has no evaluated network.
    """
    # dvc.lock, as params.yaml may have been edited after the last dvc repro.
    lock = read(name, LOCK)
    try:
        if not tells_of(lock, partial(read, name)):
            raise BadInput(
                f"{name} holds other results than its {LOCK} tells of; "
                "git commit keeps them together"
            )
        return Revision(
            name,
            {
                key: value
                for stage in locked_stages(lock).values()
                for key, value in locked_parameters(stage).items()
            },
            predictions(read(name, PREDICTIONS)),
            Scores.model_validate_json(read(name, SCORES)),
            dataset(lock),
            {metric: curves_in(read(name, HISTORY.format(metric)), metric) for metric in METRICS},
        )
    except (TypeError, *NO_YAML):  # ValidationError is a ValueError
        raise BadInput(
            f"{name} holds results that cannot be read; dvc repro makes new ones"
        ) from None


def predictions(text: str) -> pd.DataFrame:
    """Reads plots/predictions.csv.

    Raises:
        ValueError: it is no such table.
    """
    table = pd.read_csv(StringIO(text), usecols=["actual", "predicted", "confidence"])
    if table.isna().any(axis=None) or not is_numeric_dtype(table["confidence"]):
        raise ValueError("not a table of predictions")
    return table


def read(name: str, path: str) -> str:
    try:
        text: str = dvc.api.read(path, rev=None if name == WORKSPACE else name)
    except (RevError, AttributeError, UnicodeError):  # HEAD:params.yaml is a file of a commit
        raise BadInput(
            f"{name} is no branch, tag, commit or experiment; git branch and dvc exp list show "
            "those there are"
        ) from None
    except (SCMError, GitError) as problem:
        raise BadInput(f"{name} cannot be looked up: {problem}") from None
    except (DvcException, FileNotFoundError):
        raise BadInput(f"{name} has no {path}; dvc repro makes it, git commit keeps it") from None
    return text


def dataset(lock: str) -> str:
    """The MD5 of the data set that a dvc.lock tells of."""
    (raw,) = (
        out["md5"]
        for stage in locked_stages(lock).values()
        for out in stage.get("outs", [])
        if out["path"] == RAW
    )
    return str(raw)
