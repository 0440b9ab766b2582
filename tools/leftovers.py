"""What a killed command of DVC leaves in the workspace, and what to do about it.

While DVC begins an experiment, uncommitted edits are in git's stash and HEAD is detached. And it
writes its locks and dvc.lock in place, so that a kill may cut them short; it runs nothing then.
"""

import json
import sys
from pathlib import Path

import psutil

from experiments.recipes import LOCK, git
from stages.edges.bad_input import BadInput, explained, no_arguments, printable
from stages.edges.parameters import read_yaml

# Which process of DVC does what; the process takes itself out when it ends.
EXPERIMENTS_LOCK = Path(".dvc/tmp/exps/rwlock")
LOCKS = (Path(".dvc/tmp/rwlock"), EXPERIMENTS_LOCK)


def name_leftovers() -> None:
    """Prints a line for each thing that is left, with what mends it."""
    for line in leftovers():
        print(line, file=sys.stderr)


def leftovers() -> list[str]:
    repository = map(Path, git("rev-parse", "--git-dir", "--git-common-dir").splitlines())
    lines = [
        f"{lock} is there: unless git or dvc runs, it is left of a kill; remove it"
        for folder in dict.fromkeys(repository)
        for lock in (*folder.glob("*.lock"), *folder.glob("refs/**/*.lock"))
    ]
    lines += [
        f"{lock} is damaged: unless dvc runs, it was cut short by a kill; remove it"
        for lock in LOCKS
        if is_cut_short(lock)
    ]
    record = Path(LOCK)
    if record.exists() and not is_record(record) and not git("ls-files", "--unmerged", LOCK):
        lines.append(f"{LOCK} is damaged, as by a kill; git checkout {LOCK} brings it back")
    stash = git("for-each-ref", "--format=%(subject)", "refs/stash").strip()
    if stash.startswith("WIP on ") and (killed() or head_is_where_the_stash_was_made()):
        branch = printable(stash.removeprefix("WIP on ").split(":")[0])
        lines.append(
            f"dvc exp run was killed while it had set edits of {branch} aside. git stash show -p "
            f"shows them; git checkout --force {branch} (which drops what was edited since) and "
            "git stash pop bring them back"
        )
    return lines


def is_cut_short(lock: Path) -> bool:
    try:
        json.loads(lock.read_text())
    except FileNotFoundError:
        return False
    except ValueError:
        return True
    return False


def is_record(path: Path) -> bool:
    """Whether DVC would read a dvc.lock at all."""
    try:
        content = read_yaml(path)
    except BadInput:
        return False
    return isinstance(content, dict) and "schema" in content


def killed() -> bool:
    """Whether a process of DVC has gone without taking itself out of DVC's lock."""
    try:
        entries = json.loads(EXPERIMENTS_LOCK.read_text())["write"].values()
        return not all(psutil.pid_exists(entry["pid"]) for entry in entries)
    except (FileNotFoundError, ValueError, LookupError, AttributeError, TypeError):
        return False


def head_is_where_the_stash_was_made() -> bool:
    """Whether HEAD is detached at the commit that the newest stash is based on."""
    detached = not git("branch", "--show-current").strip()
    return detached and git("rev-parse", "stash^") == git("rev-parse", "HEAD")


if __name__ == "__main__":
    with explained():
        no_arguments(__doc__)
        name_leftovers()
