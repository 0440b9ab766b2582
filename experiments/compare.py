"""Compares the networks of two revisions, with a test: `make compare A=main B=wide`.

Nothing is checked out: what the two have predicted, and what they were made with, is read
through DVC's API.
"""

import argparse
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import dvc.api
import pandas as pd
from dvc.exceptions import DvcException
from dvc.scm import RevError, SCMError
from pandas.api.types import is_numeric_dtype
from pydantic import BaseModel
from scmrepo.exceptions import SCMError as GitError

from experiments.evidence import Mistakes
from experiments.recipes import LOCK, locked_parameters, locked_stages, md5, tells_of
from stages.data.arrays import Array, load_split
from stages.edges.bad_input import BadInput, explained, printable
from stages.edges.parameters import NO_YAML, shown
from stages.results.pictures import digits, save

WORKSPACE = "workspace"
PREDICTIONS = "plots/predictions.csv"
SCORES = "metrics/evaluate.json"
RAW = "data/raw"
PICTURE = Path("reports/compare.png")
MOST = 25  # digits in the picture


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
    """

    name: str
    parameters: dict[str, Any]
    predictions: pd.DataFrame
    scores: Scores
    dataset: str


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.compare",
        description="Compares the networks of two revisions: branches, tags, commits or "
        "experiments.",
    )
    parser.add_argument("a", nargs="?", default="HEAD", metavar="A", help="default: HEAD")
    parser.add_argument(
        "b", nargs="?", default=WORKSPACE, metavar="B", help=f"default: {WORKSPACE}"
    )
    options = parser.parse_args()

    a, b = read_revision(options.a), read_revision(options.b)
    if a.dataset != b.dataset or list(a.predictions["actual"]) != list(b.predictions["actual"]):
        raise BadInput(f"{a.name} and {b.name} have different test sets: nothing to compare")
    mistakes = count_mistakes(a.predictions, b.predictions)

    for label, revision in (("A", a), ("B", b)):
        print(f"{label}: {printable(revision.name)}, {described(revision)}")
    changes = differences(a.parameters, b.parameters)
    print("\nSame parameters" if changes.empty else f"\n{changes.to_string()}")
    print(
        f"\nMistakes: {mistakes.a_alone} of A alone, {mistakes.b_alone} of B alone, "
        f"{mistakes.both} of both"
    )
    if (a.predictions["predicted"] == b.predictions["predicted"]).all():
        print("They predict the same")
        return
    print(f"{mistakes.verdict[0].upper()}{mistakes.verdict[1:]} (McNemar's exact test)")
    print("This is about these two networks; about widths or epochs as such, ask make study.")

    either = one_wrong(a.predictions, b.predictions)
    if not len(either):
        return
    images = test_images(a.dataset)
    if isinstance(images, str):
        print(f"No picture: {images}")
        return
    captions = [f"{row.actual} → {row.predicted} by {row.wrong}" for row in either.itertuples()]
    title = (
        f"A: {a.name}, B: {b.name}\n{len(either)} of {mistakes.a_alone + mistakes.b_alone} "
        "digits that one of them misreads: digit → what it reads"
    )
    save(digits(images[either.index], captions, title), PICTURE)
    print(f"{PICTURE} shows {len(either)} digits that one of them reads wrong")


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


def described(revision: Revision) -> str:
    scores, table = revision.scores, revision.predictions
    mistakes = (table["actual"] != table["predicted"]).sum()
    return (
        f"error {scores.baseline_error:.2f}% "
        f"({scores.baseline_error_low:.2f}–{scores.baseline_error_high:.2f}, "
        f"{mistakes:,} of {len(table):,})"
    )


def differences(a: dict[str, Any], b: dict[str, Any]) -> pd.DataFrame:
    """A row for each parameter that differs, with a column for A and for B."""
    keys = [key for key in a | b if a.get(key) != b.get(key)]
    return pd.DataFrame(
        {
            label: [shown(parameters[key]) if key in parameters else "–" for key in keys]
            for label, parameters in (("A", a), ("B", b))
        },
        index=keys,
    )


def count_mistakes(a: pd.DataFrame, b: pd.DataFrame) -> Mistakes:
    """Counts the mistakes of two tables of predictions for the same images."""
    a_wrong = a["predicted"] != a["actual"]
    b_wrong = b["predicted"] != b["actual"]
    return Mistakes(
        int((a_wrong & ~b_wrong).sum()),
        int((b_wrong & ~a_wrong).sum()),
        int((a_wrong & b_wrong).sum()),
    )


def one_wrong(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """The predictions that are wrong where the other's is right, at most MOST, surest first.

    Returns:
        The rows with their index, the image's place; `wrong` says whose they are, A or B.
    """
    tables = []
    for label, wrong, right in (("A", a, b), ("B", b, a)):
        alone = (wrong["predicted"] != wrong["actual"]) & (right["predicted"] == right["actual"])
        tables.append(wrong[alone].assign(wrong=label))
    return pd.concat(tables).sort_values("confidence", ascending=False, kind="stable").head(MOST)


def dataset(lock: str) -> str:
    """The MD5 of the data set that a dvc.lock tells of."""
    (raw,) = (
        out["md5"]
        for stage in locked_stages(lock).values()
        for out in stage.get("outs", [])
        if out["path"] == RAW
    )
    return str(raw)


def test_images(dataset: str) -> Array | str:
    """The test images of the data set with this MD5, or why they are not at hand."""
    try:
        x_test, _ = load_split(Path(RAW), "test", "uint8")
    except BadInput as problem:
        return str(problem)
    if md5(RAW) != dataset:
        return f"{RAW} holds another data set than these two were tested with"
    return x_test


if __name__ == "__main__":
    with explained():
        main()
