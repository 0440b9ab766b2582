"""What `make` offers: values handed on whole, and the commands quickstart, verify and reader."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from stages.edges.bad_input import BadInput
from stages.training.threads import THREADS
from tests.project import ROOT, SCORES, TUTORIAL, Project, set_parameters
from tools import quickstart, verify
from tools.reader import SETTINGS, read_settings

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
    """A Makefile, and a python that prints what it is called with."""
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
    """What each of the commands that make runs is called with: module and arguments."""
    output = folder.run(*("make", "--silent", *words, "VENV=", "APP="), environment=environment)
    assert not (folder.folder / "ran").exists()
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize("value", NASTY)
def test_every_value_reaches_its_command_whole(folder: Project, value: str) -> None:
    targets = ("predict", "compare", "app", "study")
    variables = ("IMAGE", "A", "B", "HOST", "PORT", "OPTIONS")
    assert make(folder, *targets, *(f"{variable}={value}" for variable in variables)) == [
        ["app.predict", "--", value],
        ["experiments.compare", "--", value, value],
        ["app.server", f"--host={value}", f"--port={value}"],
        ["experiments.study", *value.split()],  # words, of which the shell makes nothing more
    ]
    in_environment = {"IMAGE": value, "HOST": value}
    assert make(folder, "predict", "app", environment=in_environment) == [
        ["app.predict", "--", value],
        # Some shells export HOST, the machine's name.
        ["app.server", "--host=127.0.0.1", "--port=8000"],
    ]


def test_without_values_there_are_defaults_or_a_word(folder: Project) -> None:
    assert make(folder, "compare", "app") == [
        ["experiments.compare", "--", "HEAD", "workspace"],
        ["app.server", "--host=127.0.0.1", "--port=8000"],
    ]
    said = folder.run("make", "predict", "VENV=", fails=True)
    assert "Name a picture: make predict IMAGE=photo.jpg" in said


def test_asking_for_help_runs_nothing(tmp_path: Path) -> None:
    output = Project(tmp_path).run(
        *(sys.executable, "-m", "tools.verify", "--help"), environment={"PYTHONPATH": str(ROOT)}
    )
    assert output.startswith("usage: python -m tools.verify")
    for tool in ("quickstart", "reader", "leftovers", "parameters"):
        assert "no_arguments(__doc__)\n" in (ROOT / f"tools/{tool}.py").read_text()


@pytest.mark.parametrize(
    ("epochs", "threads", "problem"),
    [
        (-3, "2", "params.yaml: train.epochs is -3; it must be a whole number from 1 to 100000"),
        (3, "some", f"{THREADS} is 'some'; it must be a whole number from 1 to 1024"),
    ],
)
def test_quickstart_tells_a_wrong_value_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int, threads: str, problem: str
) -> None:
    set_parameters(tmp_path, TUTORIAL, {"train": {"epochs": epochs}})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(THREADS, threads)
    with pytest.raises(BadInput, match=rf"\A{re.escape(problem)}\Z"):
        quickstart.main()


@pytest.mark.slow
def test_verify_finds_a_forged_metric(project: Project) -> None:
    scores = json.loads(project.read(SCORES))
    (project.folder / SCORES).write_text(json.dumps(scores | {"baseline_error": 0.01}))
    project.dvc("commit", "--force", "evaluate")
    project.commit("Forge the error")
    output = project.run("python", "-m", "tools.verify", fails=True)

    verdicts = dict(line.split(maxsplit=1) for line in output.splitlines() if "  " in line)
    assert " is now " in verdicts.pop(SCORES)
    outputs = verify.outputs(yaml.safe_load(project.read("dvc.lock")))
    assert set(verdicts) == set(outputs) - {SCORES}
    assert set(verdicts.values()) == {"identical"}
    assert f"baseline_error {scores['baseline_error']:.2f}% instead of 0.01%" in output
    assert "OUTSIDE" not in output  # the interval was not forged
    assert "All bytes are identical" not in output


def test_verify_tells_in_a_line_that_there_are_no_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path)
    project.git("init", "--quiet")
    project.git("commit", "--quiet", "--allow-empty", "--message", "Start")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"\Averify: HEAD has no dvc\.lock; commit it\Z"):
        verify.main()


@pytest.mark.slow
def test_the_reader_is_an_experiment_compared_with_head(project: Project) -> None:
    settings = "train: {epochs: 1, schedule: cosine}\nwarp: {rotation: 10, elastic_amplitude: 1}\n"
    (project.folder / SETTINGS).write_text(settings)
    project.set({"evaluate": {"worst": 9}})
    before = project.git("status", "--porcelain")
    output = project.run("python", "-m", "tools.reader")

    assert project.git("status", "--porcelain") == before
    experiment = project.git("for-each-ref", "refs/exps/**/reader", "--format=%(refname)").strip()
    parameters = yaml.safe_load(project.git("show", f"{experiment}:params.yaml"))
    assert parameters["train"]["schedule"] == "cosine"
    assert parameters["warp"]["rotation"] == 10
    assert parameters["evaluate"]["worst"] == 9
    for said in ("A: HEAD", "B: reader", "warp.elastic_amplitude", "dvc exp apply reader"):
        assert said in output


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("warp: {rotation: 91}", "warp.rotation is 91; it must be a number from 0 to 90: degrees"),
        ("train: {epoch: 3}", "train.epoch is not a parameter; train has epochs, batch_size"),
        ("train: 3", "train is 3; it must be a section with epochs"),
        ("wrap: {shift: 1}", "wrap is not a section; the sections are download, normalize"),
        ("[]", "the file holds []; it must hold the sections download"),
        ("train: {batch_size: 5000}", "train.batch_size is 5000; it must be a whole number from"),
        ("train: {", "is not valid YAML"),
    ],
)
def test_wrong_settings_of_the_reader_are_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, problem: str
) -> None:
    set_parameters(tmp_path, TUTORIAL)
    (tmp_path / SETTINGS).write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=rf"\A{SETTINGS}:? {re.escape(problem)}.*\Z"):
        read_settings()


def test_the_committed_settings_of_the_reader_suit_params_yaml(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    assert read_settings()["warp"]["rotation"] > 0
