"""`make compare`: verdicts, the page for a pull request, and revisions that cannot be compared."""

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

from experiments.compare.__main__ import main
from experiments.compare.mcnemar import Mistakes, count_mistakes
from experiments.compare.report import (
    describe_lockfile,
    draw_curves,
    one_sided_mistakes,
    parameter_changes,
)
from experiments.compare.revisions import (
    CURVE,
    RAW,
    Revision,
    read_revision,
    read_test_images,
)
from experiments.repository.lockfile_checks import PREDICTIONS, SCORES, Scores
from stages.common.errors import UserError
from stages.common.lockfile import (
    LOCKFILE,
    locked_outputs,
    locked_parameters,
    locked_stages,
    mixed_runs,
)
from tests.project import Project

Compare = Callable[..., str]


def table(predicted: list[int], confidence: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"actual": [0, 1, 2, 3], "predicted": predicted, "confidence": confidence})


def test_mistakes_are_counted_and_one_sided_ones_sorted_by_confidence() -> None:
    a, b = table([0, 9, 9, 9], [0.9, 0.6, 0.7, 0.8]), table([9, 9, 2, 3], [0.75, 0.9, 0.9, 0.9])
    assert count_mistakes(a, b) == Mistakes(only_a=2, only_b=1, both=1)
    mistakes = one_sided_mistakes(a, b)
    assert list(mistakes.index) == [3, 0, 2]
    assert list(mistakes["network"]) == ["A", "B", "A"]


@pytest.mark.parametrize(
    ("only_a", "only_b", "verdict"),
    [
        (41, 38, "No significant difference: p = 0.82"),
        (0, 0, "No significant difference: p = 1"),
        (3, 15, "A is better: p = 0.0075"),
        (90, 10, "B is better: p < 0.0001"),
    ],
)
def test_the_verdict_is_that_of_mcnemars_test(only_a: int, only_b: int, verdict: str) -> None:
    assert Mistakes(only_a, only_b, both=100).verdict == verdict


def test_changed_parameters_are_shown_as_yaml() -> None:
    def revision(params: dict[str, object]) -> Revision:
        scores = Scores(baseline_error=0, baseline_error_low=0, baseline_error_high=0)
        return Revision("", None, params, [], pd.DataFrame(), scores, "", {})

    changes = parameter_changes(
        revision({"model.hidden_units": [8], "train.seed": 1, "train.epochs": 9}),
        revision({"model.hidden_units": [8, 4], "new": True, "train.epochs": 9}),
    )
    assert changes.to_dict("index") == {
        "model.hidden_units": {"A": "[8]", "B": "[8, 4]"},
        "train.seed": {"A": "1", "B": "–"},
        "new": {"A": "–", "B": "true"},
    }


@pytest.mark.parametrize("epochs", [1, 5])
def test_learning_curves_have_a_point_for_each_epoch(epochs: int) -> None:
    def history(count: int, start: float) -> dict[str, pd.DataFrame]:
        steps = pd.RangeIndex(1, count + 1)
        table = pd.DataFrame({"train": start / steps, "validation": start / steps + 1}, index=steps)
        return {"loss": table, "accuracy": -table}

    a, b = history(epochs, 1), history(3, 2)
    curves = [(name, of, split) for name, of in (("A", a), ("B", b)) for split in a["loss"]]
    for axes, metric in zip(draw_curves(a, b).axes, ("loss", "accuracy"), strict=True):
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", metric)
        for line, (name, of, split) in zip(axes.lines, curves, strict=True):
            assert line.get_label() == f"{name}, {split}"
            np.testing.assert_array_equal(line.get_xdata(), of[metric].index)
            np.testing.assert_array_equal(line.get_ydata(), of[metric][split])
            assert line.get_marker() != "None"  # a line through a single point is invisible
        assert all(tick == round(tick) for tick in axes.get_xticks())


@pytest.fixture
def compare(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Compare:
    """Compares revisions of the project in this process; returns the output."""

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
    replace_in_lockfile(project, old, new)


def replace_in_lockfile(project: Project, old: str, new: str) -> None:
    lockfile = project.read(LOCKFILE)
    assert old in lockfile
    (project.folder / LOCKFILE).write_text(lockfile.replace(old, new))


def add_mistakes(project: Project, count: int) -> None:
    """Makes the first `count` right predictions wrong."""
    predictions = pd.read_csv(project.folder / PREDICTIONS)
    right = predictions.index[predictions["predicted"] == predictions["actual"]][:count]
    predictions.loc[right, "predicted"] = (predictions.loc[right, "actual"] + 1) % 10
    replace_result(project, PREDICTIONS, predictions.to_csv(index=False))


def pretend_other_data(project: Project) -> None:
    """Gives data/raw an MD5 in dvc.lock that no directory in the cache has."""
    outputs = locked_outputs(locked_stages(project.read(LOCKFILE)))
    replace_in_lockfile(project, outputs[RAW], f"{'0' * 32}.dir")


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
    assert "A is better: p < 0.0001" in output
    assert "shows 25 images" in output
    assert (project.folder / "reports/compare.png").stat().st_size > 10_000
    page = project.read("reports/compare.md")
    assert page.startswith(f"# {branch} against first\n")
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {4}
    assert [row.split("|")[1].strip() for row in rows] == ["", "---", "error"]
    assert "A is better: p < 0.0001" in page
    commit = project.git("rev-parse", branch)[:10]
    not_checked = (
        f"The `dvc.lock` of {branch} (commit {commit}) was not checked: `dvc status` checks"
    )
    assert not_checked in page
    assert not_checked in output
    pictures = re.findall(r"!\[.*\]\((.*)\)", page)
    assert len(pictures) == 2
    for name in pictures:
        assert (project.folder / "reports" / name).read_bytes()[:4] == b"\x89PNG"
    # git ignores the pictures.
    assert project.git("status", "--porcelain") == f" M dvc.lock\n M {PREDICTIONS}\n"

    assert "No significant difference: p = 1" in compare()
    page = project.read("reports/compare.md")
    assert "The `dvc.lock` of workspace agrees with code and parameters." in page
    project.set({"evaluate": {"worst": 9}})
    compare()
    assert (
        "The `dvc.lock` of workspace is out of date. Changed since the run of evaluate: "
        "params.yaml (evaluate). Run: `dvc repro`."
    ) in project.read("reports/compare.md")


def test_a_changed_command_makes_the_results_out_of_date(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder)
    pipeline = project.read("dvc.yaml")
    command = "cmd: python -m stages.card"
    (project.folder / "dvc.yaml").write_text(pipeline.replace(command, f"{command} --help"))
    state = describe_lockfile(read_revision("workspace"))
    assert state == (
        "The `dvc.lock` of workspace is out of date. Changed since the run of card: its command. "
        "Run: `dvc repro`."
    )


def test_parameters_are_those_that_each_stage_was_run_with(
    project: Project, compare: Compare
) -> None:
    """Not those of params.yaml, nor those that another stage has seen since."""
    card, lock = project.read("docs/model-card.md"), project.read("dvc.lock")
    project.set({"train": {"epochs": 7}})
    project.dvc("repro", "--single-item", "card")
    output = compare()
    assert "Same parameters" in output
    assert "out of date. Changed since the run of train: params.yaml (train)." in output

    project.dvc("freeze", "train")
    project.set({"evaluate": {"worst": 9}})
    project.dvc("repro")
    output = compare()
    assert "evaluate.worst  25  9" in output
    assert "train.epochs" not in output
    assert "Frozen stages of workspace: train. DVC did not check their code" in output
    assert "Frozen stages of workspace: train." in project.read("reports/compare.md")
    assert project.read("docs/model-card.md") == card

    # Now train has been run with other data than evaluate.
    project.set({"evaluate": {"worst": 25}, "normalize": {"validation": 500}})
    mixed = "train was run with a different data/normalized; expected"
    output = project.dvc("repro", fails=True)
    repair = "dvc unfreeze train && dvc repro"
    assert f"dvc.lock: {mixed} stages of one run. Run: {repair}\n" in output
    with pytest.raises(UserError) as problem:
        compare()
    assert str(problem.value) == f"workspace: {mixed} results of one run. Run: {repair}"
    project.run("sh", "-c", repair)
    assert "`train.epochs` 7" in project.read("docs/model-card.md")
    assert re.search(r"normalize.validation +0 +500\ntrain.epochs +2 +7\n", compare())
    project.git("checkout", "--quiet", "params.yaml")
    project.dvc("repro")
    assert project.read("dvc.lock") == lock


def test_stages_with_different_parameters_are_not_of_one_run() -> None:
    """As in a dvc.lock from when the card's entry had the parameters of params.yaml."""
    params = [{"params": {"params.yaml": {"train": {"epochs": epochs}}}} for epochs in (1, 7)]
    stages = dict(zip(("train", "card"), params, strict=True))
    assert locked_parameters(stages) == {"train.epochs": 1}
    assert mixed_runs(stages) == {"card": "card was run with train.epochs 7 instead of 1"}


def test_the_workflow_adds_the_page_without_pictures_to_a_pull_request(
    project: Project, compare: Compare, tmp_path: Path
) -> None:
    """test_team.py runs `make compare`, which the workflow calls, too."""
    workflow = yaml.safe_load(project.read(".github/workflows/ci.yaml"))
    commands = [step["run"] for step in workflow["jobs"]["report"]["steps"] if "run" in step]
    *make, add_to_summary = commands
    (download,) = (command for command in make if "dvc repro" in command)
    assert make[-1] == "make compare A=origin/main B=HEAD"
    assert not any("repro" in command for command in make if "repro download" not in command)
    project.git("update-ref", "refs/remotes/origin/main", "main")
    project.git("checkout", "--quiet", "--detach")  # as GitHub does
    add_mistakes(project, 2)
    project.commit("Worse")
    project.run("bash", "-e", "-c", download.replace(". .venv/bin/activate && ", ""))
    compare("origin/main", "HEAD")
    summary = tmp_path / "summary.md"
    environment = {"GITHUB_STEP_SUMMARY": str(summary)}
    project.run("bash", "-e", "-c", add_to_summary, environment=environment)
    page = summary.read_text()
    assert page.startswith("# HEAD against origin/main\n")
    commit = project.git("rev-parse", "HEAD")[:10]
    assert f"The `dvc.lock` of HEAD (commit {commit}) agrees with code and parameters." in page
    assert "Mistakes: 0 of A alone, 2 of B alone" in page
    assert "![" not in page


def test_revisions_that_cannot_be_compared(project: Project, compare: Compare) -> None:
    project.git("checkout", "--quiet", "-b", "others")
    pretend_other_data(project)
    project.commit("Other data")
    project.git("checkout", "--quiet", "-b", "it's", "main")
    (project.folder / SCORES).write_text("{}")
    project.commit("A part of the results")
    project.git("checkout", "--quiet", "-b", "nothing", "main")
    project.git("rm", "--quiet", PREDICTIONS)
    project.commit("No predictions")
    for revisions, message in (
        (["main", "others"], "main and others have different test sets; cannot compare them"),
        (
            ["nothing", "main"],
            f"nothing has no {PREDICTIONS}. Run: git checkout nothing && dvc repro && git",
        ),
        (["main"], f"workspace has no {PREDICTIONS}. Run: dvc repro"),
        (
            ["it's", "main"],
            "it's: metrics/ or plots/ do not match dvc.lock; expected results of one run. "
            """Run: git checkout 'it'"'"'s' && dvc repro && git commit -am 'Run the pipeline'""",
        ),
        (["main", "HEAD:params.yaml"], "HEAD:params.yaml: not a branch, tag, commit or"),
        (["main", "^HEAD"], "^HEAD: not a branch, tag, commit or experiment."),
        (["main", "nowhere"], "nowhere: not a branch, tag, commit or experiment. List them: git"),
    ):
        with pytest.raises(UserError, match=rf"\A{re.escape(message)}.*\Z"):
            compare(*revisions)

    head = project.git("rev-parse", "main").strip()
    project.git("update-ref", f"refs/exps/{head[:2]}/{head[2:]}/others", head)
    with pytest.raises(UserError, match=r"\Aothers is an experiment, and also a branch or tag"):
        compare("main", "others")


def test_results_in_another_format(project: Project, compare: Compare) -> None:
    """As after a change of what the stages write."""
    for path, text in (
        (PREDICTIONS, "actual,predicted\n1,1\n"),
        (PREDICTIONS, "actual,predicted,confidence\n1,,0.5\n"),
        (PREDICTIONS, "actual,predicted,confidence\n1,1,sure\n"),
        (PREDICTIONS, ""),
        (SCORES, "{}"),
        (SCORES, "[1]"),
        (SCORES, '{"baseline_error": {"mean": 2}}'),
        (SCORES, "nonsense"),
        (CURVE.format(metric="loss"), "[]"),
        (CURVE.format(metric="loss"), "step\tloss"),
        (LOCKFILE, ""),
        (LOCKFILE, "stages: {train: 3}"),
    ):
        if path == LOCKFILE:
            (project.folder / path).write_text(text)
        else:
            replace_result(project, path, text)
        with pytest.raises(
            UserError, match=r"\Aworkspace: results in an unknown format\. Run: dvc repro\Z"
        ):
            compare("workspace", "main")
        project.git("checkout", "--quiet", ".")


def test_a_picture_has_the_images_of_the_commit_if_the_cache_has_them(
    project: Project, compare: Compare
) -> None:
    add_mistakes(project, 3)
    project.commit("Worse")
    pretend_other_data(project)
    x_test = project.folder / RAW / "x_test.npy"
    images = np.load(x_test)
    x_test.unlink()
    assert "shows 3 images" in compare("HEAD^", "HEAD")
    np.testing.assert_array_equal(read_test_images("HEAD"), images)

    shutil.rmtree(project.folder / ".dvc/cache")
    output = compare("HEAD^", "HEAD")
    assert "Mistakes: 0 of A alone, 3 of B alone" in output
    assert (
        "No plot of mistakes: data/raw/x_test.npy is not in DVC's cache. Run: dvc repro" in output
    )
    assert not (project.folder / "reports/compare.png").exists()
    assert "(compare.png)" not in project.read("reports/compare.md")
    assert "All predictions are the same" in compare("HEAD", "HEAD")
    assert list((project.folder / ".dvc/tmp").glob("compare-*")) == []


def test_revisions_of_a_partial_clone(project: Project, tmp_path: Path) -> None:
    """git fetches the files of a revision; DVC would wait for them for ever."""
    add_mistakes(project, 3)
    project.commit("Worse")
    project.git("config", "uploadpack.allowFilter", "true")
    partial = Project(tmp_path / "partial")
    url = project.folder.as_uri()
    project.git("clone", "--quiet", "--filter=blob:none", url, str(partial.folder))
    partial.dvc("cache", "dir", "--local", str(project.folder / ".dvc/cache"))
    missing = ("rev-list", "--objects", "--no-walk", "--missing=print", "HEAD^")
    assert "\n?" in partial.git(*missing)
    output = partial.run("python", "-m", "experiments.compare", "HEAD^", "HEAD")
    assert "shows 3 images" in output


def test_without_a_repository_the_cause_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["compare", "main"])
    with pytest.raises(UserError, match=r"\Agit: no repository with a commit here"):
        main()
