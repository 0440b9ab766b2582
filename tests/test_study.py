"""Studies: grid, statistics, names of trials, and whole studies with the stand-ins' trainings."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from experiments.repository.lockfile_checks import SCORES
from experiments.repository.subprocesses import CommandError
from experiments.study import __main__ as study_module
from experiments.study import error_tables, runner
from experiments.study.__main__ import OTHER_REPORTS, main, run_study
from experiments.study.grid import STUDY, Study, Trial, read_study
from experiments.study.report import (
    BIAS_ON_TEST,
    describe_images,
    describe_test_error,
    markdown,
    plot,
)
from experiments.study.runner import FinishedTrials, get_or_run
from experiments.study.significance import holm, paired_t_test, summarize
from experiments.study.trial import Inputs, read_inputs, trial_name
from stages.common.errors import UserError
from stages.evaluation.plots import save
from tests.project import ROOT, Project, activated, set_parameters

SMALL = (sys.executable, "-m", "experiments.study", "--hidden-units", "8")
TRIAL = Trial((8,), 2, 1, 500)
CELLS = pd.MultiIndex.from_product([["8", "16"], [1, 2]], names=["hidden_units", "epochs"])
# Five seeds: 16 after 2 epochs is best, 8 after 2 epochs not significantly worse.
ERRORS = pd.DataFrame(
    np.transpose(
        [
            [9.0, 9.1, 9.2, 9.3, 9.4],
            [3.3, 2.8, 3.1, 2.7, 3.2],
            [8.4, 8.3, 8.2, 8.1, 8.0],
            [2.9, 3.1, 2.8, 3.2, 2.95],
        ]
    ),
    columns=CELLS,
)


def test_holms_adjustment() -> None:
    adjusted = holm(np.array([0.01, 0.04, 0.03, 0.005]))
    np.testing.assert_allclose(adjusted, [0.03, 0.06, 0.06, 0.02])


def test_paired_t_test_with_few_seeds_and_without_variance() -> None:
    assert paired_t_test(pd.Series([0.5, np.nan])) == 1
    assert paired_t_test(pd.Series([0.0, 0.0])) == 1
    assert paired_t_test(pd.Series([0.5, 0.5])) == 0
    # t = 2 with 2 degrees of freedom
    differences = pd.Series([0.0, 1.0, 2.0]) * np.sqrt(3) - np.sqrt(3) + 2
    assert paired_t_test(differences) == pytest.approx(0.1835, abs=1e-4)


def test_summary_of_cells() -> None:
    summary = summarize(ERRORS)
    assert list(summary["best"]) == [False, False, False, True]
    assert list(summary["not_significant"]) == [False, True, False, False]
    assert summary["mean"].iloc[0] == pytest.approx(9.2)
    assert summary["se"].iloc[0] == pytest.approx(np.sqrt(0.025 / 5))


def test_report_shows_means_significance_and_missing_trials(tmp_path: Path) -> None:
    errors = ERRORS.copy()
    errors[CELLS[0]] = np.nan
    summary = summarize(errors)
    images = describe_images(False, 500)
    test = describe_test_error(pd.Series([3.2, 3.4]), 10_000)
    text = markdown(summary, images, test, ["study-8-epochs-1"], ["8 after 9 epochs"])
    assert "| 8 | – | 3.02 ± 0.12 ≈ |" in text
    assert "| 16 | 8.20 ± 0.07 | **2.99 ± 0.07** |" in text
    assert "500 images held out" in text
    assert "3.30 ± 0.10 % over 2 seeds" in text
    assert "2.97 to 3.67 %" in text  # Wilson's interval for 330 of 10,000
    assert "failed: study-8-epochs-1." in text
    assert "the training ended before: 8 after 9 epochs." in text
    text_on_test = markdown(summary, describe_images(True, 10_000), BIAS_ON_TEST, [], [])
    assert "Error in % on the 10,000 test images" in text_on_test
    assert "selected on the test images" in text_on_test
    assert "is missing" in describe_test_error(pd.Series([], dtype=float), 10_000)
    assert "schedule" not in text
    text = markdown(summary, images, test, [], [], "cosine")
    assert "fewer than 2 epochs are errors in the middle of it, not of shorter" in text
    for name in ("a.png", "b.png"):
        save(plot(summary, images), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": [0]}, "epochs.0 is 0; expected a list of one or more different integers"),
        ({"seeds": [1, 1]}, "seeds is [1, 1]; expected a list of one or more different"),
        ({"hidden_units": [8]}, "hidden_units.0 is 8; expected a list of one or more different"),
        ({"validation": 0}, "validation is 0; expected an integer from 1"),
        ({"widths": [8]}, "widths is not a parameter; study has epochs"),
    ],
)
def test_invalid_axis(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=r"\A.*: study\." + re.escape(message) + r".*\Z"):
        read_study(ROOT / STUDY, options)


@pytest.mark.parametrize(
    "text", ["", "[1]", "epochs: [2001-99-99]", "epochs: [1]\nepochs: [2]", "[" * 9_999]
)
def test_invalid_study_yaml(tmp_path: Path, text: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"\A{path}: .*\Z|\A{path} is not valid YAML: .*\Z"):
        read_study(path, {})


@pytest.mark.parametrize(
    ("options", "address"),
    [(("--on", "test", "--validation", "500"), ""), (("--jobs", "2"), "head:6379")],
)
def test_options_without_effect_are_refused(
    options: tuple[str, ...], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(sys, "argv", ["study", *options])
    with pytest.raises(SystemExit, match="2"):
        main()


PIPELINE = """
stages:
  train:
    desc: Training
    cmd: python -m train
    deps: [data, code, requirements.txt]
    params: [train]
    outs: [model]
  evaluate:
    cmd: python -m evaluate
    deps: [model, metrics.json]
    metrics:
      - metrics.json: {cache: false}
"""


@pytest.mark.parametrize(
    ("path", "content", "changes_name"),
    [
        ("code/train.py", "1", True),
        ("code/new.py", "", True),
        ("requirements.txt", "numpy==2", True),
        ("params.yaml", "train: {seed: 1, rate: 2}", True),
        ("params.yaml", "train: {seed: 7, rate: 1} # the trial has its own seed", False),
        ("dvc.yaml", PIPELINE.replace("-m train", "-m train --fast"), True),
        ("dvc.yaml", PIPELINE.replace("Training", "Something else"), False),
        ("metrics.json", "{}", False),
        ("README.md", "", False),
    ],
)
def test_name_of_a_trial_depends_on_its_inputs(
    tmp_path: Path, path: str, content: str, changes_name: bool
) -> None:
    project = Project(tmp_path)
    (tmp_path / "code").mkdir()
    (tmp_path / "code/train.py").touch()
    (tmp_path / "requirements.txt").touch()
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "params.yaml").write_text("train: {seed: 1, rate: 1}")
    project.git("init", "--quiet")
    project.commit("Start")
    before = read_inputs(tmp_path)
    assert re.fullmatch(r"study-8-epochs-2-seed-1-\w{7}", trial_name(TRIAL, before))
    other_trial = TRIAL._replace(validation=499)
    assert trial_name(other_trial, before) != trial_name(TRIAL, before)

    (tmp_path / path).write_text(content)
    project.commit("Edit")
    after = read_inputs(tmp_path)
    assert (trial_name(TRIAL, after) != trial_name(TRIAL, before)) == changes_name


def test_missing_trials_are_run_and_given_up_after_three_attempts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(trials: Mapping[str, object]) -> FinishedTrials:
        asked_for.append(list(trials))
        for name in trials:
            future: Future[bytes] = Future()
            future.set_exception(CommandError("out of memory"))
            yield name, future

    asked_for: list[list[str]] = []
    monkeypatch.setattr(runner, "RETRY_DELAY_S", 0)
    monkeypatch.setattr(runner, "list_experiments", lambda: {"a": "commit of a"})
    assert get_or_run("Trials", {"a": TRIAL, "b": TRIAL}, fail) == {"a": "commit of a"}
    assert asked_for == [["b"]] * 3
    printed = capsys.readouterr()
    assert "Trials: 1 of 2 exist, 1 to train" in printed.out
    assert printed.err.count("0 of 1 trained, 1 failed") == 3
    assert printed.err.count("out of memory") == 1
    assert get_or_run("Trials", {"a": TRIAL}, fail) == {"a": "commit of a"}
    assert len(asked_for) == 3


def test_a_trial_that_cannot_be_imported_is_not_trained_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run(trials: Mapping[str, object]) -> FinishedTrials:
        asked_for.append(list(trials))
        future: Future[bytes] = Future()
        future.set_result(b"not a bundle")
        yield "a", future

    asked_for: list[list[str]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "list_experiments", dict)
    with pytest.raises(UserError, match="git bundle"):
        get_or_run("Trials", {"a": TRIAL}, run)
    assert asked_for == [["a"]]


def test_results_after_the_last_epoch_of_a_training_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A callback has stopped the training of each seed after 4 + seed epochs."""

    def read_output(commit: str, path: str) -> str:
        if path == SCORES:
            return '{"baseline_error": 9.5}'
        points = [
            {"step": epoch, "split": "validation", "accuracy": 0.9}
            for epoch in range(1, 5 + int(commit))
        ]
        return json.dumps(points) if path == error_tables.ACCURACY else "actual\n1\n"

    for module in (study_module, error_tables):
        monkeypatch.setattr(module, "read_output", read_output)
    monkeypatch.setattr(study_module, "check_trials", lambda *_: None)
    monkeypatch.setattr(
        study_module,
        "get_or_run",
        lambda _, trials, run_trials: {name: str(trial.seed) for name, trial in trials.items()},  # noqa: ARG005
    )

    def run(_: Mapping[str, object]) -> FinishedTrials:
        yield from ()

    inputs = Inputs({}, [], {})
    study = Study(hidden_units=[[8]], epochs=[5, 6], seeds=[1, 2], validation=500)
    run_study(study, False, inputs, run, tmp_path)
    text = (tmp_path / "study.md").read_text()
    assert "the training ended before: 8 after 6 epochs (seed 1).\n" in text
    study = study.model_copy(update={"epochs": [7, 8]})
    with pytest.raises(UserError, match="study: no training reached 7 epochs"):
        run_study(study, False, inputs, run, tmp_path)


# At the start of stages/train.py: the training of a seed fails while a file of its name exists. The
# one of seed 1 removes it.
UNRELIABLE = """
import sys
from pathlib import Path
import yaml
seed = yaml.safe_load(Path("params.yaml").read_text())["train"]["seed"]
fault = Path({directory!r}) / str(seed)
if fault.exists():
    if seed == 1:
        fault.unlink()
    sys.exit("failed on purpose")
"""


def test_study(
    reproduced: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """In a shallow clone, with edits that are not committed and a new file."""
    project = Project(tmp_path / "clone")
    uri = reproduced.folder.as_uri()
    reproduced.git("clone", "--quiet", "--depth=1", uri, str(project.folder))
    project.dvc("cache", "dir", "--local", str(reproduced.folder / ".dvc/cache"))
    project.git("update-ref", "refs/exps/celery/stash", "HEAD")  # as DVC's queue does
    set_parameters(project.folder, {"train": {"batch_size": 200}})
    code = project.folder / "stages/train.py"
    code.write_text(UNRELIABLE.format(directory=str(tmp_path)) + code.read_text())
    (project.folder / "stages/training/new.py").write_text("NEW = 1\n")
    for seed in ("1", "2"):
        (tmp_path / seed).touch()
    status = project.git("status", "--porcelain")
    assert status.count("\n") == 3
    for name, value in activated().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr(runner, "RETRY_DELAY_S", 0)
    options = ("--epochs", "1", "2", "--seeds", "1", "2", "--validation", "500")
    monkeypatch.setattr(sys, "argv", [*SMALL[2:], *options])

    # Seed 1 fails once, seed 2 always.
    failed = r"study-8-epochs-2-seed-2-\w{7}"
    with pytest.raises(UserError, match=f"1 of 2 trials failed 3 times .*: {failed}"):
        main()
    printed = capfd.readouterr()
    assert "Trials: 0 of 2 exist, 2 to train" in printed.out
    assert printed.err.count("failed on purpose") == 2
    reports = project.folder / OTHER_REPORTS
    assert {path.name for path in reports.iterdir()} == {"study.csv", "study.md", "study.png"}
    assert list(pd.read_csv(reports / "study.csv")["seed"]) == [1, 1]  # after each epoch
    assert re.search(f"training failed: {failed}", (reports / "study.md").read_text())
    assert project.git("status", "--porcelain") == status
    assert not list((project.folder / ".dvc/tmp").glob("study-*"))

    # The same edits, committed together with another file: only seed 2 is missing.
    (tmp_path / "2").unlink()
    (project.folder / "other.txt").touch()
    head = project.git("rev-parse", "HEAD")
    project.commit("Edits")
    main()
    assert "Trials: 1 of 2 exist, 1 to train" in capfd.readouterr().out
    main()
    assert "Trials: 2 of 2 exist, 0 to train" in capfd.readouterr().out

    assert project.git("for-each-ref", "refs/exps/celery")
    references = project.git("for-each-ref", "--format=%(refname)", "refs/exps/*/*/*").split()
    parents = {}
    for reference in references:
        seed = reference.rsplit("-", 2)[1]
        parents[seed] = project.git("rev-parse", f"{reference}^")
        assert "batch_size: 200" in project.git("show", f"{reference}:params.yaml")
        assert project.git("show", f"{reference}:stages/training/new.py") == "NEW = 1\n"
    assert parents == {"1": head, "2": project.git("rev-parse", "HEAD")}


def processes_in(directory: Path) -> list[str]:
    """The command lines of the processes that work in a directory."""
    return [
        " ".join(process.info["cmdline"] or [])
        for process in psutil.process_iter(["cmdline", "cwd"])
        if Path(process.info["cwd"] or "/").is_relative_to(directory)
    ]


def is_training(directory: Path) -> bool:
    return any("-m stages.train" in command for command in processes_in(directory))


def wait_for(condition: Callable[[], object], seconds: float, log: Path) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


@pytest.mark.slow
def test_a_study_says_why_results_are_not_those_of_its_trials(project: Project) -> None:
    study = (*SMALL, "--validation", "500", "--epochs", "3", "--seeds", "1")
    code = project.read("stages/train.py")
    for old, new, message in (
        (
            "for epoch in range(1, train.epochs + 1)",
            "for epoch in range(1, 3)",
            "study: no training reached 3 epochs; ",
        ),
        (
            "params: [model, train, augmentation]",
            "params: [model, augmentation]",
            "has train.epochs ",
        ),
    ):
        for path in ("stages/train.py", "dvc.yaml"):
            text = project.read(path)
            (project.folder / path).write_text(text.replace(old, new))
        output = project.run(*study, fails=True)
        assert "Traceback" not in output
        last = output.splitlines()[-1]
        assert message in last
        (project.folder / "stages/train.py").write_text(code)


@pytest.mark.slow
def test_interrupted_and_killed_studies_leave_nothing_and_continue(
    project: Project, tmp_path: Path
) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    temporary = project.folder / ".dvc/tmp"
    project.set({"evaluate": {"worst": 9}})  # an edit that is not committed
    status, references = project.git("status", "--porcelain"), project.git("for-each-ref")

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
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        study = start()
        wait_for(lambda: is_training(temporary), 200, log)
        study.send_signal(number)
        assert study.wait(20) == -number, log.read_text()
        wait_for(lambda: not processes_in(temporary), 20, log)
        wait_for(lambda: not list(temporary.glob("study-*")), 20, log)
        assert project.git("status", "--porcelain") == status
        assert project.git("for-each-ref") == references
        assert not re.search("Traceback|has failed", log.read_text())

    first = start()
    wait_for(lambda: is_training(temporary), 200, log)
    second = start()
    wait_for(lambda: "Another study is running" in log.read_text(), 200, log)
    gate.unlink()
    assert (first.wait(200), second.wait(200)) == (0, 0), log.read_text()
    assert log.read_text().count("Trials: 1 of 1 exist, 0 to train") == 1
    assert len(pd.read_csv(project.folder / OTHER_REPORTS / "study.csv")) == 1
