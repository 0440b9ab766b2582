"""Every message with a command, followed as it is written: the project is whole afterwards.

The outputs and dvc.lock have their bytes again, and no edit is lost. Advice of a killed
`dvc exp run` is tested by test_kills.py, of a repository of another user by test_repository.py.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.repository.cache_check import md5_of
from experiments.repository.lockfile_checks import PREDICTIONS
from stages.common.lockfile import LOCKFILE, locked_outputs, locked_stages
from tests.project import ROOT, SCORES, Project

# `make repro` in the environment of the tests, without an installation.
MAKE = {"MAKEFLAGS": "-- VENV="}
Break = Callable[[Project], None]


def remove(path: str) -> Break:
    return lambda project: (project.folder / path).unlink()


def write(path: str, text: str) -> Break:
    def write_text(project: Project) -> None:
        (project.folder / path).write_text(text)

    return write_text


def git(*commands: str) -> Break:
    def run(project: Project) -> None:
        for command in commands:
            project.git(*command.split())

    return run


def freeze(project: Project) -> None:
    project.dvc("freeze", "train")


def forget_to_run(project: Project) -> None:
    with (project.folder / "stages/evaluate.py").open("a") as file:
        file.write("# A comment.\n")
    project.git("commit", "--quiet", "--all", "--message", "Without a run")


def forget_to_commit(project: Project) -> None:
    (project.folder / SCORES).write_text("{}")
    project.git("commit", "--quiet", "--message", "Part of a run", SCORES)


def forget_predictions(project: Project) -> None:
    project.git("rm", "--quiet", PREDICTIONS)
    project.git("commit", "--quiet", "--message", "Without predictions")


def conflict(project: Project) -> None:
    project.git("checkout", "--quiet", "-b", "other")
    project.set({"evaluate": {"worst": 9}})
    project.dvc("repro")
    project.commit("Nine")
    project.git("checkout", "--quiet", "main")
    project.set({"evaluate": {"worst": 4}})
    project.dvc("repro")
    project.commit("Four")
    project.run("git", "merge", "other", fails=True)
    project.git("checkout", "--ours", "params.yaml")
    project.git("add", "params.yaml")


CHECK = ("python", "-m", "experiments.check_params")
RECOVERY = ("python", "-m", "experiments.repository.recovery_steps")
COMPARE = ("python", "-m", "experiments.compare", "HEAD", "HEAD")
QUICKSTART = ("python", "-m", "experiments.quickstart")
VERIFY = ("python", "-m", "experiments.verify")
CHECK_LOCK = ("python", "-m", "experiments.check_lock")
STUDY = ("python", "-m", "experiments.study", "--jobs", "1")
CARD = ("python", "-m", "stages.card")
TRAIN = ("python", "-m", "stages.train")
# What breaks the project, the command that has the advice, and what its message begins with.
ADVICE: dict[str, tuple[Break, tuple[str, ...], str]] = {
    "params.yaml": (remove("params.yaml"), CHECK, "params.yaml is missing"),
    "params.yaml removed by git": (git("rm --quiet params.yaml"), CHECK, "params.yaml is missing"),
    "study.yaml": (remove("study.yaml"), STUDY, "study.yaml is missing"),
    "dvc.yaml": (remove("dvc.yaml"), QUICKSTART, "dvc.yaml is missing"),
    "dvc.lock": (remove(LOCKFILE), CARD, "dvc.lock is missing"),
    "empty dvc.lock": (write(LOCKFILE, ""), RECOVERY, "dvc.lock: damaged"),
    "half of dvc.lock": (write(LOCKFILE, "stages:\n  a: 'b"), RECOVERY, "dvc.lock: damaged"),
    "damaged dvc.lock": (write(LOCKFILE, "a: b\n"), CARD, "dvc.lock has"),
    "merge": (conflict, RECOVERY, "dvc.lock: merge conflict"),
    "index.lock": (write(".git/index.lock", ""), RECOVERY, ".git/index.lock: left by"),
    "reference": (write(".git/refs/heads/main.lock", ""), RECOVERY, ".git/refs/heads/main.lock:"),
    "rwlock": (write(".dvc/tmp/rwlock", '{"a'), RECOVERY, ".dvc/tmp/rwlock: damaged"),
    "frozen stage": (freeze, QUICKSTART, "dvc.yaml: frozen stages: train"),
    "forgotten run": (forget_to_run, CHECK_LOCK, "dvc.lock: evaluate is out of date"),
    "forgotten commit": (forget_to_commit, VERIFY, "verify: dvc.lock or metrics/evaluate.json"),
    "results of two runs": (forget_to_commit, COMPARE, "HEAD: metrics/ or plots/ do not match"),
    "forgotten predictions": (forget_predictions, COMPARE, "HEAD has no plots/predictions.csv"),
    "data": (remove("data/normalized/x_train.npy"), TRAIN, "data/normalized/x_train.npy is"),
}


def follow(project: Project, message: str) -> None:
    """Runs the command after `Run:` in a message."""
    command = re.search(r"Run: (.*)", message)
    assert command, message
    project.run("sh", "-c", command[1], environment=MAKE)


def check_whole(project: Project) -> None:
    """Checks that each output is that of dvc.lock, also in the cache, and nothing is broken."""
    assert project.run(*RECOVERY) == ""
    project.run(*CHECK)
    project.run(*CHECK_LOCK)
    assert "up to date" in project.dvc("status")
    assert not project.git("ls-files", "--unmerged")
    for path, md5 in locked_outputs(locked_stages(project.read(LOCKFILE))).items():
        if not md5.endswith(".dir"):
            assert md5_of(project.folder / path) == md5
    for name, cached in cached_files(project).items():
        assert (project.folder / name).is_dir() or md5_of(project.folder / name) == cached_md5(
            cached
        )
    for cached in (project.folder / ".dvc/cache/files/md5").glob("*/*"):
        assert md5_of(cached) == cached_md5(cached)


# The other pieces of advice are followed with -m long.
OFTEN = ("params.yaml", "half of dvc.lock", "index.lock", "merge", "forgotten commit", "data")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in OFTEN else pytest.mark.long) for name in ADVICE]
)
def test_advice_makes_the_project_whole_and_loses_no_edit(project: Project, name: str) -> None:
    break_project, command, beginning = ADVICE[name]
    break_project(project)
    (project.folder / "README.md").write_text("An edit.\n")
    (project.folder / "notes.txt").write_text("Notes.\n")
    output = project.run(*command, fails=command != RECOVERY)
    assert "Traceback" not in output
    (message,) = (line for line in output.splitlines() if line.startswith(beginning))
    follow(project, output if "Run: " not in message else message)
    assert project.read("README.md") == "An edit.\n"
    assert project.read("notes.txt") == "Notes.\n"
    check_whole(project)


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(0o444)  # DVC trusts read-only objects


def cached_md5(cached: Path) -> str:
    """The MD5 in the name of an object."""
    return f"{cached.parent.name}{cached.stem}"


def object_of(project: Project, md5: str) -> Path:
    return project.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]


def cached_files(project: Project) -> dict[str, Path]:
    """The objects of all cached outputs by path in the workspace; some files have the same."""
    found = {}
    for output in ("data/raw", "data/normalized", "models/handwritten_digit.h5"):
        md5 = locked_outputs(locked_stages(project.read(LOCKFILE)))[output]
        found[output] = object_of(project, md5)
        if md5.endswith(".dir"):
            for entry in json.loads(found[output].read_text()):
                found[f"{output}/{entry['relpath']}"] = object_of(project, entry["md5"])
    return found


SOME = ["data/raw", "data/normalized/x_train.npy", "models/handwritten_digit.h5"]


@pytest.mark.slow
@pytest.mark.parametrize("some", [SOME, pytest.param([], marks=pytest.mark.long)], ids=len)
def test_a_damaged_object_in_the_cache_is_named_and_replaced(
    project: Project, some: list[str]
) -> None:
    """Beside a workspace that is right, and in turn one that has the same damage."""
    before = project.read(LOCKFILE)
    files = {path: file for path, file in cached_files(project).items() if path in some or not some}
    assert len(files) >= len(SOME)
    for number, (path, cached) in enumerate(files.items()):
        flip_a_byte(cached)
        if number % 2 and (project.folder / path).is_file():
            (project.folder / path).unlink()
            project.dvc("checkout", "--force", "--quiet")
            assert md5_of(project.folder / path) == md5_of(cached)
        message = project.run(*RECOVERY)
        assert message.startswith(f"{cached}: damaged copy of ")
        for line in message.splitlines():
            follow(project, line)
        assert project.run(*RECOVERY) == "", path
    assert project.read(LOCKFILE) == before
    check_whole(project)
    assert project.git("status", "--porcelain") == ""


@pytest.mark.long
def test_a_stage_that_reads_a_damaged_object_leads_to_it(project: Project) -> None:
    path = "data/raw/x_test.npy"
    cached = cached_files(project)[path]
    flip_a_byte(cached)
    (project.folder / path).unlink()
    project.dvc("checkout", "--force", "--quiet")
    project.set({"normalize": {"validation": 100}})
    output = project.dvc("repro", fails=True)
    assert f"{path} has changed: its SHA-256 is not the one in SHA256SUMS" in output
    output = project.run("make", "repro", fails=True, environment=MAKE)
    (line,) = (line for line in output.splitlines() if line.startswith(str(cached)))
    follow(project, line)
    check_whole(project)

    # An experiment shares the cache.
    flip_a_byte(cached)
    project.set({"normalize": {"validation": 200}})
    output = project.run(*QUICKSTART, fails=True)
    (line,) = (line for line in output.splitlines() if line.startswith(str(cached)))
    follow(project, line)
    project.run(*QUICKSTART)


def test_each_message_with_a_command_is_tested() -> None:
    """By the table, or in the file of its package's tests."""
    tested = " ".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    for package in ("experiments", "stages/common"):
        for path in (ROOT / package).rglob("*.py"):
            if path.name == "killed_experiment.py":
                continue  # test_kills.py runs its commands
            for message in re.findall(r'"([^"\n]*)Run: [^"\n]*"', path.read_text()):
                words = max(re.split(r"\{.*?\}", message), key=len).strip(" ;.:")
                assert words[:7] in tested, f"{path}: {message}"
