"""`make` passes values on unchanged; the commands quickstart, verify and reader."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from experiments import quickstart, verify
from experiments.reader import SETTINGS, read_changes
from experiments.repository.lockfile import LOCKFILE, locked_outputs, locked_stages
from stages.common.errors import UserError
from stages.common.params import PARAMS
from stages.training.threads import THREADS
from tests.project import ROOT, SCORES, TUTORIAL, Project, set_parameters

NASTY = [
    "don't.png",
    'a"b.png',
    "cost$5.png",
    "cost$(HOME).png",
    "$(shell touch ran).png",
    "`touch ran`.png",
    "$(touch ran).png",
    "a; touch ran; b.png",
    "a & b | c > ran.png",
    "two  spaces.png",
    "back\\slash\\\\.png",
    "#hash.png",
    "comma,(paren.png",
    "new\nline; touch ran.png",
    "percent%25.png",
    "-x.png",
    "größe 3.png",
    "*",
]


@pytest.fixture
def folder(tmp_path: Path) -> Project:
    """A copy of the Makefile, with a python that prints its arguments."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f"""#!/bin/sh
exec env -i {sys.executable} -c "import json, sys; print(json.dumps(sys.argv[2:]))" "$@"
""")
    python.chmod(0o755)
    return Project(tmp_path)


def make(
    folder: Project, *words: str, environment: dict[str, str] | None = None
) -> list[list[str]]:
    """Module and arguments of each Python command that make runs."""
    output = folder.run(*("make", "--silent", *words, "VENV=", "APP="), environment=environment)
    assert not (folder.folder / "ran").exists()
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize("value", NASTY)
def test_values_reach_their_command_unchanged(folder: Project, value: str) -> None:
    targets = ("predict", "compare", "app", "study")
    variables = ("IMAGE", "A", "B", "HOST", "PORT", "OPTIONS")
    assert make(folder, *targets, *(f"{variable}={value}" for variable in variables)) == [
        ["app.predict", "--", value],
        ["experiments.compare", "--", value, value],
        ["app.server", f"--host={value}", f"--port={value}"],
        ["experiments.study", *value.split()],  # words, without the shell's expansions
    ]
    in_environment = {"IMAGE": value, "HOST": value}
    assert make(folder, "predict", "app", environment=in_environment) == [
        ["app.predict", "--", value],
        # HOST of the environment is ignored: some shells export the machine's name.
        ["app.server", "--host=127.0.0.1", "--port=8000"],
    ]


def test_without_values_there_are_defaults_or_a_hint(folder: Project) -> None:
    assert make(folder, "compare", "app") == [
        ["experiments.compare", "--", "HEAD", "workspace"],
        ["app.server", "--host=127.0.0.1", "--port=8000"],
    ]
    output = folder.run("make", "predict", "VENV=", fails=True)
    assert "Name a picture: make predict IMAGE=photo.jpg" in output


def test_asking_for_help_runs_nothing(tmp_path: Path) -> None:
    output = Project(tmp_path).run(
        *(sys.executable, "-m", "experiments.verify", "--help"),
        environment={"PYTHONPATH": str(ROOT)},
    )
    assert output.startswith("usage: python -m experiments.verify")
    for command in ("quickstart", "reader", "check_params", "repository/recovery_steps"):
        # With a description, `run` parses the arguments.
        call = re.compile(r"command_line\.run\(\w+, __doc__\)\n\Z")
        assert call.search((ROOT / f"experiments/{command}.py").read_text())


@pytest.mark.parametrize(
    ("epochs", "threads", "problem"),
    [
        (-3, "2", "params.yaml: train.epochs is -3; expected an integer from 1 to 100000"),
        (3, "some", f"{THREADS} is 'some'; expected an integer from 1 to 1024"),
    ],
)
def test_quickstart_checks_values_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int, threads: str, problem: str
) -> None:
    set_parameters(tmp_path, TUTORIAL, {"train": {"epochs": epochs}})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(THREADS, threads)
    with pytest.raises(UserError, match=rf"\A{re.escape(problem)}\Z"):
        quickstart.main()


@pytest.mark.slow
def test_verify_confirms_the_committed_results_and_finds_a_forged_metric(project: Project) -> None:
    verify_command = ("python", "-m", "experiments.verify")
    assert project.run(*verify_command).endswith("\nAll bytes are identical.\n")

    scores = json.loads(project.read(SCORES))
    (project.folder / SCORES).write_text(json.dumps(scores | {"baseline_error": 0.01}))
    project.dvc("commit", "--force", "evaluate")
    project.commit("Forge the error")
    output = project.run(*verify_command, fails=True)

    states = dict(line.split(maxsplit=1) for line in output.splitlines() if "  " in line)
    assert " is now " in states.pop(SCORES)
    outputs = locked_outputs(locked_stages(project.read(LOCKFILE)))
    assert set(states) == set(outputs) - {SCORES}
    assert set(states.values()) == {"identical"}
    assert f"baseline_error {scores['baseline_error']:.2f}% instead of 0.01%" in output
    assert "OUTSIDE" not in output  # the interval was not forged
    assert f"verify: 1 of {len(outputs)} outputs differ from dvc.lock" in output
    assert "All bytes are identical" not in output
    assert project.git("status", "--porcelain") == ""


def test_verify_without_committed_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(tmp_path)
    (tmp_path / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc/config", tmp_path / ".dvc")
    project.git("init", "--quiet")
    project.commit("Start")
    monkeypatch.chdir(tmp_path)
    message = (
        "verify: HEAD has no dvc.lock. Run: make repro, then commit "
        "dvc.lock, metrics, plots and docs/model-card.md"
    )
    with pytest.raises(UserError, match=rf"\A{re.escape(message)}\Z"):
        verify.main()


def test_verify_refuses_results_that_are_damaged_or_do_not_match(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder)
    for path, text, message in (
        (LOCKFILE, "<<<<<<< HEAD\n", f"{LOCKFILE} or {SCORES} is damaged in HEAD"),
        (LOCKFILE, "schema: '2.0'\n", f"{LOCKFILE} or {SCORES} is damaged in HEAD"),
        (LOCKFILE, "stages: {}\n", f"{LOCKFILE} has no outputs in HEAD"),
        (SCORES, "{}", f"{LOCKFILE} or {SCORES} is damaged in HEAD"),
        ("plots/samples.png", "", f"plots/samples.png does not match {LOCKFILE} in HEAD"),
    ):
        (project.folder / path).write_text(text)
        project.commit("Damage")
        with pytest.raises(UserError, match=rf"\Averify: {re.escape(message)}\. Run: .*\Z"):
            verify.main()
        project.git("reset", "--quiet", "--hard", "HEAD~")


@pytest.mark.slow
def test_the_reader_is_an_experiment_compared_with_head(project: Project) -> None:
    (project.folder / SETTINGS).write_text(
        "train: {epochs: 1, schedule: cosine}\naugmentation: {rotation: 10, elastic_amplitude: 1}\n"
    )
    project.set({"evaluate": {"worst": 9}})
    before = project.git("status", "--porcelain")
    output = project.run("python", "-m", "experiments.reader")

    assert project.git("status", "--porcelain") == before
    experiment = project.git("for-each-ref", "refs/exps/**/reader", "--format=%(refname)").strip()
    params = yaml.safe_load(project.git("show", f"{experiment}:{PARAMS}"))
    assert params["train"]["schedule"] == "cosine"
    assert params["augmentation"]["rotation"] == 10
    assert params["evaluate"]["worst"] == 9
    for text in ("A: HEAD", "B: reader", "augmentation.elastic_amplitude", "dvc exp apply reader"):
        assert text in output


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "augmentation: {rotation: 91}",
            "augmentation.rotation is 91; expected a number from 0 to 90: degrees",
        ),
        ("train: {epoch: 3}", "train.epoch is not a parameter; train has epochs, batch_size"),
        ("train: 3", "train is 3; expected a section with epochs"),
        ("augment: {shift: 1}", "augment is not a section; expected download, normalize"),
        ("warp: {shift: 1}", "the section warp is now named augmentation; rename it"),
        ("[]", "the file contains []; expected the sections download"),
        ("train: {batch_size: 5000}", "train.batch_size is 5000; expected an integer from"),
        ("train: {", "is not valid YAML"),
    ],
)
def test_errors_in_reader_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, problem: str
) -> None:
    set_parameters(tmp_path, TUTORIAL)
    (tmp_path / SETTINGS).write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"\A{SETTINGS}:? {re.escape(problem)}.*\Z"):
        read_changes()


def test_the_committed_reader_yaml_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert read_changes()["augmentation"]["rotation"] > 0
