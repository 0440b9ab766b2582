"""The statistics of a study on small tables, and whole studies by the real queue of DVC."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from experiments.evidence import holm, paired, summarize
from experiments.grid import STUDY, read_study
from experiments.recipes import held, locked_recipe, recipe
from experiments.report import ErrorsOnTest, Reading, page, picture
from experiments.study import workers
from stages.edges.bad_input import BadInput
from stages.results.pictures import save
from tests.project import ROOT, Project, activated

CELLS = pd.MultiIndex.from_product([["8", "16"], [1, 2]], names=["hidden_units", "epochs"])
REPORTS = {"reports/study.csv", "reports/study.md", "reports/study.png"}
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


def test_every_training_has_two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    for processors, trainings in ((1, 1), (2, 1), (3, 1), (8, 4)):
        monkeypatch.setattr("experiments.study.processors", lambda count=processors: count)
        assert workers() == trainings


def test_a_recipe_is_the_same_before_and_after_a_run(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder)
    assert recipe({}) == locked_recipe(project.read("dvc.lock"))
    assert recipe({"train.seed": 7}) != recipe({})
    before = recipe({})
    (project.folder / "stages/train.py").write_text("# other code\n")
    assert recipe({}) != before


def test_results_count_only_beside_their_own_lock(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder)
    before = held()
    assert before[recipe({})] == project.git("rev-parse", "HEAD").strip()

    lock = project.read("dvc.lock")
    for branch, text in (
        ("others", lock.replace("seed: 42", "seed: 7")),
        ("broken", "<<<<<<< HEAD\n"),
        ("half", lock[: len(lock) // 2]),
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
def test_a_study_asks_for_what_is_missing_and_leaves_the_rest_alone(project: Project) -> None:
    # No study's, and soon over: a seed has to be a number.
    project.dvc("exp", "run", "--queue", "--name", "theirs", "--set-param", "train.seed=x")
    assert "Trainings: 0 of 2 are there, 2 to train" in study(project, "--seeds", "1", "2")
    reports = {path.name: path.read_bytes() for path in (project.folder / "reports").iterdir()}
    assert {f"reports/{name}" for name in reports} == REPORTS
    assert reports["study.csv"].count(b"\n") == 1 + 2 * 2
    assert set(project.git("status", "--porcelain").split()) == {"M", *REPORTS}

    # A branch with other code of no stage, and the same study.
    project.commit("Reports")
    assert "Trainings: 2 of 2 are there, 0 to train" in study(project, "--seeds", "1", "2")
    assert project.git("status", "--porcelain") == ""
    assert "theirs" in project.dvc("queue", "status")


# Fails at the first attempt with seed 1, always with seed 2.
FAILING = """
import sys
from pathlib import Path
import yaml
seed = yaml.safe_load(Path("params.yaml").read_text())["train"]["seed"]
marker = Path({marker!r})
if seed == 2 or seed == 1 and not marker.exists():
    marker.touch()
    sys.exit("failed on purpose")
"""


@pytest.mark.slow
def test_a_failed_training_is_asked_for_again_but_not_for_ever(
    project: Project, tmp_path: Path
) -> None:
    code = project.folder / "stages/train.py"
    code.write_text(FAILING.format(marker=str(tmp_path / "marker")) + code.read_text())
    output = study(project, "--seeds", "1", "2", "--epochs", "1", fails=True)
    assert "1 of 2 trained, 0 running, 1 failed" in output
    assert re.search(r"\nNot there after 3 attempts: study-8-epochs-1-seed-2-\w{7}\n\Z", output)
    assert len(pd.read_csv(project.folder / "reports/study.csv")) == 1
    assert "never came through: study-8-epochs-1-seed-2" in project.read("reports/study.md")


# `dvc queue remove` too late: once a worker has taken what was to be removed.
LATE = """#!/bin/sh
[ "$1 $2" = "queue remove" ] &&
    while ls .dvc/tmp/exps/celery/broker/in/*.celery.msg >/dev/null 2>&1; do sleep 0.1; done
exec {} "$@"
"""


def start(project: Project, log: Path, **environment: str) -> "subprocess.Popen[bytes]":
    """Starts a study of two seeds, one at a time, in a process group of its own."""
    command = [sys.executable, "-m", "experiments.study", *OPTIONS]
    with log.open("wb") as file:
        return subprocess.Popen(
            [*command, "--seeds", "1", "2", "--jobs", "1"],
            cwd=project.folder,
            env=activated() | environment,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


def wait_for(log: Path, text: str, times: int = 1) -> None:
    until = time.monotonic() + 120
    while log.read_text().count(text) < times:
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.5)


def at_work(project: Project) -> list[psutil.Process]:
    """The queue's workers and the processes in which they run an experiment, once they do."""
    until = time.monotonic() + 60
    while True:
        workers = [
            process
            for process in psutil.process_iter(["cmdline", "cwd"])
            if "queue-worker" in (process.info["cmdline"] or [])
            and process.info["cwd"] == str(project.folder)
        ]
        children = [child for worker in workers for child in worker.children(recursive=True)]
        if children:
            return [*workers, *children]
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.slow
def test_killed_robbed_and_interrupted_a_study_goes_on(project: Project, tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start(project, log)
    wait_for(log, "0 of 2 trained, 1 running")
    # Lest the training ends before its worker is killed.
    _, *children = at_work(project)
    for child in children:
        child.suspend()
    process.kill()
    process.wait()
    (waiting,) = re.findall(r"(study-\S+) .* Queued", project.dvc("queue", "status"))

    late = tmp_path / "dvc"
    late.write_text(LATE.format(shutil.which("dvc")))
    late.chmod(0o755)
    process = start(project, log, PATH=f"{tmp_path}{os.pathsep}{activated()['PATH']}")
    wait_for(log, "0 of 2 trained, 1 running")
    # The queue loses the one that waits, and goes on showing the other as running.
    for killed in at_work(project):
        killed.kill()
    project.dvc("queue", "remove", waiting)
    # Both are asked for again, and while the one runs the other waits.
    wait_for(log, "0 of 2 trained, 1 running, 0 failed", times=2)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == -signal.SIGINT, log.read_text()
    assert not re.search("Queued|Running", project.dvc("queue", "status"))
    assert project.git("status", "--porcelain") == ""

    assert "Trainings: 1 of 2 are there, 1 to train" in study(project, "--seeds", "1", "2")
    assert len(pd.read_csv(project.folder / "reports/study.csv")) == 4
