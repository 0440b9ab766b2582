import hashlib
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from experiments.compare import (
    count_mistakes,
    differences,
    main,
    one_wrong,
)
from experiments.evidence import Mistakes
from experiments.pull_request import curves
from experiments.recipes import HISTORY, LOCK, PREDICTIONS, SCORES
from experiments.revisions import dataset
from stages.edges.bad_input import BadInput
from tests.project import Project, copy_of_project


def table(predicted: list[int], confidence: list[float] | None = None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "actual": [0, 1, 2, 3],
            "predicted": predicted,
            "confidence": confidence or [0.5] * 4,
        }
    )


def test_mistakes_are_counted() -> None:
    a, b = table([0, 9, 9, 9]), table([9, 9, 2, 3])
    assert count_mistakes(a, b) == Mistakes(a_alone=2, b_alone=1, both=1)


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


@pytest.mark.parametrize("epochs", [1, 5])
def test_the_curves_of_both_go_through_every_epoch(epochs: int) -> None:
    def history(count: int, start: float) -> dict[str, pd.DataFrame]:
        steps = pd.RangeIndex(1, count + 1)
        table = pd.DataFrame({"train": start / steps, "validation": start / steps + 1}, index=steps)
        return {"loss": table, "accuracy": -table}

    a, b = history(epochs, 1), history(3, 2)
    for axes, metric in zip(curves(a, b).axes, ("loss", "accuracy"), strict=True):
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", metric)
        expected = [of[metric][split] for of in (a, b) for split in ("train", "validation")]
        for line, values in zip(axes.lines, expected, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), values.index)
            np.testing.assert_array_equal(line.get_ydata(), values)
            assert line.get_marker() != "None"  # a single epoch is to be seen, too
        assert [line.get_label() for line in axes.lines] == [
            "A, train",
            "A, validation",
            "B, train",
            "B, validation",
        ]
        assert all(tick == round(tick) for tick in axes.get_xticks())


def flip(project: Project, count: int) -> None:
    """Makes the first `count` right predictions wrong."""
    predictions = pd.read_csv(project.folder / PREDICTIONS)
    right = predictions.index[predictions["predicted"] == predictions["actual"]][:count]
    predictions.loc[right, "predicted"] = (predictions.loc[right, "actual"] + 1) % 10
    predictions.to_csv(project.folder / PREDICTIONS, index=False)
    project.dvc("commit", "--force", "evaluate", "card")


def pretend_other_data(project: Project) -> None:
    lock = project.read(LOCK)
    (project.folder / LOCK).write_text(lock.replace(dataset(lock), f"{'0' * 32}.dir"))
    project.commit("Other data")


def compare(project: Project, *revisions: str, fails: bool = False) -> str:
    return project.run("python", "-m", "experiments.compare", *revisions, fails=fails)


def compare_here(
    project: Project, monkeypatch: pytest.MonkeyPatch, revisions: Sequence[str] = ()
) -> None:
    """The same in this process, which spares the start of another."""
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr(sys, "argv", ["compare", *revisions])
    main()


def test_branches_tags_and_the_workspace_are_compared(project: Project) -> None:
    project.git("tag", "first")
    project.git("checkout", "--quiet", "-b", "worse")
    flip(project, 30)
    project.commit("Worse")
    flip(project, 1)

    output = compare(project, "first", "worse")
    assert "Mistakes: 0 of A alone, 30 of B alone" in output
    assert "A is better: 0 against 30, p < 0.0001" in output
    assert "shows 25 digits" in output
    assert (project.folder / "reports/compare.png").stat().st_size > 10_000
    page = project.read("reports/compare.md")
    assert page.startswith("# worse against first\n")
    assert "A is better: 0 against 30" in page
    assert "is not checked" in page
    for name in re.findall(r"!\[.*\]\((.*)\)", page):
        assert (project.folder / "reports" / name).read_bytes()[:4] == b"\x89PNG"
    assert project.git("status", "--porcelain") == (
        f" M dvc.lock\n M {PREDICTIONS}\n"  # not the picture
    )

    # By default the workspace against HEAD.
    assert "No difference can be told: 0 against 1, p = 1" in compare(project)
    page = project.read("reports/compare.md")
    assert "`dvc.lock` of B agrees with code and parameters" in page
    assert "The bytes of its results are not verified here" in page
    project.set({"evaluate": {"worst": 9}})
    compare(project)
    assert "is older than params.yaml; `dvc repro`" in project.read("reports/compare.md")


@pytest.mark.slow
def test_what_the_workflow_types_writes_the_summary(project: Project, tmp_path: Path) -> None:
    project.git("remote", "add", "origin", ".")
    project.git("fetch", "--quiet", "origin")
    project.git("checkout", "--quiet", "--detach")  # as a runner has it
    flip(project, 2)
    project.commit("Worse")
    workflow = yaml.safe_load(project.read(".github/workflows/ci.yaml"))
    commands = [step["run"] for step in workflow["jobs"]["report"]["steps"] if "run" in step]
    assert len(commands) == 3
    summary = tmp_path / "summary.md"
    # What make would install is there.
    environment = {"GITHUB_STEP_SUMMARY": str(summary), "MAKEFLAGS": " -- VENV="}
    for command in commands:
        project.run("bash", "-e", "-c", command, environment=environment)
    page = summary.read_text()
    assert page.startswith("# workspace against origin/main\n")
    assert "No difference can be told: 0 against 2" in page
    assert "![" not in page


def test_what_cannot_be_compared_is_told_in_a_line(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.git("checkout", "--quiet", "-b", "others")
    pretend_other_data(project)
    project.git("checkout", "--quiet", "-b", "nothing")
    project.git("rm", "--quiet", PREDICTIONS)
    project.commit("No predictions")
    project.git("checkout", "--quiet", "-b", "half", "main")
    (project.folder / SCORES).write_text("{}")
    project.commit("A part of the results")
    project.git("checkout", "--quiet", "nothing")
    for revisions, message in (
        (["main", "others"], "main and others have different test sets"),
        (["nothing", "main"], f"nothing has no {PREDICTIONS}"),
        (["half", "main"], "half holds other results than its dvc.lock tells of"),
        (["main", "HEAD:params.yaml"], "HEAD:params.yaml is no branch"),
        (["main", "nowhere"], "nowhere is no branch, tag, commit or experiment"),
    ):
        with pytest.raises(BadInput, match=rf"\A{re.escape(message)}.*\Z"):
            compare_here(project, monkeypatch, revisions)

    output = compare(project, "main", fails=True)
    assert output.startswith(f"workspace has no {PREDICTIONS}; dvc repro makes it")
    assert output.count("\n") == 1


def test_numbers_are_given_where_the_images_are_missing(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(project, 3)
    shutil.rmtree(project.folder / "data/raw")
    compare_here(project, monkeypatch)
    output = capsys.readouterr().out
    assert "0 against 3" in output
    assert "No picture: data/raw/x_test.npy is missing" in output


def test_numbers_are_given_where_the_images_are_others(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_other_data(project)
    flip(project, 3)
    compare_here(project, monkeypatch)
    output = capsys.readouterr().out
    assert "0 against 3" in output
    assert "No picture: data/raw holds another data set" in output


def test_results_of_another_form_are_told_in_a_line(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they are on a branch whose author has changed what evaluate writes."""
    for path, text in (
        (PREDICTIONS, "actual,predicted\n1,1\n"),
        (PREDICTIONS, "actual,predicted,confidence\n1,,0.5\n"),
        (PREDICTIONS, "actual,predicted,confidence\n1,1,sure\n"),
        (PREDICTIONS, ""),
        (SCORES, "{}"),
        (SCORES, "[1]"),
        (SCORES, '{"baseline_error": {"mean": 2}}'),
        (SCORES, "nonsense"),
        (HISTORY.format("loss"), "[]"),
        (HISTORY.format("loss"), "step\tloss"),
    ):
        project.git("checkout", "--quiet", "--force", "-B", "other", "main")
        (project.folder / path).unlink()
        (project.folder / path).write_text(text)
        lock = project.read("dvc.lock")
        (old,) = set(re.findall(rf"{path}\n *hash: md5\n *md5: (\w+)", lock))
        new = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
        (project.folder / "dvc.lock").write_text(lock.replace(old, new))
        project.commit("Another form")
        with pytest.raises(BadInput) as problem:
            compare_here(project, monkeypatch, ["other", "main"])
        assert str(problem.value) == (
            "other holds results that cannot be read; dvc repro makes new ones"
        )


def test_branches_of_any_name_are_compared(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("cost-$_$", "it's;a", "{größer}", "a|b"):
        project.git("checkout", "--quiet", "-b", name)
        flip(project, 1)
        project.commit("Worse")
        compare_here(project, monkeypatch, ["main", name])
        output = capsys.readouterr().out
        assert f"B: {name}, error" in output
        assert "reports/compare.png shows" in output
        table = [
            line for line in project.read("reports/compare.md").splitlines() if line[0:1] == "|"
        ]
        assert {line.count("|") for line in table} == {4}
        assert [line.split("|")[1].strip() for line in table] == ["", "---", "error"]


def test_without_git_the_cause_is_named(tmp_path: Path) -> None:
    elsewhere = copy_of_project(tmp_path / "copy")
    shutil.rmtree(elsewhere.folder / ".git")
    output = compare(elsewhere, "main", fails=True)
    assert output == (f"main cannot be looked up: {elsewhere.folder} is not a git repository\n")
    elsewhere.git("init", "--quiet", "--initial-branch=main")
    assert "Empty git repo" in compare(elsewhere, "main", fails=True)
