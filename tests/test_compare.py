"""`make compare`: verdicts, the page for a pull request, and what cannot be compared."""

import hashlib
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from experiments.compare import count_mistakes, differences, main, one_wrong
from experiments.evidence import Mistakes
from experiments.pull_request import curves
from experiments.recipes import HISTORY, LOCK, PREDICTIONS, SCORES
from experiments.revisions import dataset
from stages.edges.bad_input import BadInput
from tests.project import Project, copy_files

Compare = Callable[..., str]


def table(predicted: list[int], confidence: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"actual": [0, 1, 2, 3], "predicted": predicted, "confidence": confidence})


def test_mistakes_of_one_alone_are_counted_and_the_surest_come_first() -> None:
    a, b = table([0, 9, 9, 9], [0.9, 0.6, 0.7, 0.8]), table([9, 9, 2, 3], [0.75, 0.9, 0.9, 0.9])
    assert count_mistakes(a, b) == Mistakes(a_alone=2, b_alone=1, both=1)
    found = one_wrong(a, b)
    assert list(found.index) == [3, 0, 2]
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
    lines = [(label, of, split) for label, of in (("A", a), ("B", b)) for split in a["loss"]]
    for axes, metric in zip(curves(a, b).axes, ("loss", "accuracy"), strict=True):
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", metric)
        for line, (label, of, split) in zip(axes.lines, lines, strict=True):
            assert line.get_label() == f"{label}, {split}"
            np.testing.assert_array_equal(line.get_xdata(), of[metric].index)
            np.testing.assert_array_equal(line.get_ydata(), of[metric][split])
            assert line.get_marker() != "None"  # a single epoch is to be seen, too
        assert all(tick == round(tick) for tick in axes.get_xticks())


@pytest.fixture
def compare(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Compare:
    """Compares revisions of the project, in this process, and returns what is printed."""

    def compare(*revisions: str) -> str:
        monkeypatch.chdir(project.folder)
        monkeypatch.setattr(sys, "argv", ["compare", *revisions])
        main()
        return capsys.readouterr().out

    return compare


def replace_result(project: Project, path: str, text: str) -> None:
    """Writes a result, and its MD5 into dvc.lock, as if a stage had written it."""
    file = project.folder / path
    old, new = (
        hashlib.md5(content, usedforsecurity=False).hexdigest()
        for content in (file.read_bytes(), text.encode())
    )
    file.write_text(text)
    lock = project.read(LOCK)
    assert old in lock
    (project.folder / LOCK).write_text(lock.replace(old, new))


def add_mistakes(project: Project, count: int) -> None:
    """Makes the first `count` right predictions wrong."""
    predictions = pd.read_csv(project.folder / PREDICTIONS)
    right = predictions.index[predictions["predicted"] == predictions["actual"]][:count]
    predictions.loc[right, "predicted"] = (predictions.loc[right, "actual"] + 1) % 10
    replace_result(project, PREDICTIONS, predictions.to_csv(index=False))


def pretend_other_data(project: Project) -> None:
    lock = project.read(LOCK)
    (project.folder / LOCK).write_text(lock.replace(dataset(lock), f"{'0' * 32}.dir"))
    project.commit("Other data")


def test_a_branch_is_compared_with_a_tag_and_the_workspace_with_head(
    project: Project, compare: Compare
) -> None:
    branch = "it's;a-$_$|{größer}"
    project.git("tag", "first")
    project.git("checkout", "--quiet", "-b", branch)
    add_mistakes(project, 30)
    project.commit("Worse")
    add_mistakes(project, 1)

    output = compare("first", branch)
    assert f"B: {branch}, error" in output
    assert "Mistakes: 0 of A alone, 30 of B alone" in output
    assert "A is better: 0 against 30, p < 0.0001" in output
    assert "shows 25 digits" in output
    assert (project.folder / "reports/compare.png").stat().st_size > 10_000
    page = project.read("reports/compare.md")
    assert page.startswith(f"# {branch} against first\n")
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {4}
    assert [row.split("|")[1].strip() for row in rows] == ["", "---", "error"]
    assert "A is better: 0 against 30" in page
    assert "is not checked" in page
    pictures = re.findall(r"!\[.*\]\((.*)\)", page)
    assert len(pictures) == 2
    for name in pictures:
        assert (project.folder / "reports" / name).read_bytes()[:4] == b"\x89PNG"
    # The pictures are not in git.
    assert project.git("status", "--porcelain") == f" M dvc.lock\n M {PREDICTIONS}\n"

    assert "No difference can be told: 0 against 1, p = 1" in compare()
    page = project.read("reports/compare.md")
    assert "`dvc.lock` of B agrees with code and parameters" in page
    assert "The bytes of its results are not verified here" in page
    project.set({"evaluate": {"worst": 9}})
    compare()
    assert "is older than params.yaml; `dvc repro`" in project.read("reports/compare.md")


def test_a_pull_request_has_the_page_without_pictures_in_its_summary(
    project: Project, compare: Compare, tmp_path: Path
) -> None:
    """`make` itself, which the workflow calls too, is run by test_team.py."""
    workflow = yaml.safe_load(project.read(".github/workflows/ci.yaml"))
    commands = [step["run"] for step in workflow["jobs"]["report"]["steps"] if "run" in step]
    *made, summarise = commands
    assert made == ["make repro", "make compare A=origin/main"]
    project.git("update-ref", "refs/remotes/origin/main", "main")
    project.git("checkout", "--quiet", "--detach")  # as a runner has it
    add_mistakes(project, 2)
    project.commit("Worse")
    compare("origin/main", "workspace")
    summary = tmp_path / "summary.md"
    environment = {"GITHUB_STEP_SUMMARY": str(summary)}
    project.run("bash", "-e", "-c", summarise, environment=environment)
    page = summary.read_text()
    assert page.startswith("# workspace against origin/main\n")
    assert "No difference can be told: 0 against 2" in page
    assert "![" not in page


def test_what_cannot_be_compared_is_told_in_a_line(project: Project, compare: Compare) -> None:
    project.git("checkout", "--quiet", "-b", "others")
    pretend_other_data(project)
    project.git("checkout", "--quiet", "-b", "half", "main")
    (project.folder / SCORES).write_text("{}")
    project.commit("A part of the results")
    project.git("checkout", "--quiet", "-b", "nothing", "main")
    project.git("rm", "--quiet", PREDICTIONS)
    project.commit("No predictions")
    for revisions, message in (
        (["main", "others"], "main and others have different test sets"),
        (["nothing", "main"], f"nothing has no {PREDICTIONS}"),
        (["main"], f"workspace has no {PREDICTIONS}; dvc repro makes it"),
        (["half", "main"], "half holds other results than its dvc.lock tells of"),
        (["main", "HEAD:params.yaml"], "HEAD:params.yaml is no branch"),
        (["main", "nowhere"], "nowhere is no branch, tag, commit or experiment"),
    ):
        with pytest.raises(BadInput, match=rf"\A{re.escape(message)}.*\Z"):
            compare(*revisions)


def test_results_of_another_form_are_told_in_a_line(project: Project, compare: Compare) -> None:
    """As they are where somebody has changed what evaluate writes."""
    message = "workspace holds results that cannot be read; dvc repro makes new ones"
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
        replace_result(project, path, text)
        with pytest.raises(BadInput, match=rf"\A{message}\Z"):
            compare("workspace", "main")
        project.git("checkout", "--quiet", ".")


def test_numbers_are_given_without_the_images(project: Project, compare: Compare) -> None:
    pretend_other_data(project)
    add_mistakes(project, 3)
    output = compare()
    assert "0 against 3" in output
    assert "No picture: data/raw holds another data set" in output
    shutil.rmtree(project.folder / "data/raw")
    output = compare()
    assert "0 against 3" in output
    assert "No picture: data/raw/x_test.npy is missing" in output


def test_without_git_the_cause_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "copy"
    project = copy_files(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["compare", "main"])
    message = f"main cannot be looked up: {folder} is not a git repository"
    with pytest.raises(BadInput, match=rf"\A{re.escape(message)}\Z"):
        main()
    project.git("init", "--quiet", "--initial-branch=main")
    with pytest.raises(BadInput, match="Empty git repo"):
        main()
