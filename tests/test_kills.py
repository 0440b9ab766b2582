"""Kills at any moment: no epoch and no edit is lost, and the next run has the same bytes.

A few in the suite; `pytest -m long tests/test_kills.py` has a hundred.
"""

import contextlib
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

from experiments.recipes import LOCK
from experiments.study import OTHER_REPORTS
from stages.edges.bad_input import BadInput
from stages.training.checkpoint import Checkpoint, State
from stages.training.history import curves_in
from stages.training.threads import THREADS
from tests.project import CHECKPOINT, MODEL, QUICKSTART, TRAIN, Project, activated
from tests.test_study import SMALL
from tools.leftovers import leftovers

EPOCHS = 600  # more than ten kills leave time for
SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
# Longer than any of the commands takes on a busy machine.
SECONDS = 250
# When a signal is sent to the command that a process runs.
Moment = Callable[[subprocess.Popen[bytes]], None]
# A moment, a signal, and whether it goes to all processes of the command or to the first alone.
Attack = tuple[Moment, signal.Signals, bool]
FEW_OR_MANY = pytest.mark.parametrize(
    "many",
    [pytest.param(0, marks=pytest.mark.slow), pytest.param(25, marks=pytest.mark.long)],
)


def left_behind(project: Project) -> list[Path]:
    temporary = project.folder / ".dvc/tmp"
    return [
        *(path for path in project.folder.rglob("partial-*") if ".dvc" not in path.parts),
        *temporary.glob("quickstart-*"),
        *temporary.glob("study/*"),
        *project.folder.glob(".git/**/*.lock"),
    ]


def kill_after_epochs(project: Project, number: signal.Signals, epochs: int, pause: float) -> str:
    """Starts a training and kills it a pause after some more epochs; what it printed."""
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
    # The usual status of a process that died of this signal, or it was done before.
    assert process.returncode in (-number, 0)
    assert "Traceback" not in rest
    return "".join(lines) + rest


def add_layers(project: Project) -> None:
    """Gives the network layers whose state is not in its weights, or in no trained ones."""
    path = project.folder / "stages/training/network.py"
    text = path.read_text()
    place = '            keras.layers.Dense(CLASSES, activation="softmax"),\n'
    assert place in text
    more = "keras.layers.BatchNormalization(),\n            keras.layers.Dropout(0.3),\n"
    path.write_text(text.replace(place, f"            {more}{place}"))


@pytest.mark.slow
def test_killed_with_all_that_draws_random_numbers_it_ends_with_the_same_bytes(
    real_project: Project,
) -> None:
    """A falling rate, warps, layers that keep more than weights; other threads, too."""
    add_layers(real_project)
    real_project.set(
        {"train": {"schedule": "cosine"}, "warp": {"rotation": 20, "elastic_amplitude": 1}}
    )
    killed_again_and_again(real_project, [signal.SIGKILL], 12)


@pytest.mark.long
def test_killed_at_random_moments_it_ends_with_the_same_bytes(real_project: Project) -> None:
    signals = [signal.SIGKILL] * 6 + [signal.SIGTERM] * 2 + [signal.SIGINT] * 2
    killed_again_and_again(real_project, signals, EPOCHS)


def killed_again_and_again(project: Project, signals: list[signal.Signals], epochs: int) -> None:
    project.set({"model": {"hidden_units": [64]}, "train": {"epochs": epochs, "batch_size": 200}})
    project.run(*TRAIN, environment={THREADS: "3"})
    expected = (project.folder / MODEL).read_bytes()
    assert not (project.folder / CHECKPOINT).exists()
    (project.folder / MODEL).unlink()

    chance = random.Random(11)  # noqa: S311
    for number in signals:
        before = epochs_saved(project)
        output = kill_after_epochs(project, number, chance.randint(1, 4), chance.uniform(0, 0.1))
        if before:
            assert f"epoch {before + 1}/" in output
            assert "epoch 1/" not in output
        assert epochs_saved(project) > before
        assert not (project.folder / MODEL).exists()
        if number is not signal.SIGKILL:
            assert left_behind(project) == []
    saved = epochs_saved(project)
    output = project.run(*TRAIN)
    assert f"epoch {saved + 1}/" in output
    assert "epoch 1/" not in output

    assert (project.folder / MODEL).read_bytes() == expected
    assert not (project.folder / CHECKPOINT).exists()
    assert left_behind(project) == []
    loss = curves_in(project.read("metrics/train/plots/custom/loss.json"), "loss")
    assert len(loss) == epochs


def epochs_saved(project: Project) -> int:
    path = project.folder / CHECKPOINT
    if not path.exists():
        return 0
    with np.load(path) as file:
        return str(file["about"]).count("val_loss")


@pytest.fixture
def stage(real_project: Project, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The stage, whose main() trains `real_project` in this process, without another start."""
    from stages import train

    monkeypatch.chdir(real_project.folder)
    # TensorFlow has computed in this process, and takes no other number of threads any more.
    monkeypatch.setattr(train, "set_threads", lambda: None)
    return train


@pytest.mark.slow
def test_a_checkpoint_depends_on_all_that_a_training_reads(
    real_project: Project, stage: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, str]] = []

    def record(_: Path, dependencies: dict[str, str]) -> None:
        made.append(dependencies)
        raise KeyboardInterrupt

    def dependencies() -> dict[str, str]:
        with pytest.raises(KeyboardInterrupt):
            stage.main()
        return made[-1]

    monkeypatch.setattr(stage, "Checkpoint", record)
    sums = real_project.folder / "data/normalized/SHA256SUMS"
    before = dependencies()
    for name, change in (
        ("parameters", lambda: real_project.set({"model": {"hidden_units": [9]}})),
        ("parameters", lambda: real_project.set({"train": {"seed": 7}})),
        ("parameters", lambda: real_project.set({"warp": {"rotation": 5}})),
        ("data", lambda: sums.write_text(f"{sums.read_text()}{'0' * 64}  another\n")),
        ("code", (real_project.folder / "stages/new.py").touch),
    ):
        change()
        now = dependencies()
        assert [key for key, value in now.items() if value != before[key]] == [name]
        before = now


@pytest.mark.slow
def test_a_training_that_diverges_stops_with_advice_that_would_do(
    real_project: Project, stage: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (real_project.folder / MODEL).read_bytes()
    Checkpoint(Path(CHECKPOINT), {}).save(State([], []))  # of another training
    real_project.set({"train": {"learning_rate": 1e30, "schedule": "cosine", "epochs": 1}})
    with pytest.raises(BadInput) as problem:
        stage.main()
    assert re.fullmatch(
        r"train: (val_)?loss is (nan|inf) after epoch 1, so training stops; "
        r"try a train.learning_rate below 1e\+30.*",
        str(problem.value),
    )
    assert (
        "of other data and parameters and code: training starts afresh" in capsys.readouterr().out
    )
    assert (real_project.folder / MODEL).read_bytes() == before
    assert left_behind(real_project) == []


def appearance(project: Project, pattern: str) -> Moment:
    """The moment at which a new file of that pattern appears, or the command has ended."""

    def wait(process: subprocess.Popen[bytes]) -> None:
        earlier = set(project.folder.glob(pattern))
        until = time.monotonic() + SECONDS
        while process.poll() is None and set(project.folder.glob(pattern)) <= earlier:
            assert time.monotonic() < until
            time.sleep(0.001)

    return wait


def random_attacks(project: Project, command: tuple[str, ...], count: int) -> Iterator[Attack]:
    """Attacks in the time that a command takes."""
    started = time.monotonic()
    project.run(*command)
    seconds = time.monotonic() - started
    chance = random.Random(1)  # noqa: S311

    def after(pause: float) -> Moment:
        def wait(process: subprocess.Popen[bytes]) -> None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(pause)

        return wait

    for _ in range(count):
        moment = after(chance.uniform(0, seconds))
        yield moment, chance.choice(SIGNALS), chance.random() < 0.5


def attack(
    project: Project,
    command: tuple[str, ...],
    moment: Moment,
    number: signal.Signals,
    everyone: bool,
) -> None:
    """Starts a command, sends the signal, and waits for the end of all that it has started."""
    process = subprocess.Popen(
        command,
        cwd=project.folder,
        env=activated(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    moment(process)
    family: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(process.pid)
        family = [first, *first.children(recursive=True)]
    for each in family if everyone else family[:1]:
        with suppress(psutil.NoSuchProcess):
            each.send_signal(number)
    process.wait(SECONDS)
    _, alive = psutil.wait_procs(family, SECONDS)
    assert not alive


def edit(project: Project) -> None:
    """Makes edits that are not committed: of a text, a parameter and a file that is new."""
    project.set({"evaluate": {"worst": 9}})
    with (project.folder / "README.md").open("a") as file:
        file.write("An edit.\n")
    (project.folder / "notes.txt").write_text("Notes.\n")
    project.git("add", "notes.txt")


def state(project: Project) -> dict[str, str]:
    """What a person has in the workspace, and where HEAD, the index and the stash are."""
    return {
        "status": project.git("status", "--porcelain"),
        "head": (project.folder / ".git/HEAD").read_text(),
        "stash": project.git("stash", "list"),
        "diff": project.git("diff", "HEAD"),
    }


def do_as_told(project: Project) -> str:
    """Removes or restores what our commands name as left of a kill; what they say."""
    with contextlib.chdir(project.folder):
        said = "\n".join(leftovers())
    for lock in re.findall(r"^(\S+) is (?:there|damaged): .* remove it$", said, re.MULTILINE):
        (project.folder / lock).unlink()
    if "git checkout dvc.lock brings it back" in said:
        project.git("checkout", "--quiet", "dvc.lock")
    return said


@FEW_OR_MANY
def test_quickstart_killed_in_a_shallow_clone_beside_edits(
    project: Project, tmp_path: Path, many: int
) -> None:
    earlier = project.git("rev-parse", "HEAD").strip()
    project.git("commit", "--quiet", "--allow-empty", "--message", "A second commit")
    clone = Project(tmp_path / "clone")
    project.git("clone", "--quiet", "--depth=1", project.folder.as_uri(), str(clone.folder))
    clone.dvc("cache", "dir", "--local", str(project.folder / ".dvc/cache"))
    # As if it had run at the earlier commit.
    clone.git("update-ref", f"refs/exps/{earlier[:2]}/{earlier[2:]}/quickstart", "HEAD")
    edit(clone)
    (clone.folder / "docs/app.png").unlink()
    # New code that a stage depends on is part of what is run.
    (clone.folder / "stages/results/new.py").touch()
    with (clone.folder / "stages/evaluate.py").open("a") as file:
        file.write("import stages.results.new\n")

    before = state(clone)
    window = appearance(clone, ".dvc/tmp/quickstart-*/clone/.git/refs/stash")
    attacks: list[Attack] = [(window, signal.SIGTERM, False), (window, signal.SIGKILL, True)]
    if many:
        attacks += [*attacks[1:] * many, *random_attacks(clone, QUICKSTART, many)]
    for moment, number, everyone in attacks:
        attack(clone, QUICKSTART, moment, number, everyone)
        assert state(clone) == before, (number, everyone)
        if number == signal.SIGTERM and not everyone:
            assert left_behind(clone) == []

    # As on a machine where git has not been told who one is.
    known = [name for name in activated() if name.startswith(("GIT_AUTHOR", "GIT_COMMITTER"))]
    output = clone.run("env", *(f"--unset={name}" for name in known), *QUICKSTART)
    assert "reads 1,000 others" in output
    assert "dvc exp apply" not in output
    assert "dvc push" not in output
    assert output.rstrip().endswith("the same on all of MNIST (11 MB to download)")
    assert (clone.folder / "quickstart/plots/samples.png").exists()
    assert state(clone) == before
    assert left_behind(clone) == []
    (name,) = clone.git("for-each-ref", "--format=%(refname)", "refs/exps/**/quickstart").split()
    assert "worst: 9\n" in clone.git("show", f"{name}:params.yaml")


@FEW_OR_MANY
def test_dvc_exp_run_killed_while_it_has_edits_set_aside(project: Project, many: int) -> None:
    """The edits are in the workspace still, or where our commands say that they are."""
    edit(project)
    before = state(project)
    command = ("dvc", "exp", "run", "--temp", "-S", "train.epochs=3")
    attacks = [(appearance(project, ".git/refs/stash"), signal.SIGKILL, True)]
    if many:
        attacks += [*attacks * many, *random_attacks(project, command, many)]
    for moment, number, everyone in attacks:
        attack(project, command, moment, number, everyone)
        said = do_as_told(project)
        if state(project) != before:
            assert "git checkout --force main" in said
            project.git("checkout", "--quiet", "--force", "main")
            project.git("stash", "pop", "--quiet")
        assert state(project) == before
        assert do_as_told(project) == ""
    project.run(*command)


@FEW_OR_MANY
def test_dvc_repro_killed_in_the_middle(project: Project, many: int) -> None:
    """The run that goes on ends with the bytes of the committed one, which was never killed."""
    shutil.rmtree(project.folder / ".dvc/cache")
    for output in ("data/normalized", "models"):
        shutil.rmtree(project.folder / output)
    command = ("dvc", "repro")
    attacks = [(appearance(project, "data/partial-normalized"), signal.SIGKILL, False)]
    if many:
        project.set({"normalize": {"validation": 99}})
        attacks += random_attacks(project, command, many)
    for held_out, (moment, number, everyone) in enumerate(attacks, start=100):
        project.set({"normalize": {"validation": held_out}})
        attack(project, command, moment, number, everyone)
        do_as_told(project)
    project.git("checkout", "--quiet", "params.yaml")
    project.run(*command)
    assert project.git("status", "--porcelain") == ""
    assert left_behind(project) == []


@pytest.mark.slow
def test_a_file_of_dvc_that_a_kill_cut_short_is_named(project: Project) -> None:
    for path, text in (
        (LOCK, ""),
        (LOCK, "schema: '2.0'\nstages:\n  download:\n    cmd: 'pyth"),
        (".dvc/tmp/rwlock", ""),
    ):
        (project.folder / path).write_text(text)
        project.dvc("repro", fails=True)
        assert f"{path} is damaged" in do_as_told(project)
        assert do_as_told(project) == ""
        assert project.git("status", "--porcelain") == ""


@pytest.mark.long
def test_a_study_killed_at_random_moments(project: Project, tmp_path: Path) -> None:
    study = (*SMALL, "--validation", "500", "--epochs", "1", "--seeds", "1", "2")
    edit(project)
    before = state(project)
    never_killed = Project(tmp_path / "whole")
    shutil.copytree(project.folder, never_killed.folder, symlinks=True)
    attacks = random_attacks(never_killed, study, 20)
    for seed, (moment, number, everyone) in enumerate(attacks, start=3):
        attack(project, (*study, str(seed)), moment, number, everyone)
        assert state(project) == before, (number, everyone)
    project.run(*study)
    assert state(project) == before
    assert left_behind(project) == []
    for name in ("study.md", "study.png"):
        report = OTHER_REPORTS / name
        assert (project.folder / report).read_bytes() == (never_killed.folder / report).read_bytes()
