"""Checks that dvc.lock is that of the code and the parameters, without running a stage.

CI runs this first. `dvc repro` would bring a forgotten dvc.lock up to date without a word.
"""

from experiments.repository.clones import check_repository
from experiments.repository.lockfile_checks import REPAIR, changes_since_run
from experiments.repository.pipeline import raise_if_frozen, read_stages
from experiments.repository.subprocesses import git
from stages.common import command_line
from stages.common.errors import UserError
from stages.common.lockfile import LOCKFILE


def main() -> None:
    check_repository()
    raise_if_frozen(read_stages())  # `dvc status` says nothing about them
    if changes := changes_since_run():
        lines = [
            f"{LOCKFILE}: {stage} is out of date: {', '.join(paths)} changed"
            for stage, paths in changes.items()
        ]
        raise UserError("\n".join([*lines, REPAIR]))
    commit = git("rev-parse", "--short", "HEAD").strip()
    print(f"{LOCKFILE} at {commit} agrees with code and parameters")


if __name__ == "__main__":
    command_line.run(main, __doc__)
