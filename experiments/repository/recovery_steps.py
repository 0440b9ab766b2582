"""Traces of killed git and DVC commands in the workspace, and how to remove them.

`dvc exp run` moves uncommitted edits into git's stash and detaches HEAD for a moment. DVC also
writes dvc.lock and its own locks in place, so that a kill may leave a part of them.
"""

import json
import shlex
import sys
from pathlib import Path

import psutil

from experiments.repository.clones import check_repository
from experiments.repository.lockfile_checks import is_damaged_lockfile
from experiments.repository.subprocesses import git
from stages.common import command_line
from stages.common.errors import printable
from stages.common.lockfile import LOCKFILE

# DVC's lists of running processes and what they do. A process removes itself when it ends.
EXPERIMENTS_LOCK = Path(".dvc/tmp/exps/rwlock")
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
    git_directories = git("rev-parse", "--git-dir", "--git-common-dir").splitlines()
    steps = [
        f"{lock}: lock of a git process. If no git or dvc is running, it is stale. "
        f"Run: rm {shlex.quote(str(lock))}"
        for directory in map(Path, dict.fromkeys(git_directories))
        for lock in (*directory.glob("*.lock"), *directory.glob("refs/**/*.lock"))
    ]
    steps += [
        f"{lock}: damaged by a kill, unless dvc is running. Run: rm {lock}"
        for lock in DVC_LOCKS
        if is_damaged_json(lock)
    ]
    if git("ls-files", "--unmerged", LOCKFILE):
        steps.append(
            f"{LOCKFILE}: merge conflict. Run: git checkout --theirs {LOCKFILE}, then make repro"
        )
    elif is_damaged_lockfile():
        steps.append(f"{LOCKFILE}: damaged, as by a kill. Run: git checkout {LOCKFILE}")
    stash = git("for-each-ref", "--format=%(subject)", "refs/stash").strip()
    if stash.startswith("WIP on ") and (is_experiment_killed() or is_head_at_stash()):
        branch = stash.removeprefix("WIP on ").split(":")[0]
        steps.append(
            f"git stash: dvc exp run was killed while your edits of {branch} were in the stash. "
            "See them: git stash show -p. Restore them, and lose edits since then: "
            f"git checkout --force {shlex.quote(branch)} && git stash pop"
        )
    return steps


def is_damaged_json(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except FileNotFoundError:
        return False
    except ValueError:
        return True
    return False


def is_experiment_killed() -> bool:
    """Whether a process in DVC's list of running experiments does not exist."""
    try:
        entries = json.loads(EXPERIMENTS_LOCK.read_text())["write"].values()
        return not all(psutil.pid_exists(entry["pid"]) for entry in entries)
    except (FileNotFoundError, ValueError, LookupError, AttributeError, TypeError):
        return False


def is_head_at_stash() -> bool:
    """Whether HEAD is detached at the commit that the newest stash is based on."""
    is_detached = not git("branch", "--show-current").strip()
    return is_detached and git("rev-parse", "stash^") == git("rev-parse", "HEAD")


if __name__ == "__main__":
    command_line.run(print_recovery_steps, __doc__)
