"""Studies: their statistics on small tables, and whole ones by the stand-in's trainings."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from experiments.evidence import holm, paired, summarize
from experiments.grid import STUDY, read_study
from experiments.recipes import EXPERIMENTS, held, ingredients, locked_recipe, recipe, stages_in
from experiments.report import ErrorsOnTest, Reading, page, picture
from experiments.scratch import Failed
from experiments.study import OTHER_REPORTS, main
from experiments.trainings import Trainings
from experiments.workspace import CLONES
from stages.edges.bad_input import BadInput
from stages.results.pictures import save
from tests.project import ROOT, Project, activated

QUEUE = "refs/exps/celery/stash"  # where DVC's queue keeps what waits in it
CELLS = pd.MultiIndex.from_product([["8", "16"], [1, 2]], names=["hidden_units", "epochs"])
SMALL = (sys.executable, "-m", "experiments.study", "--hidden-units", "8")
# Five seeds: 16 after 2 epochs is best, 8 after 2 the same but for chance.
ERRORS = pd.DataFrame(
    [
        [9.0, 3.3, 8.4, 2.9],
        [9.1, 2.8, 8.3, 3.1],
        [9.2, 3.1, 8.2, 2.8],
        [9.3, 2.7, 8.1, 3.2],
        [9.4, 3.2, 8.0, 2.95],
    ],
    columns=CELLS,
)


def test_holms_adjustment() -> None:
    adjusted = holm(np.array([0.01, 0.04, 0.03, 0.005]))
    np.testing.assert_allclose(adjusted, [0.03, 0.06, 0.06, 0.02])


def test_a_paired_test_needs_two_seeds_and_copes_without_spread() -> None:
    assert paired(pd.Series([0.5, np.nan])) == 1
    assert paired(pd.Series([0.0, 0.0])) == 1
    assert paired(pd.Series([0.5, 0.5])) == 0
    # t = 2 at 2 degrees of freedom
    differences = pd.Series([0.0, 1.0, 2.0]) * np.sqrt(3) - np.sqrt(3) + 2
    assert paired(differences) == pytest.approx(0.1835, abs=1e-4)


def test_the_best_and_what_cannot_be_told_from_it() -> None:
    summary = summarize(ERRORS)
    assert list(summary["best"]) == [False, False, False, True]
    assert list(summary["alike"]) == [False, True, False, False]
    assert summary["mean"].iloc[0] == pytest.approx(9.2)
    assert summary["se"].iloc[0] == pytest.approx(np.sqrt(0.025 / 5))


def test_the_page_shows_means_the_best_its_likes_and_gaps() -> None:
    table = ERRORS.copy()
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
        save(picture(summarize(ERRORS), Reading(False, 500)), tmp_path / name)
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


def test_a_pipeline_in_the_middle_of_a_merge_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text("<<<<<<< HEAD\nstages: {}\n")
    with pytest.raises(BadInput, match=r"\A.*dvc\.yaml is no pipeline of DVC: .*\Z"):
        stages_in(tmp_path)


def test_an_option_that_would_be_ignored_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["study", "--on", "test", "--validation", "500"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err.endswith("which --on test does not use\n")


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


# Put before stages/train.py: seed 1 fails at its first attempt, seed 2 changes code.
UNLUCKY = """
import sys
from pathlib import Path
import yaml
seed = yaml.safe_load(Path("params.yaml").read_text())["train"]["seed"]
marker = Path({marker!r})
if seed == 1 and not marker.exists():
    marker.touch()
    sys.exit("failed on purpose")
if seed == 2:
    Path("stages/evaluate.py").write_text(Path("stages/evaluate.py").read_text() + "# changed\\n")
"""


@pytest.mark.slow
def test_a_study_trains_what_is_missing_and_leaves_the_rest_alone(
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # In a shallow clone, with edits that are not committed and a file that git does not know yet.
    project.git("clone", "--quiet", "--depth=1", project.folder.as_uri(), str(tmp_path / "clone"))
    cache, project = project.folder / ".dvc/cache", Project(tmp_path / "clone")
    project.dvc("cache", "dir", "--local", str(cache))
    project.git("update-ref", QUEUE, "HEAD")
    project.set({"train": {"batch_size": 200}})
    code = project.folder / "stages/train.py"
    code.write_text(UNLUCKY.format(marker=str(tmp_path / "marker")) + code.read_text())
    (project.folder / "stages/training/new.py").write_text("NEW = 1\n")
    status = project.git("status", "--porcelain")
    assert status.count("\n") == 3
    options = (*SMALL, "--epochs", "1", "2", "--validation", "500", "--seeds", "1")
    output = project.run(*options, "2", fails=True)

    # Seed 1 is tried again; of seed 2 the results are others than were asked for.
    assert "Trainings: 0 of 2 are there, 2 to train" in output
    assert "1 of 2 trained, 1 failed" in output
    assert output.count("failed on purpose") == 1
    assert output.count("1 of 1 trained, 0 failed") == 1
    seed_2 = r"study-8-epochs-2-seed-2-\w{7}"
    assert re.search(rf"\n{seed_2} has ended well, with other results", output)
    assert re.search(rf"\nNever came through: {seed_2}\n\Z", output)
    reports = project.folder / OTHER_REPORTS
    assert {path.name for path in reports.iterdir()} == {"study.csv", "study.md", "study.png"}
    assert list(pd.read_csv(reports / "study.csv")["seed"]) == [1, 1]  # after each epoch
    assert re.search(f"never came through: {seed_2}", (reports / "study.md").read_text())

    assert project.git("status", "--porcelain") == status
    assert project.git("rev-parse", QUEUE) == project.git("rev-parse", "HEAD")
    assert not any((project.folder / CLONES).iterdir())
    experiments = project.git("for-each-ref", "--format=%(refname)", EXPERIMENTS).split()
    assert re.findall(r"/study-8-epochs-2-seed-(\d)-\w{7}\b", " ".join(experiments)) == ["1", "2"]
    for experiment in experiments:
        assert "batch_size: 200" in project.git("show", f"{experiment}:params.yaml")
        assert project.git("show", f"{experiment}:stages/training/new.py") == "NEW = 1\n"

    # After a commit of the same code, and of other files.
    project.commit("Edits")
    (project.folder / "other.txt").touch()
    project.commit("No part of any stage")
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr(sys, "argv", list(options[2:]))
    main()
    assert "Trainings: 1 of 1 are there, 0 to train" in capsys.readouterr().out


def test_a_training_that_always_fails_is_given_up_after_three_attempts(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(wanted: Mapping[str, object]) -> Iterator[tuple[str, Failed]]:
        for name in wanted:
            yield name, Failed("out of memory")

    monkeypatch.setattr(Trainings, "train_all", staticmethod(fail))
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr(sys, "argv", [*SMALL[2:], "--seeds", "1"])
    with pytest.raises(BadInput, match=r"\ANo training came through; what is above says why\Z"):
        main()
    said = capsys.readouterr().err
    assert said.count("0 of 1 trained, 1 failed") == 3
    assert said.count("out of memory") == 1


def at_work(folder: Path) -> list[str]:
    """The command lines of the processes that work in a folder."""
    return [
        " ".join(process.info["cmdline"] or [])
        for process in psutil.process_iter(["cmdline", "cwd"])
        if Path(process.info["cwd"] or "/").is_relative_to(folder)
    ]


def trains(folder: Path) -> bool:
    return any("-m stages.train" in command for command in at_work(folder))


def wait_for(happened: Callable[[], object], seconds: float, log: Path) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.long)]
)
def test_after_a_kill_a_study_goes_on_and_a_second_one_waits_for_it(
    project: Project, tmp_path: Path, number: signal.Signals
) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    clones = project.folder / CLONES
    project.set({"evaluate": {"worst": 9}})  # an edit that is not committed
    status, refs = project.git("status", "--porcelain"), project.git("for-each-ref")

    def start() -> "subprocess.Popen[bytes]":
        with log.open("ab") as file:
            return subprocess.Popen(
                [*SMALL, "--on", "test", "--epochs", "1", "--seeds", "1"],
                cwd=project.folder,
                env=activated() | {"TRAINING_GATE": str(gate)},
                stdout=file,
                stderr=file,
            )

    gate.touch()  # the training waits until it is gone
    killed = start()
    wait_for(lambda: trains(clones), 200, log)
    killed.send_signal(number)
    assert killed.wait(20) == -number, log.read_text()
    # By themselves, where the study was killed.
    wait_for(lambda: not at_work(clones) and not any(clones.iterdir()), 20, log)
    assert project.git("status", "--porcelain") == status
    assert project.git("for-each-ref") == refs
    assert "Traceback" not in log.read_text()

    first = start()
    wait_for(lambda: trains(clones), 200, log)
    second = start()
    waits = "Another study is running in this folder; this one waits"
    wait_for(lambda: waits in log.read_text(), 200, log)
    gate.unlink()
    assert (first.wait(200), second.wait(200)) == (0, 0), log.read_text()
    assert log.read_text().count("Trainings: 1 of 1 are there, 0 to train") == 1
    assert len(pd.read_csv(project.folder / OTHER_REPORTS / "study.csv")) == 1
