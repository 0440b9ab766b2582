"""The statistics of a study on small tables, and whole studies by real trainings."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from experiments.evidence import holm, paired, summarize
from experiments.grid import STUDY, read_study
from experiments.recipes import held, ingredients, locked_recipe, recipe
from experiments.report import ErrorsOnTest, Reading, page, picture
from experiments.study import OTHER_REPORTS
from experiments.workspace import CLONES
from stages.edges.bad_input import BadInput
from stages.results.pictures import save
from tests.project import ROOT, Project, activated

CELLS = pd.MultiIndex.from_product([["8", "16"], [1, 2]], names=["hidden_units", "epochs"])
OPTIONS = ("--hidden-units", "8", "--epochs", "1", "2", "--validation", "500")


def errors() -> pd.DataFrame:
    """Five seeds: 16 after 2 epochs is best, 8 after 2 the same but for chance."""
    seeds = np.arange(5.0)
    columns = [
        9 + seeds / 10,
        3 + np.array([0.3, -0.2, 0.1, -0.3, 0.2]),
        8 + seeds[::-1] / 10,
        3 + np.array([-0.1, 0.1, -0.2, 0.2, -0.05]),
    ]
    return pd.DataFrame(np.transpose(columns), columns=CELLS)


def test_holms_adjustment() -> None:
    adjusted = holm(np.array([0.01, 0.04, 0.03, 0.005]))
    np.testing.assert_allclose(adjusted, [0.03, 0.06, 0.06, 0.02])


def test_a_paired_test_needs_two_seeds_and_copes_without_spread() -> None:
    assert paired(pd.Series([0.5, np.nan])) == 1
    assert paired(pd.Series([0.0, 0.0])) == 1
    assert paired(pd.Series([0.5, 0.5])) == 0
    # t = 2 at 2 degrees of freedom
    assert paired(pd.Series([0.0, 1.0, 2.0]) * np.sqrt(3) - np.sqrt(3) + 2) == pytest.approx(
        0.1835, abs=1e-4
    )


def test_the_best_and_what_cannot_be_told_from_it() -> None:
    summary = summarize(errors())
    assert list(summary["best"]) == [False, False, False, True]
    assert list(summary["alike"]) == [False, True, False, False]
    assert summary["mean"].iloc[0] == pytest.approx(9.2)
    assert summary["se"].iloc[0] == pytest.approx(np.sqrt(0.025 / 5))


def test_the_page_shows_means_the_best_its_likes_and_gaps() -> None:
    table = errors()
    table[CELLS[0]] = np.nan
    test = ErrorsOnTest(pd.Series([3.2, 3.4]), 10_000)
    text = page(summarize(table), Reading(False, 500), test, ["study-8-epochs-1"])
    assert "| 8 | – | 3.02 ± 0.12 ≈ |" in text
    assert "| 16 | 8.20 ± 0.07 | **2.99 ± 0.07** |" in text
    assert "500 images held out" in text
    assert "3.30 ± 0.10 % over 2 seeds" in text
    assert "2.97 to 3.67 %" in text  # Wilson's for 330 of 10,000
    assert "never came through: study-8-epochs-1." in text
    assert "The test images have chosen" in page(summarize(table), Reading(True, 10_000), None, [])


def test_the_picture_has_the_same_bytes_again(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        save(picture(summarize(errors()), Reading(False, 500)), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": [0]}, "epochs is [0]; it must be a list of different whole numbers"),
        ({"seeds": [1, 1]}, "seeds is [1, 1]; it must be a list of different"),
        ({"hidden_units": [8]}, "hidden_units is [8]; it must be a list of different lists"),
        ({"validation": 0}, "validation is 0; it must be a whole number from 1"),
        ({"widths": [8]}, "widths is not an axis; they are epochs"),
    ],
)
def test_a_wrong_axis_is_told_in_a_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=r"\A" + re.escape(f"study: {message}") + r".*\Z"):
        read_study(ROOT / STUDY, options)


@pytest.mark.parametrize("text", ["epochs: [2001-99-99]", "epochs: [1]\nepochs: [2]", "[" * 9_999])
def test_a_study_that_is_no_yaml_is_told_in_a_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(BadInput, match=rf"\A{path} is not valid YAML: .*\Z"):
        read_study(path, {})


def test_a_recipe_is_the_same_before_and_after_a_run(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder)
    before = ingredients()
    assert recipe({}, before) == locked_recipe(project.read("dvc.lock"))
    assert recipe({"train.seed": 7}, before) != recipe({}, before)
    (project.folder / "stages/train.py").write_text("# other code\n")
    assert recipe({}, ingredients()) != recipe({}, before)


def test_results_count_only_beside_their_own_lock(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder)
    before = held()
    assert before[recipe({}, ingredients())] == project.git("rev-parse", "HEAD").strip()

    lock = project.read("dvc.lock")
    for branch, text in (
        ("others", lock.replace("seed: 42", "seed: 7")),
        ("broken", "<<<<<<< HEAD\n"),
        ("half", lock.partition("md5: ")[0] + "md5: '"),
    ):
        project.git("checkout", "--quiet", "-b", branch, "main")
        # As after a commit of dvc.lock alone.
        (project.folder / "metrics/evaluate.json").write_text("{}")
        (project.folder / "dvc.lock").write_text(text)
        project.commit(branch)
    project.git("rm", "--quiet", "dvc.lock")
    project.commit("No lock")
    project.git("checkout", "--quiet", "main")
    assert held() == before


def study(project: Project, *options: str, fails: bool = False) -> str:
    return project.run("python", "-m", "experiments.study", *OPTIONS, *options, fails=fails)


@pytest.mark.slow
def test_a_study_asks_for_what_is_missing_and_leaves_the_rest_alone(
    project: Project, tmp_path: Path
) -> None:
    # In a shallow clone, with edits that are not committed and a file that git does not know yet.
    project.git("clone", "--quiet", "--depth=1", project.folder.as_uri(), str(tmp_path / "clone"))
    cache, project = project.folder / ".dvc/cache", Project(tmp_path / "clone")
    project.dvc("cache", "dir", "--local", str(cache))
    project.dvc("exp", "run", "--queue", "--name", "theirs", "--set-param", "train.seed=3")
    project.set({"train": {"batch_size": 200}})
    (project.folder / "stages/training/new.py").write_text("NEW = 1\n")
    status = project.git("status", "--porcelain")
    assert status.count("\n") == 2

    assert "Trainings: 0 of 2 are there, 2 to train" in study(project, "--seeds", "1", "2")
    reports = {path.name for path in (project.folder / OTHER_REPORTS).iterdir()}
    assert reports == {"study.csv", "study.md", "study.png"}
    assert project.read(f"{OTHER_REPORTS}/study.csv").count("\n") == 1 + 2 * 2
    assert project.git("status", "--porcelain") == status
    assert not any((project.folder / CLONES).iterdir())
    names = sorted(set(project.experiments()) - {"theirs"})
    assert [name.rpartition("-")[0] for name in names] == [
        "study-8-epochs-2-seed-1",
        "study-8-epochs-2-seed-2",
    ]
    for commit in project.dvc("exp", "list", "--sha-only").split():
        assert "batch_size: 200" in project.git("show", f"{commit}:params.yaml")
        assert project.git("show", f"{commit}:stages/training/new.py") == "NEW = 1\n"

    # After a commit of the same code, and of other files.
    project.commit("Edits")
    (project.folder / "other.txt").touch()
    project.commit("No part of any stage")
    assert "Trainings: 2 of 2 are there, 0 to train" in study(project, "--seeds", "1", "2")
    assert re.search("theirs .*Queued", project.dvc("queue", "status"))


# Fails at the first attempt with seed 1, always with seed 2.
FAILING = """
import sys
from pathlib import Path
import yaml
seed = yaml.safe_load(Path("params.yaml").read_text())["train"]["seed"]
marker = Path({marker!r})
if seed == 2 or not marker.exists():
    if seed == 1:
        marker.touch()
    sys.exit(f"seed {{seed}} failed on purpose")
"""


@pytest.mark.slow
def test_a_failed_training_is_told_and_asked_for_again_but_not_for_ever(
    project: Project, tmp_path: Path
) -> None:
    code = project.folder / "stages/train.py"
    code.write_text(FAILING.format(marker=str(tmp_path / "marker")) + code.read_text())
    output = study(project, "--seeds", "1", "2", "--epochs", "1", fails=True)
    assert "0 of 2 trained, 2 failed" in output
    assert "1 of 2 trained, 1 failed" in output
    assert output.count("seed 1 failed on purpose") == 1
    assert output.count("seed 2 failed on purpose") == 1
    assert re.search(r"\nNever came through: study-8-epochs-1-seed-2-\w{7}\n\Z", output)
    reports = project.folder / OTHER_REPORTS
    assert len(pd.read_csv(reports / "study.csv")) == 1
    assert "never came through: study-8-epochs-1-seed-2" in (reports / "study.md").read_text()


@pytest.mark.slow
def test_an_experiment_that_has_left_no_result_is_told_and_not_tried_again(
    project: Project,
) -> None:
    # As an editor of Windows writes it. To git nothing has changed, to DVC it is another file.
    (project.folder / ".gitattributes").write_text("*.py text eol=lf\n")
    project.commit("Line ends")
    code = project.folder / "stages/evaluate.py"
    code.write_bytes(code.read_bytes().replace(b"\n", b"\r\n"))
    project.git("diff", "--quiet")
    output = study(project, "--seeds", "1", "--epochs", "1", fails=True)
    assert output.count("1 of 1 trained, 0 failed") == 1
    assert re.search(r"\nstudy-8-epochs-1-seed-1-\w{7} has ended well, with other results", output)
    assert output.endswith("\nNo training came through; what is above says why\n")


def start(project: Project, log: Path) -> "subprocess.Popen[bytes]":
    """Starts a study of one training."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "experiments.study", *OPTIONS, "--seeds", "1"],
            cwd=project.folder,
            env=activated(),
            stdout=file,
            stderr=file,
        )


def at_work(folder: Path) -> list[str]:
    """The command lines of the processes that work in a folder."""
    return [
        " ".join(process.info["cmdline"] or [])
        for process in psutil.process_iter(["cmdline", "cwd"])
        if Path(process.info["cwd"] or "/").is_relative_to(folder)
    ]


def wait_for(happened: Callable[[], object], seconds: float, log: Path) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.1)


@pytest.mark.slow
def test_killed_and_interrupted_a_study_goes_on(project: Project, tmp_path: Path) -> None:
    log = tmp_path / "log"
    project.set({"evaluate": {"worst": 9}})  # an edit that is not committed
    status, refs = project.git("status", "--porcelain"), project.git("for-each-ref")
    clones = project.folder / CLONES

    def runs(stage: str) -> bool:
        return any(f"-m stages.{stage}" in command for command in at_work(clones))

    for number, stage in ((signal.SIGINT, "normalize"), (signal.SIGKILL, "train")):
        process = start(project, log)
        wait_for(lambda stage=stage: runs(stage), 200, log)  # type: ignore[misc]
        process.send_signal(number)
        assert process.wait(20) == -number, log.read_text()
        # By themselves, where the study was killed.
        wait_for(lambda: not at_work(clones) and not any(clones.iterdir()), 20, log)
        assert project.git("status", "--porcelain") == status
        assert project.git("for-each-ref") == refs
    assert "Traceback" not in log.read_text()

    first = start(project, log)
    wait_for(lambda: runs("train"), 200, log)
    second = start(project, log)
    assert (first.wait(200), second.wait(200)) == (0, 0), log.read_text()
    assert "Another study is running in this folder; this one waits" in log.read_text()
    assert log.read_text().count("Trainings: 1 of 1 are there, 0 to train") == 1
    assert len(pd.read_csv(project.folder / OTHER_REPORTS / "study.csv")) == 2


def test_what_would_be_ignored_or_cannot_be_read_is_a_line(project: Project) -> None:
    refused = study(project, "--on", "test", "--validation", "500", fails=True)
    assert refused.splitlines()[-1].endswith("which --on test does not use")
    with (project.folder / "dvc.yaml").open("a") as file:
        file.write("<<<<<<< HEAD\n")
    (line,) = study(project, "--seeds", "1", fails=True).splitlines()
    assert line.startswith("dvc.yaml is no pipeline of DVC: ")
