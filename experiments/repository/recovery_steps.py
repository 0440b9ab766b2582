"""Advice after git or DVC was killed: stale locks, incomplete files and edits left in a stash.

DVC writes dvc.lock and its own locks in place, so a kill may leave incomplete files.
"""

import json
import shlex
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from experiments.repository.cache_check import damaged_objects
from experiments.repository.clones import check_repository
from experiments.repository.killed_experiment import EXPERIMENTS_LOCK, killed_experiment
from experiments.repository.lock import DVC_TMP
from experiments.repository.lockfile_checks import is_damaged_lockfile
from experiments.repository.subprocesses import git
from experiments.repository.temporary_directory import processes_in
from stages.common import command_line
from stages.common.errors import UserError, printable
from stages.common.lockfile import LOCKFILE, locked_stages
from stages.common.params import INVALID_CONTENT

# DVC's lists of the processes that hold a lock. DVC removes a process when it ends.
DVC_LOCKS = (Path(".dvc/tmp/rwlock"), EXPERIMENTS_LOCK)


def print_recovery_steps() -> None:
    """Prints a line for each trace of a killed command, with a command that removes it."""
    for step in recovery_steps():
        print(printable(step), file=sys.stderr)


def recovery_steps() -> list[str]:
    """A line for each trace of a killed command.

    Raises:
        UserError: this is not a git repository with a commit.
    """
    check_repository()
    steps = []
    if not is_running("git", "dvc"):
        git_directories = git("rev-parse", "--git-dir", "--git-common-dir").splitlines()
        steps += [
            f"{lock}: left by a git process that has ended. Run: rm -f {shlex.quote(str(lock))}"
            for directory in map(Path, dict.fromkeys(git_directories))
            for pattern in ("*.lock", "refs/**/*.lock", "logs/**/*.lock")
            for lock in directory.glob(pattern)
            if not is_open(lock)
        ]
    if not is_running("dvc"):
        experiment = killed_experiment()
        steps += [experiment] if experiment else []
        steps += [
            f"{lock}: damaged by a kill. Run: rm -f {lock}"
            for lock in DVC_LOCKS
            if is_damaged_json(lock) and str(lock) not in (experiment or "")
        ]
    if git("ls-files", "--unmerged", LOCKFILE):
        steps.append(
            f"{LOCKFILE}: merge conflict. Run: git checkout --theirs {LOCKFILE} && dvc repro && "
            f"git add {LOCKFILE} metrics plots docs/model-card.md"
        )
    elif is_damaged_lockfile():
        steps.append(f"{LOCKFILE}: damaged, as by a kill. Run: {restore_lockfile()}")
    return steps


def is_running(*programs: str) -> bool:
    """Whether one of these programs works in the workspace.

    Those in a temporary clone, which is a directory of the workspace, and the daemons of git, which
    hold no lock, do not count.
    """
    clones = DVC_TMP.resolve()
    return any(
        Path(word).name in programs
        for process in processes_in(Path().resolve())
        if not Path(process.info["cwd"]).is_relative_to(clones)
        if "--daemon" not in " ".join(process.info["cmdline"] or [])
        for word in [process.info["name"], *(process.info["cmdline"] or [])[:3]]
    )


def is_open(path: Path) -> bool:
    """Whether a process of this user has opened a file."""
    opened = str(path.resolve())
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(file.path == opened for file in process.open_files()):
                return True
    return False


def restore_lockfile() -> str:
    """The command that replaces a damaged dvc.lock. Without one, DVC takes runs from its cache."""
    try:
        locked_stages(git("show", f"HEAD:{LOCKFILE}"))
    except (UserError, *INVALID_CONTENT):
        return f"rm {LOCKFILE}"
    return f"git checkout HEAD {LOCKFILE}"


def is_damaged_json(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except FileNotFoundError:
        return False
    except ValueError:
        return True
    return False


def main() -> None:
    print_recovery_steps()
    for line in damaged_objects():
        print(printable(line), file=sys.stderr)


if __name__ == "__main__":
    command_line.run(main, __doc__)
