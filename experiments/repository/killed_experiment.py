"""Advice after `dvc exp run` was killed: a detached HEAD, and edits left in a stash.

The command stashes uncommitted edits and detaches HEAD while it prepares the experiment, then
applies the edits again, and detaches HEAD while it runs the stages.
"""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from experiments.repository.clones import has_changes
from experiments.repository.subprocesses import CommandError, git

# DVC's list of the parts of an experiment that a process works on. It removes them when it is done.
EXPERIMENTS_LOCK = Path(".dvc/tmp/exps/rwlock")
PREPARING, APPLYING = "workspace", "refs/exps/exec"  # two of these parts
EXPERIMENT_PROCESS = Path(".dvc/tmp/exps/run/workspace/workspace.json")  # has its pid
# References that exist while an experiment runs: its first commit, and the edits with its changes.
BASELINE, EDITS = "refs/exps/exec/EXEC_BASELINE", "refs/exps/exec/EXEC_MERGE"
DVC_COMMIT = "dvc: commit experiment "  # beginning of the message
DETACHED = "checkout: moving from "  # beginning of an entry of HEAD's log


def killed_experiment() -> str | None:
    """A line about a killed `dvc exp run`, with a command that loses no edit, or None.

    There is none without a trace of DVC: a detached HEAD and a stash may be the user's.
    """
    parts = {part: is_running(process) for part, process in locked_parts()}
    if any(parts.values()) or is_running(read_json(EXPERIMENT_PROCESS)):
        return None
    has_run = bool(git("for-each-ref", BASELINE))
    is_detached = not git("branch", "--show-current").strip()
    found, commands = [], []
    if is_detached and (has_run or parts) and (branch := previous_branch()):
        found.append(f"HEAD is not on {branch}")
        commands.append(attach_head(branch))
    if stash := stash_of_dvc(parts):
        found.append("edits are in a stash")
        if has_changes():  # git would refuse to apply others
            commands.append("git stash")
        position = "stash@{1}" if has_changes() else "stash@{0}"
        commands.append(
            f"git stash apply {stash}" if stash == EDITS else f"git stash pop {position}"
        )
    if not found:
        return None
    if has_run:
        commands.append(f"git update-ref -d {BASELINE}")
    if parts:
        commands.append(f"rm -f {EXPERIMENTS_LOCK}")
    show = f" See them: git stash show -p {stash}." if stash else ""
    return (
        f"dvc exp run was killed: {' and '.join(found)}.{show} "
        f"This loses no edit. Run: {' && '.join(commands)}"
    )


def locked_parts() -> Iterator[tuple[str, Any]]:
    """Yields parts of an experiment, each with DVC's data about the process that has locked it."""
    try:
        yield from json.loads(EXPERIMENTS_LOCK.read_text()).get("write", {}).items()
    except FileNotFoundError:
        return
    except (ValueError, AttributeError):  # half written
        yield from ((part, None) for part in (PREPARING, APPLYING))


def read_json(path: Path) -> Any:
    """The content of a JSON file, or None if it is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def is_running(process: Any) -> bool:
    """Whether a process of DVC exists, given DVC's data about it."""
    try:
        return "dvc" in " ".join(psutil.Process(process["pid"]).cmdline())
    except psutil.AccessDenied:
        return True
    except (psutil.Error, LookupError, TypeError, ValueError):
        return False


def previous_branch() -> str | None:
    """The branch on which HEAD was before it was detached, if it was on one that exists."""
    for entry in git("log", "--walk-reflogs", "--format=%gs", "HEAD", "--").splitlines():
        if entry.startswith(DETACHED):
            branch = entry.removeprefix(DETACHED).rsplit(" to ", 1)[0]
            return branch if git("for-each-ref", f"refs/heads/{branch}") else None
    return None


def attach_head(branch: str) -> str:
    """The command that puts HEAD on a branch again and changes no file."""
    subject = git("log", "-1", "--format=%s").strip()
    has_commits = git("rev-list", f"refs/heads/{branch}..HEAD")
    if has_commits and not subject.startswith(DVC_COMMIT):  # the user's, since the kill
        return f"git checkout -B {shlex.quote(branch)}"
    return f"git symbolic-ref HEAD {shlex.quote(f'refs/heads/{branch}')}"


def stash_of_dvc(parts: dict[str, bool]) -> str | None:
    """The stash that has the user's edits: git's newest one, or DVC's own reference."""
    if PREPARING in parts:
        time = git("for-each-ref", "--format=%(committerdate:unix)", "refs/stash").strip()
        # An older one is the user's.
        if time and int(time) >= int(EXPERIMENTS_LOCK.stat().st_mtime):
            return "refs/stash"
    if APPLYING in parts and git("for-each-ref", EDITS):
        try:
            git("diff", "--quiet", EDITS)
        except CommandError:
            return EDITS
    return None
