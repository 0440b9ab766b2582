"""Kills of whole commands at any moment: no edit is lost, and the next run has the same bytes.

A few in the suite; `pytest -m long tests/test_unlucky_moments.py` has a hundred.
"""

import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from experiments.study import OTHER_REPORTS
from tests.project import QUICKSTART, Project, activated

EXPERIMENT = ("dvc", "exp", "run", "--temp", "-S", "train.epochs=3")
STUDY = (
    *(sys.executable, "-m", "experiments.study", "--validation", "500"),
    *("--hidden-units", "8", "--epochs", "1", "--seeds"),
)
SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
# Longer than any of the commands takes on a busy machine.
SECONDS = 250
Moment = Callable[[subprocess.Popen[bytes]], None]


def attack(
    project: Project,
    command: tuple[str, ...],
    moment: Moment,
    number: signal.Signals,
    everyone: bool,
) -> None:
    """Starts a command, sends a signal at a moment, and waits for the end of all it has started.

    Args:
        everyone: the signal goes to all processes, in whatever session; else to the first alone.
    """
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


def as_soon_as(seen: Callable[[], object]) -> Moment:
    """The moment at which something is to be seen, or the process has ended."""

    def wait(process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + SECONDS
        while process.poll() is None and not seen():
            assert time.monotonic() < until
            time.sleep(0.001)

    return wait


def after(seconds: float) -> Moment:
    def wait(process: subprocess.Popen[bytes]) -> None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)

    return wait


def stash_of_the_clone(project: Project) -> Moment:
    """When DVC has set the edits aside, in the clone that quickstart runs in."""

    def wait(process: subprocess.Popen[bytes]) -> None:
        stashes = ".dvc/tmp/quickstart-*/clone/.git/refs/stash"
        earlier = set(project.folder.glob(stashes))  # of one that was killed
        as_soon_as(lambda: set(project.folder.glob(stashes)) - earlier)(process)

    return wait


def stash_of_the_workspace(project: Project) -> Moment:
    return as_soon_as((project.folder / ".git/refs/stash").exists)


@pytest.fixture
def edited(project: Project) -> Project:
    """With edits that are not committed: of a text, a parameter and a file that is new."""
    project.set({"evaluate": {"worst": 9}})
    with (project.folder / "README.md").open("a") as file:
        file.write("An edit.\n")
    (project.folder / "notes.txt").write_text("Notes.\n")
    project.git("add", "notes.txt")
    return project


def state(project: Project) -> dict[str, str]:
    """What a person has in the workspace, and where HEAD, the index and the stash are."""
    return {
        "status": project.git("status", "--porcelain"),
        "head": (project.folder / ".git/HEAD").read_text(),
        "stash": project.git("stash", "list"),
        "diff": project.git("diff", "HEAD"),
    }


def left_behind(project: Project) -> list[Path]:
    temporary = project.folder / ".dvc/tmp"
    return [
        *(path for path in project.folder.rglob("partial-*") if ".dvc" not in path.parts),
        *temporary.glob("quickstart-*"),
        *temporary.glob("study/*"),
        *project.folder.glob(".git/**/*.lock"),
    ]


def kill_quickstart(
    project: Project, moments: Iterator[tuple[Moment, signal.Signals, bool]]
) -> None:
    before = state(project)
    for moment, number, everyone in moments:
        attack(project, QUICKSTART, moment, number, everyone)
        assert state(project) == before, (number, everyone)
    output = project.run(*QUICKSTART)
    assert "reads 1,000 others" in output
    assert state(project) == before
    assert left_behind(project) == []
    row = project.experiments()["quickstart"]
    assert row["params"]["params.yaml"]["data"]["evaluate"]["worst"] == 9


@pytest.mark.slow
def test_quickstart_killed_while_dvc_has_edits_set_aside(edited: Project) -> None:
    moment = stash_of_the_clone(edited)
    attack(edited, QUICKSTART, moment, signal.SIGTERM, everyone=False)
    assert left_behind(edited) == []
    kill_quickstart(edited, iter([(moment, signal.SIGKILL, True)]))


def do_as_told(project: Project) -> str:
    """Removes or restores what our commands name as left of a kill; what they say."""
    said = project.run(sys.executable, "-m", "tools.leftovers")
    for lock in re.findall(r"^(\S+) is (?:there|damaged): .* remove it$", said, re.MULTILINE):
        (project.folder / lock).unlink()
    if "git checkout dvc.lock brings it back" in said:
        project.git("checkout", "--quiet", "dvc.lock")
    return said


def kill_experiment(
    project: Project, moment: Moment, number: signal.Signals, everyone: bool
) -> None:
    """The edits are in the workspace still, or where our commands say that they are."""
    before = state(project)
    attack(project, EXPERIMENT, moment, number, everyone)
    said = do_as_told(project)
    if state(project) != before:
        assert "git checkout --force main" in said
        project.git("checkout", "--quiet", "--force", "main")
        project.git("stash", "pop", "--quiet")
    assert state(project) == before
    assert project.run(sys.executable, "-m", "tools.leftovers") == ""


@pytest.mark.slow
def test_dvc_exp_run_killed_while_it_has_edits_set_aside(edited: Project) -> None:
    kill_experiment(edited, stash_of_the_workspace(edited), signal.SIGKILL, everyone=True)
    edited.dvc(*EXPERIMENT[1:])


def kill_repro(
    project: Project, whole: Path, moments: Iterator[tuple[Moment, signal.Signals, bool]]
) -> None:
    """The last run's parameters give what they give in a copy that was never killed."""
    last = {"normalize": {"validation": 40}}
    never_killed = Project(whole)
    shutil.copytree(project.folder, whole, symlinks=True)
    never_killed.set(last)
    never_killed.dvc("repro")
    for held_out, (moment, number, everyone) in enumerate(moments, start=100):
        project.set({"normalize": {"validation": held_out}})
        attack(project, ("dvc", "repro"), moment, number, everyone)
        do_as_told(project)
    project.set(last)
    project.dvc("repro")
    assert project.read("dvc.lock") == never_killed.read("dvc.lock")
    assert state(project) == state(never_killed)
    assert left_behind(project) == []


@pytest.mark.slow
def test_dvc_repro_killed_in_the_middle(project: Project, tmp_path: Path) -> None:
    begun = as_soon_as((project.folder / "data/partial-normalized").exists)
    kill_repro(project, tmp_path / "whole", iter([(begun, signal.SIGKILL, False)]))


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", "schema: '2.0'\nstages:\n  download:\n    cmd: 'pyth"])
def test_a_dvc_lock_that_a_kill_cut_short_is_named(project: Project, text: str) -> None:
    (project.folder / "dvc.lock").write_text(text)
    project.dvc("repro", fails=True)
    assert "dvc.lock is damaged" in do_as_told(project)
    assert do_as_told(project) == ""
    assert project.git("status", "--porcelain") == ""


@pytest.mark.slow
def test_a_lock_of_dvc_that_a_kill_cut_short_is_named(project: Project) -> None:
    lock = project.folder / ".dvc/tmp/rwlock"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text("")
    assert "JSON structure is corrupted" in project.dvc("repro", fails=True)
    assert ".dvc/tmp/rwlock is damaged" in do_as_told(project)
    assert not lock.exists()
    assert do_as_told(project) == ""


def random_moments(
    seed: int, count: int, seconds: float
) -> Iterator[tuple[Moment, signal.Signals, bool]]:
    chance = random.Random(seed)  # noqa: S311
    for _ in range(count):
        yield after(chance.uniform(0, seconds)), chance.choice(SIGNALS), chance.random() < 0.5


def seconds_of(project: Project, *command: str) -> float:
    started = time.monotonic()
    project.run(*command)
    return time.monotonic() - started


@pytest.mark.long
def test_quickstart_killed_twenty_times_while_dvc_has_edits_set_aside(edited: Project) -> None:
    for number, everyone in [(signal.SIGKILL, True)] * 14 + [
        (number, everyone) for number in SIGNALS[1:] for everyone in (True, False)
    ]:
        kill_quickstart(edited, iter([(stash_of_the_clone(edited), number, everyone)]))


@pytest.mark.long
def test_quickstart_killed_at_random_moments(edited: Project) -> None:
    seconds = seconds_of(edited, *QUICKSTART)
    kill_quickstart(edited, random_moments(1, 25, seconds))


@pytest.mark.long
def test_dvc_exp_run_killed_at_random_moments(edited: Project) -> None:
    chance = random.Random(2)  # noqa: S311
    seconds = seconds_of(edited, *EXPERIMENT)
    for attempt in range(25):
        window = stash_of_the_workspace(edited)
        moment = after(chance.uniform(0, seconds)) if attempt % 2 else window
        kill_experiment(edited, moment, chance.choice(SIGNALS), chance.random() < 0.5)
    edited.dvc(*EXPERIMENT[1:])


@pytest.mark.long
def test_dvc_repro_killed_at_random_moments(project: Project, tmp_path: Path) -> None:
    project.set({"normalize": {"validation": 99}})
    seconds = seconds_of(project, "dvc", "repro")
    kill_repro(project, tmp_path / "whole", random_moments(3, 40, seconds))


@pytest.mark.long
def test_a_study_killed_at_random_moments(edited: Project, tmp_path: Path) -> None:
    never_killed = Project(tmp_path / "whole")
    shutil.copytree(edited.folder, never_killed.folder, symlinks=True)
    last = (*STUDY, "1", "2")
    seconds = seconds_of(never_killed, *last)
    before = state(edited)
    for seed, (moment, number, everyone) in enumerate(random_moments(4, 20, seconds), start=3):
        attack(edited, (*STUDY, "1", "2", str(seed)), moment, number, everyone)
        assert state(edited) == before, (number, everyone)
    edited.run(*last)
    assert state(edited) == before
    assert left_behind(edited) == []
    for name in ("study.md", "study.png"):
        report = OTHER_REPORTS / name
        assert (edited.folder / report).read_bytes() == (never_killed.folder / report).read_bytes()
