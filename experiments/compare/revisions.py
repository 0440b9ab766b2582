"""Results of a revision: parameters, predictions, test error and learning curves.

The files of a branch, tag, commit or experiment are read by `git show`, without a checkout; those
of the workspace from disk.
"""

import shlex
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api.types import is_numeric_dtype

from experiments.repository.clones import check_repository, fetch_missing_files
from experiments.repository.dvc_experiments import list_experiments
from experiments.repository.lock import DVC_TMP
from experiments.repository.lockfile_checks import PREDICTIONS, SCORES, Scores, matches_lockfile
from experiments.repository.pipeline import PIPELINE, frozen_stages
from experiments.repository.subprocesses import CommandError, dvc, git
from experiments.repository.temporary_directory import temporary_directory
from stages.common.errors import UserError
from stages.common.lockfile import (
    LOCKFILE,
    locked_outputs,
    locked_parameters,
    locked_stages,
    mixed_runs,
)
from stages.common.params import INVALID_CONTENT, parse_yaml
from stages.training.history import METRICS, read_curves

WORKSPACE = "workspace"
RAW = "data/raw"
TEST_IMAGES = f"{RAW}/x_test.npy"
CURVE = "metrics/train/plots/custom/{metric}.json"


class Revision(NamedTuple):
    """The results of a revision.

    Attributes:
        name: the name that the user gave.
        commit: its commit, or None for the workspace.
        params: the parameters that its stages were run with by name, such as train.seed.
        frozen: its frozen stages, which DVC does not run.
        predictions: a row for each test image; columns actual, predicted and confidence (0 to 1).
        scores: test error and interval.
        dataset_md5: MD5 of data/raw.
        history: for each metric a row for each epoch; columns `train` and `validation`.
    """

    name: str
    commit: str | None
    params: dict[str, Any]
    frozen: list[str]
    predictions: pd.DataFrame
    scores: Scores
    dataset_md5: str
    history: dict[str, pd.DataFrame]


def read_revision(name: str) -> Revision:
    """Reads the results of a revision.

    Args:
        name: of a branch, tag, commit or experiment, or `workspace`.

    Raises:
        UserError: there is no such revision, or it has no results of one pipeline run.
    """
    commit = None if name == WORKSPACE else resolve(name)
    read = partial(read_file, name, commit)
    frozen: list[str] = []
    try:
        frozen = frozen_stages(parse_yaml(read(str(PIPELINE)))["stages"])
        stages = locked_stages(read(LOCKFILE))
        mixed = list(mixed_runs(stages).values())
        if not matches_lockfile(stages, read):
            mixed.append(f"metrics/ or plots/ do not match {LOCKFILE}")
        if mixed:
            raise UserError(
                f"{name}: {mixed[0]}; expected results of one run. "
                f"Run: {repair(name, commit, frozen)}"
            )
        return Revision(
            name,
            commit,
            locked_parameters(stages),
            frozen,
            read_predictions(read(PREDICTIONS)),
            Scores.model_validate_json(read(SCORES)),
            locked_outputs(stages)[RAW],
            {metric: read_curves(read(CURVE.format(metric=metric)), metric) for metric in METRICS},
        )
    except INVALID_CONTENT:  # a ValidationError is a ValueError
        raise UserError(
            f"{name}: results in an unknown format. Run: {repair(name, commit, frozen)}"
        ) from None


def repair(name: str, commit: str | None, frozen: list[str]) -> str:
    """The command that runs the pipeline of a revision again."""
    run = f"dvc unfreeze {' '.join(frozen)} && dvc repro" if frozen else "dvc repro"
    return (
        f"git checkout {shlex.quote(name)} && {run} && git commit -am 'Run the pipeline'"
        if commit
        else run
    )


def resolve(name: str) -> str:
    """The commit of a branch, tag, commit or experiment.

    Raises:
        UserError: there is no such revision, or no git repository.
    """
    check_repository()
    experiment = list_experiments().get(name)
    try:
        options = ("--verify", "--quiet", "--end-of-options")
        commit = git("rev-parse", *options, f"{name}^{{commit}}").strip()
    except UserError:
        commit = None
    # For a name such as ^HEAD, rev-parse prints ^ and a hash: an exclusion, not a commit.
    if commit is None or not commit.isalnum():
        commit = experiment
    if commit is None:
        raise UserError(
            f"{name}: not a branch, tag, commit or experiment. List them: git branch --all; "
            "git tag; dvc exp list --all-commits"
        )
    if experiment not in (None, commit):
        raise UserError(
            f"{name} is an experiment, and also a branch or tag. Give its commit instead: "
            f"{experiment[:10]} is the experiment, {commit[:10]} the other"
        )
    return commit


def read_file(name: str, commit: str | None, path: str) -> str:
    """The text of a file of a revision.

    Raises:
        UserError: it is missing.
    """
    try:
        if commit is None:
            return Path(path).read_bytes().decode()
        return git("show", f"{commit}:{path}")
    except (FileNotFoundError, UserError):
        raise UserError(f"{name} has no {path}. Run: {repair(name, commit, [])}") from None


def read_predictions(text: str) -> pd.DataFrame:
    """Reads plots/predictions.csv.

    Raises:
        ValueError: the text is not such a table.
    """
    table = pd.read_csv(StringIO(text), usecols=["actual", "predicted", "confidence"])
    if table.isna().any(axis=None) or not is_numeric_dtype(table["confidence"]):
        raise ValueError("not a table of predictions")
    return table


def read_test_images(commit: str) -> npt.NDArray[np.uint8]:
    """The test images of a commit, (n, 28, 28), from DVC's cache or its default remote.

    Raises:
        UserError: neither has them.
    """
    fetch_missing_files(commit)
    with temporary_directory(DVC_TMP, "compare-") as directory:
        file = directory / "x_test.npy"
        try:
            dvc("get", ".", TEST_IMAGES, "--rev", commit, "--out", str(file))
        except CommandError:
            raise UserError(
                f"{TEST_IMAGES} is not in DVC's cache. Run: dvc repro (with a remote: dvc fetch)"
            ) from None
        images: npt.NDArray[np.uint8] = np.load(file, allow_pickle=False)
    return images
