"""`make` passes values on unchanged; the commands quickstart, verify and reader."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from experiments import check_lock, quickstart, reader, verify
from experiments.reader import SETTINGS, read_changes
from experiments.repository.lockfile_checks import REPAIR
from experiments.study import __main__ as study
from stages.common.errors import UserError
from stages.common.lockfile import LOCKFILE, locked_outputs, locked_stages
from stages.common.params import PARAMS
from stages.training.threads import THREADS
from tests.project import ROOT, SCORES, TUTORIAL, Project, copy_files, set_parameters

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


@pytest.mark.parametrize("locale", ["C", pytest.param("C.UTF-8", marks=pytest.mark.long)])
def test_every_target_works_in_a_folder_with_any_name(
    project: Project, tmp_path: Path, locale: str
) -> None:
    """With a space, an accent, quotes and an emoji, and variables that would break Python."""
    project = Project(project.folder.rename(tmp_path / "it's größe \" 😀"))
    (project.folder / SETTINGS).write_text("train: {epochs: 1}\n")
    project.commit("Settings")
    variables = {"LC_ALL": locale, "PYTHONSAFEPATH": "1", "PYTHONPATH": "/nowhere"}
    study = "OPTIONS=--validation 500 --hidden-units 8 --epochs 1 --seeds 1"
    # These make a clone in the same way as quickstart and study.
    more = [] if locale == "C" else [("verify", "All bytes"), ("reader", "dvc exp apply reader")]
    for words, expected in (
        *(([target], text) for target, text in more),
        (["help"], "make quickstart"),
        (["repro"], "Data and pipelines are up to date."),
        (["quickstart"], "Your files are unchanged"),
        (["compare"], "All predictions are the same"),
        (["experiments"], "quickstart"),
        (["study", study], "Written to reports/options/study.md"),
    ):
        output = project.run("make", *words, "VENV=", environment=variables)
        assert expected.lower() in output.lower(), output
        assert "Traceback" not in output
    # The model of the stand-in is not one of Keras.
    predict = ("make", "predict", "IMAGE=docs/three.png", "VENV=")
    output = project.run(*predict, fails=True, environment=variables)
    assert "models/handwritten_digit.h5" in output
    assert "Traceback" not in output


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
    for command in (
        "quickstart",
        "reader",
        "check_params",
        "check_lock",
        "repository/recovery_steps",
    ):
        # With a description, `run` parses the arguments.
        call = re.compile(r"command_line\.run\(\w+, __doc__\)\n\Z")
        assert call.search((ROOT / f"experiments/{command}.py").read_text())


def test_ctrl_c_during_the_imports_gives_no_traceback(tmp_path: Path) -> None:
    project = copy_files(tmp_path / "project")
    code = project.folder / "stages/data/datasets.py"
    code.write_text(
        f"print('importing', flush=True)\nimport time\ntime.sleep(60)\n{code.read_text()}"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "experiments.quickstart"],
        cwd=project.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (-signal.SIGINT, "")


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
    message = f"verify: HEAD has no dvc.lock. {REPAIR}"
    with pytest.raises(UserError, match=rf"\A{re.escape(message)}\Z"):
        verify.main()


def test_frozen_stages_are_refused_before_any_work(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their results would be of other code and parameters than those that are named."""
    project.dvc("freeze", "train", "normalize")
    project.commit("Freeze")
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr(sys, "argv", ["study", "--validation", "500"])
    for command in (quickstart.main, reader.main, study.main, verify.main, check_lock.main):
        with pytest.raises(UserError) as problem:
            command()
        assert str(problem.value) == (
            "dvc.yaml: frozen stages: normalize, train; expected none, since DVC does not run "
            "them. Run: dvc unfreeze normalize train"
        )
    project.run("sh", "-c", str(problem.value).split("Run: ")[1])
    check_lock.main()


def test_a_lock_of_other_code_or_parameters_is_found_without_a_run(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder)
    for path in (".dvc/cache", "data", "models"):  # as in a new clone
        shutil.rmtree(project.folder / path)
    check_lock.main()
    comment, parameter = "# A comment.\n", "seed: 42"
    for path, text, message in (
        ("stages/evaluate.py", comment, "evaluate is out of date: stages/evaluate.py"),
        ("stages/training/new.py", comment, "train is out of date: stages/training"),
        ("metrics/evaluate.json", "{}", "evaluate is out of date: metrics/evaluate.json"),
        ("stages/card.py", None, "card is out of date: stages/card.py"),
        ("params.yaml", parameter, "train is out of date: params.yaml (train)"),
    ):
        file = project.folder / path
        if text is None:
            file.unlink()
        elif text == parameter:
            file.write_text(file.read_text().replace(text, "seed: 43"))
        else:
            file.write_text(file.read_text() + text if file.exists() else text)
        project.commit("Without a run")
        with pytest.raises(UserError) as problem:
            check_lock.main()
        assert f"dvc.lock: {message} changed" in str(problem.value).splitlines()
        assert str(problem.value).endswith(REPAIR)
        project.git("reset", "--quiet", "--hard", "HEAD~")
    assert not (project.folder / "models").exists()


def test_ci_checks_the_lock_before_it_runs_the_pipeline() -> None:
    commands = (ROOT / ".ci/run").read_text()
    check = commands.index("\npython -m experiments.check_lock\n")
    assert check < commands.index("\nmake test\n") < commands.index("    dvc repro --force\n")
    assert "dvc repro" not in re.sub("#.*", "", commands[:check])


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
