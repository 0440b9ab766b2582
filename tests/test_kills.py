"""Killed commands: no epoch and no edit is lost, and the next run has the same results.

`pytest` kills at a few moments, `pytest -m long tests/test_kills.py` at a hundred random ones.
Temporary clones and their processes are tested by test_repository.py.
"""

import contextlib
import json
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import numpy as np
import psutil
import pytest

from experiments.repository.recovery_steps import recovery_steps
from experiments.study.__main__ import OTHER_REPORTS
from stages.common.errors import UserError
from stages.training.checkpoint import Checkpoint, State
from stages.training.history import read_curves
from stages.training.threads import THREADS
from tests.project import CHECKPOINT, MODEL, QUICKSTART, TRAIN, Project, activated
from tests.test_study import SMALL

EPOCHS = 600  # more than a training completes between ten kills
SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
TIMEOUT_S = 250  # more than any of the commands takes on a busy machine
# Waits until a signal is to be sent to the given process.
Moment = Callable[[subprocess.Popen[bytes]], None]
# A moment, a signal, and whether it is sent to all processes of a command or to the first only.
Kill = tuple[Moment, signal.Signals, bool]
FEW_OR_MANY = pytest.mark.parametrize(
    "many",
    [pytest.param(0, marks=pytest.mark.slow), pytest.param(25, marks=pytest.mark.long)],
)


def temporary_files(project: Project) -> list[Path]:
    """Temporary files and locks, which no command may leave."""
    temporary = project.folder / ".dvc/tmp"
    return [
        *(path for path in project.folder.rglob("partial-*") if ".dvc" not in path.parts),
        *temporary.glob("quickstart-*"),
        *temporary.glob("study-*"),
        *project.folder.glob(".git/**/*.lock"),
    ]


def kill_after_epochs(project: Project, number: signal.Signals, epochs: int, pause: float) -> str:
    """Starts a training and kills it after some epochs and a pause; returns its output.

    Args:
        project: the project to train in.
        number: signal to send.
        epochs: number of epochs to wait for.
        pause: seconds to wait after them.
    """
    process = subprocess.Popen(
        TRAIN,
        cwd=project.folder,
        env=activated(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        epochs -= line.startswith("epoch ")
        if epochs <= 0:
            break
    time.sleep(pause)
    process.send_signal(number)
    rest, _ = process.communicate(timeout=280)
    # Killed by the signal, or it had finished before.
    assert process.returncode in (-number, 0)
    assert "Traceback" not in rest
    return "".join(lines) + rest


def add_layers(project: Project) -> None:
    """Adds layers with state beyond trained weights: moving averages, and random numbers."""
    path = project.folder / "stages/training/network.py"
    text = path.read_text()
    last_layer = '            keras.layers.Dense(classes, activation="softmax"),\n'
    assert last_layer in text
    more = "keras.layers.BatchNormalization(),\n            keras.layers.Dropout(0.3),\n"
    path.write_text(text.replace(last_layer, f"            {more}{last_layer}"))


@pytest.mark.slow
def test_a_killed_training_with_all_kinds_of_state_ends_with_the_same_bytes(
    real_project: Project,
) -> None:
    """With a learning rate schedule, augmentation, layers with state, and other threads."""
    add_layers(real_project)
    real_project.set(
        {
            "train": {"schedule": "cosine"},
            "augmentation": {"rotation": 20, "elastic_amplitude": 1},
        }
    )
    check_killed_training(real_project, [signal.SIGKILL], 12)


# Kills the training at a moment such as "on_epoch_begin 2", before the epoch is in the checkpoint.
CALLBACKS = """
import os, signal


class Counter(keras.callbacks.Callback):
    counts = ()

    def on_train_begin(self, logs=None):
        self.counts = []

    def on_epoch_end(self, epoch, logs=None):
        self.counts.append([epoch, len(self.counts), logs["loss"]])
        if len(self.counts) == 4:
            self.model.optimizer.learning_rate = 0.0005


class Kill(keras.callbacks.Callback):
    def at(self, moment):
        if os.environ.get("KILL_AT") == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_epoch_begin(self, epoch, logs=None):
        self.at(f"on_epoch_begin {epoch}")

    def on_epoch_end(self, epoch, logs=None):
        self.at(f"on_epoch_end {epoch}")

    def on_train_end(self, logs=None):
        self.at("on_train_end")


def callbacks():
    # Nothing is an improvement after the first epoch, which is number 0.
    return [
        keras.callbacks.ReduceLROnPlateau(min_delta=10, patience=2, factor=0.5),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.99 * rate),
        keras.callbacks.EarlyStopping(min_delta=10, patience=5, restore_best_weights=True),
        Counter(),
        Kill(),
    ]
"""


@pytest.mark.slow
def test_a_killed_training_with_callbacks_ends_with_the_same_bytes(real_project: Project) -> None:
    """Killed before, in and after the epochs in which a rate is reduced and the training stops."""
    real_project.set({"model": {"hidden_units": [8]}, "train": {"epochs": 9, "batch_size": 200}})
    with (real_project.folder / "stages/training/network.py").open("a") as file:
        file.write(CALLBACKS)
    history = "metrics/train/plots/custom/loss.json"

    output = real_project.run(*TRAIN)
    assert "6 epochs, of which the network is that of epoch 1: loss " in output
    expected = (real_project.folder / MODEL).read_bytes()
    curve, metrics = (real_project.read(name) for name in (history, "metrics/train/metrics.json"))
    (real_project.folder / MODEL).unlink()
    moments = "on_epoch_begin 1", "on_epoch_end 2", "on_epoch_end 5", "on_train_end"
    for saved, moment in enumerate(moments):
        killed = real_project.run(*TRAIN, fails=True, environment={"KILL_AT": moment})
        assert ("Resuming" in killed) == bool(saved)
        assert not (real_project.folder / MODEL).exists()
    assert epochs_saved(real_project) == 6
    output = real_project.run(*TRAIN)
    assert "Resuming after epoch 6" in output
    assert "epoch 7/" not in output
    assert (real_project.folder / MODEL).read_bytes() == expected
    assert real_project.read(history) == curve
    assert real_project.read("metrics/train/metrics.json") == metrics


@pytest.mark.long
def test_a_training_killed_at_random_moments_ends_with_the_same_bytes(
    real_project: Project,
) -> None:
    signals = [signal.SIGKILL] * 6 + [signal.SIGTERM] * 2 + [signal.SIGINT] * 2
    check_killed_training(real_project, signals, EPOCHS)


def check_killed_training(project: Project, signals: list[signal.Signals], epochs: int) -> None:
    """Checks that a training killed by each of the signals ends with the bytes of another one."""
    project.set({"model": {"hidden_units": [64]}, "train": {"epochs": epochs, "batch_size": 200}})
    project.run(*TRAIN, environment={THREADS: "3"})
    expected = (project.folder / MODEL).read_bytes()
    assert not (project.folder / CHECKPOINT).exists()
    (project.folder / MODEL).unlink()

    generator = random.Random(11)  # noqa: S311
    for number in signals:
        before = epochs_saved(project)
        output = kill_after_epochs(
            project, number, generator.randint(1, 4), generator.uniform(0, 0.1)
        )
        if before:
            assert f"epoch {before + 1}/" in output
            assert "epoch 1/" not in output
        assert epochs_saved(project) > before
        assert not (project.folder / MODEL).exists()
        if number is not signal.SIGKILL:
            assert temporary_files(project) == []
    saved = epochs_saved(project)
    output = project.run(*TRAIN)
    assert f"epoch {saved + 1}/" in output
    assert "epoch 1/" not in output

    assert (project.folder / MODEL).read_bytes() == expected
    assert not (project.folder / CHECKPOINT).exists()
    assert temporary_files(project) == []
    loss = read_curves(project.read("metrics/train/plots/custom/loss.json"), "loss")
    assert len(loss) == epochs


def epochs_saved(project: Project) -> int:
    path = project.folder / CHECKPOINT
    if not path.exists():
        return 0
    with np.load(path) as file:
        return len(json.loads(str(file["about"]))["history"])


@pytest.mark.slow
def test_a_checkpoint_depends_on_all_inputs_of_a_training(
    real_project: Project, stage: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[dict[str, str]] = []

    def record(_: Path, dependencies: dict[str, str]) -> None:
        recorded.append(dependencies)
        raise KeyboardInterrupt

    def dependencies() -> dict[str, str]:
        with pytest.raises(KeyboardInterrupt):
            stage.main()
        return recorded[-1]

    monkeypatch.setattr(stage, "Checkpoint", record)
    sums = real_project.folder / "data/normalized/SHA256SUMS"
    before = dependencies()
    for name, change in (
        ("parameters", lambda: real_project.set({"model": {"hidden_units": [9]}})),
        ("parameters", lambda: real_project.set({"train": {"seed": 7}})),
        ("parameters", lambda: real_project.set({"augmentation": {"rotation": 5}})),
        ("data", lambda: sums.write_text(f"{sums.read_text()}{'0' * 64}  another\n")),
        ("code", (real_project.folder / "stages/new.py").touch),
    ):
        change()
        now = dependencies()
        assert [key for key, value in now.items() if value != before[key]] == [name]
        before = now


@pytest.mark.slow
def test_a_training_that_diverges_stops_with_advice(
    real_project: Project, stage: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (real_project.folder / MODEL).read_bytes()
    Checkpoint(Path(CHECKPOINT), {}).save(State([], [], [], [], False))  # of another training
    real_project.set({"train": {"learning_rate": 1e30, "schedule": "cosine", "epochs": 1}})
    with pytest.raises(UserError) as problem:
        stage.main()
    assert re.fullmatch(
        r"train: (val_)?loss is (nan|inf) after epoch 1, so training stops; "
        r"try a train.learning_rate below 1e\+30.*",
        str(problem.value),
    )
    assert (
        f"{CHECKPOINT} was saved with different data, parameters, code; ignored"
        in capsys.readouterr().out
    )
    assert (real_project.folder / MODEL).read_bytes() == before
    assert temporary_files(real_project) == []


def appearance(project: Project, pattern: str) -> Moment:
    """The moment at which a new file with this pattern appears, or the command has ended."""

    def wait(process: subprocess.Popen[bytes]) -> None:
        earlier = set(project.folder.glob(pattern))
        deadline = time.monotonic() + TIMEOUT_S
        while process.poll() is None and set(project.folder.glob(pattern)) <= earlier:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    return wait


def in_training(project: Project, monkeypatch: pytest.MonkeyPatch) -> Moment:
    """The moment at which the stand-in's stage train waits; DVC has removed its old outputs."""
    gate = project.folder / ".dvc/tmp/gate"
    gate.touch()
    monkeypatch.setenv("TRAINING_GATE", str(gate))

    def wait(process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while (project.folder / "metrics/train/metrics.json").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.001)

    return wait


def random_kills(project: Project, command: tuple[str, ...], count: int) -> Iterator[Kill]:
    """Kills at random moments. The command is run once to measure how long it takes."""
    started = time.monotonic()
    project.run(*command)
    seconds = time.monotonic() - started
    generator = random.Random(1)  # noqa: S311

    def after(pause: float) -> Moment:
        def wait(process: subprocess.Popen[bytes]) -> None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(pause)

        return wait

    for _ in range(count):
        moment = after(generator.uniform(0, seconds))
        yield moment, generator.choice(SIGNALS), generator.random() < 0.5


def run_and_kill(project: Project, command: tuple[str, ...], kill: Kill) -> None:
    """Starts a command, sends the signal, and waits until all processes have ended."""
    moment, number, to_all = kill
    process = subprocess.Popen(
        command,
        cwd=project.folder,
        env=activated(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    moment(process)
    processes: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(process.pid)
        processes = [first, *first.children(recursive=True)]
    for each in processes if to_all else processes[:1]:
        with suppress(psutil.NoSuchProcess):
            each.send_signal(number)
    process.wait(TIMEOUT_S)
    _, alive = psutil.wait_procs(processes, TIMEOUT_S)
    assert not alive


def edit(project: Project) -> None:
    """Makes edits that are not committed: of a text, of a parameter, and a new file."""
    project.set({"evaluate": {"worst": 9}})
    with (project.folder / "README.md").open("a") as file:
        file.write("An edit.\n")
    (project.folder / "notes.txt").write_text("Notes.\n")
    project.git("add", "notes.txt")


def state(project: Project) -> dict[str, str]:
    """The user's edits, and HEAD, the index and the stash."""
    return {
        "status": project.git("status", "--porcelain"),
        "head": (project.folder / ".git/HEAD").read_text(),
        "stash": project.git("stash", "list"),
        "diff": project.git("diff", "HEAD"),
    }


def recover(project: Project) -> None:
    """Runs the commands of all recovery steps, after which there are none."""
    with contextlib.chdir(project.folder):
        for step in recovery_steps():
            project.run("sh", "-c", step.split("Run: ")[1])
        assert recovery_steps() == []


@FEW_OR_MANY
def test_quickstart_killed_beside_edits(project: Project, many: int) -> None:
    edit(project)
    before = state(project)
    stash = appearance(project, ".dvc/tmp/quickstart-*/clone/.git/refs/stash")
    kills: list[Kill] = [(stash, signal.SIGKILL, True)]
    if many:
        kills += [*kills * many, *random_kills(project, QUICKSTART, many)]
    for kill in kills:
        run_and_kill(project, QUICKSTART, kill)
        assert state(project) == before, kill

    # For a user who has not configured git.
    identity = [name for name in activated() if name.startswith(("GIT_AUTHOR", "GIT_COMMITTER"))]
    output = project.run("env", *(f"--unset={name}" for name in identity), *QUICKSTART)
    assert "trained on 4,000 digits, tested on 1,000 others" in output
    assert "your files are unchanged" in output
    # DVC's own hints are about the temporary clone.
    assert output.count("dvc exp apply") == 1
    assert "dvc push" not in output
    assert output.endswith("the same on all of MNIST (11 MB to download)\n")
    assert (project.folder / "quickstart/plots/samples.png").exists()
    assert state(project) == before
    assert temporary_files(project) == []
    experiment = project.experiments()["quickstart"]
    assert experiment["params"]["params.yaml"]["data"]["evaluate"]["worst"] == 9


@FEW_OR_MANY
def test_dvc_exp_run_killed_while_it_is_prepared(project: Project, many: int) -> None:
    """The edits are still in the workspace, or the recovery steps bring them back."""
    edit(project)
    before = state(project)
    command = ("dvc", "exp", "run", "--temp", "-S", "train.epochs=3")
    kills: list[Kill] = [(appearance(project, ".git/refs/stash"), signal.SIGKILL, True)]
    if many:
        kills += [*kills * many, *random_kills(project, command, many)]
    for kill in kills:
        run_and_kill(project, command, kill)
        recover(project)
        if "WIP" in project.git("stash", "list"):  # of what DVC had changed when it was killed
            project.git("stash", "drop")
        assert state(project) == before, kill
    project.run(*command)


@FEW_OR_MANY
def test_dvc_exp_run_killed_in_the_workspace(
    project: Project, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    """HEAD is on its branch again, and the edits are in the workspace or in a stash.

    The files also have the changes of the experiment, which `dvc exp run` makes there.
    """
    project.git("checkout", "--quiet", "-b", "größe; $(touch ran)".replace(" ", "-"))
    edit(project)
    head = state(project)["head"]
    command = ("dvc", "exp", "run", "-S", "train.epochs=3")
    references = (".git/refs/stash", ".git/refs/exps/exec/EXEC_MERGE")
    kills: list[Kill] = [(appearance(project, each), signal.SIGKILL, True) for each in references]
    if many:
        # With other epochs, or DVC would have the results of the first training in its run cache.
        measured = (*command[:-1], "train.epochs=4")
        kills += [*kills * (many // 3), *random_kills(project, measured, many)]
    kills.insert(0, (in_training(project, monkeypatch), signal.SIGKILL, True))
    for number, kill in enumerate(kills):
        (project.folder / "notes.txt").write_text(f"Notes {number}.\n")
        run_and_kill(project, command, kill)
        recover(project)
        assert state(project)["head"] == head, kill
        assert project.read("notes.txt") == f"Notes {number}.\n", kill
        assert "+An edit." in project.git("diff", "HEAD"), kill
        assert "+  worst: 9" in project.git("diff", "HEAD"), kill
        project.git("stash", "clear")
        project.set({"train": {"epochs": 2}})
        project.git("add", "notes.txt")
        monkeypatch.delenv("TRAINING_GATE", raising=False)
    assert not (project.folder / "ran").exists()
    project.run(*command)


def test_edits_since_a_kill_and_commits_on_no_branch_are_kept(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(project)
    kill: Kill = (appearance(project, ".git/refs/stash"), signal.SIGKILL, True)
    run_and_kill(project, ("dvc", "exp", "run", "--temp", "-S", "train.epochs=3"), kill)
    (project.folder / "README.md").write_text("Another edit.\n")
    recover(project)
    assert "An edit.\n" in project.read("README.md")
    assert "+Another edit." in project.git("stash", "show", "-p")
    project.git("stash", "drop")

    kill = (in_training(project, monkeypatch), signal.SIGKILL, True)
    run_and_kill(project, ("dvc", "exp", "run", "-S", "train.epochs=3"), kill)
    project.git("commit", "--quiet", "--message", "On no branch", "notes.txt")
    recover(project)
    assert project.git("log", "-1", "--format=%s %D", "main") == "On no branch HEAD -> main\n"
    assert "An edit.\n" in project.read("README.md")


@FEW_OR_MANY
def test_dvc_repro_killed_and_repeated_ends_with_the_same_bytes(
    project: Project, many: int
) -> None:
    shutil.rmtree(project.folder / ".dvc/cache")
    for output in ("data/normalized", "models"):
        shutil.rmtree(project.folder / output)
    command = ("dvc", "repro")
    kills: list[Kill] = [(appearance(project, "data/partial-normalized"), signal.SIGKILL, False)]
    if many:
        project.set({"normalize": {"validation": 99}})
        kills += random_kills(project, command, many)
    for validation, kill in enumerate(kills, start=100):
        project.set({"normalize": {"validation": validation}})  # so that there is work to do
        run_and_kill(project, command, kill)
        recover(project)
    project.git("checkout", "--quiet", "params.yaml")
    project.run(*command)
    # dvc.lock has the MD5 of all outputs.
    assert project.git("status", "--porcelain") == ""
    assert temporary_files(project) == []


@pytest.mark.long
def test_a_study_killed_at_random_moments_ends_with_the_same_report(
    project: Project, tmp_path: Path
) -> None:
    study = (*SMALL, "--validation", "500", "--epochs", "1", "--seeds", "1", "2")
    edit(project)
    before = state(project)
    never_killed = Project(tmp_path / "never-killed")
    shutil.copytree(project.folder, never_killed.folder, symlinks=True)
    for seed, kill in enumerate(random_kills(never_killed, study, 20), start=3):
        run_and_kill(project, (*study, str(seed)), kill)
        assert state(project) == before, kill
    project.run(*study)
    assert state(project) == before
    assert temporary_files(project) == []
    for name in ("study.md", "study.png"):
        report = OTHER_REPORTS / name
        assert (project.folder / report).read_bytes() == (never_killed.folder / report).read_bytes()
