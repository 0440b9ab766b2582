import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from experiments.compare import count_mistakes, differences, one_wrong
from experiments.evidence import Mistakes
from tests.conftest import Clone


def table(predicted: list[int], confidence: list[float] | None = None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "actual": [0, 1, 2, 3],
            "predicted": predicted,
            "confidence": confidence or [0.5] * 4,
        }
    )


def test_mistakes_are_counted() -> None:
    a, b = table([0, 9, 9, 9]), table([9, 9, 9, 3])
    assert count_mistakes(a, b) == Mistakes(a_alone=1, b_alone=1, both=2)


def test_the_surest_mistakes_of_one_alone_come_first() -> None:
    a, b = table([0, 9, 9, 9], [0.9, 0.6, 0.7, 0.8]), table([9, 1, 9, 3], [0.7, 0.9, 0.9, 0.9])
    found = one_wrong(a, b)
    assert list(found.index) == [3, 0, 1]
    assert list(found["wrong"]) == ["A", "B", "A"]


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        (41, 38, "no difference can be told: 41 against 38, p = 0.82"),
        (0, 0, "no difference can be told: 0 against 0, p = 1"),
        (3, 15, "A is better: 3 against 15, p = 0.0075"),
        (90, 10, "B is better: 90 against 10, p < 0.0001"),
    ],
)
def test_the_verdict_is_mcnemars(a: int, b: int, verdict: str) -> None:
    assert Mistakes(a, b, both=100).verdict == verdict


def test_parameters_that_differ_are_shown_as_in_yaml() -> None:
    changes = differences(
        {"model.hidden_units": [8], "train.seed": 1}, {"model.hidden_units": [8, 4], "new": True}
    )
    assert changes.to_dict("index") == {
        "model.hidden_units": {"A": "[8]", "B": "[8, 4]"},
        "train.seed": {"A": "1", "B": "–"},
        "new": {"A": "–", "B": "true"},
    }


def flip(project: Clone, count: int) -> None:
    """Makes the first `count` right predictions wrong."""
    predictions = pd.read_csv(project.path / "plots/predictions.csv")
    right = predictions.index[predictions["predicted"] == predictions["actual"]][:count]
    predictions.loc[right, "predicted"] = (predictions.loc[right, "actual"] + 1) % 10
    project.edit("plots/predictions.csv", predictions.to_csv(index=False))


def compare(project: Clone, *revisions: str, status: int = 0) -> str:
    return project.run("python", "-m", "experiments.compare", *revisions, status=status)


def test_branches_tags_and_the_workspace_are_compared(project: Clone) -> None:
    project.run("git", "tag", "first")
    project.run("git", "checkout", "-q", "-b", "worse")
    flip(project, 30)
    project.commit("Worse")
    flip(project, 1)

    output = compare(project, "first", "worse")
    assert "Mistakes: 0 of A alone, 30 of B alone" in output
    assert "A is better: 0 against 30, p < 0.0001" in output
    assert "shows 25 digits" in output
    assert (project.path / "reports/compare.png").stat().st_size > 10_000
    assert project.dirty == [" M plots/predictions.csv"]  # not the picture

    # By default the workspace against HEAD.
    assert "No difference can be told: 0 against 1, p = 1" in compare(project)


def test_what_cannot_be_compared_is_told_in_a_line(project: Clone) -> None:
    dataset = json.loads((project.path / "metrics/dataset.json").read_text())
    project.run("git", "checkout", "-q", "-b", "others")
    project.edit("metrics/dataset.json", json.dumps(dataset | {"sha256": "0" * 64}))
    project.commit("Other data")
    project.run("git", "checkout", "-q", "-b", "nothing")
    project.run("git", "rm", "-q", "plots/predictions.csv")
    project.commit("No predictions")
    for revisions, message in (
        (("main", "others"), "main and others have different test sets"),
        (("nothing", "main"), "nothing has no plots/predictions.csv"),
        (("main", "nowhere"), "nowhere is no branch, tag, commit or experiment"),
        (("main",), "workspace has no plots/predictions.csv"),
    ):
        output = compare(project, *revisions, status=1)
        assert output.startswith(message)
        assert output.count("\n") == 1


@pytest.mark.parametrize(
    ("images", "reason"), [(None, "is missing"), ("other", "holds another data set")]
)
def test_numbers_are_given_without_images(project: Clone, images: str | None, reason: str) -> None:
    flip(project, 3)
    raw: Path = project.path / "data/raw"
    if images is None:
        shutil.rmtree(raw)
    else:
        dataset = json.loads((project.path / "metrics/dataset.json").read_text())
        project.edit("metrics/dataset.json", json.dumps(dataset | {"sha256": "0" * 64}))
        project.commit("As if the data had changed since")
        flip(project, 3)
    output = compare(project)
    assert "0 against 3" in output
    assert f"No picture: data/raw{'/x_train.npy' if images is None else ''} {reason}" in output
