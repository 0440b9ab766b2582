"""DVC experiments: run in a clone, exported and imported as git bundles, listed."""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.repository.cache_check import damaged_objects
from experiments.repository.subprocesses import CommandError, dvc, git, run_live
from stages.common.errors import UserError

# Parameters by name, such as train.seed, with their new values.
Changes = Mapping[str, Any]
# DVC has an experiment at refs/exps/<2 digits>/<38 digits of HEAD>/<name>.
REFERENCES = "refs/exps/*/*/*"


def run_experiment(
    clone: Path,
    name: str,
    changes: Changes,
    *,
    show_output: bool,
    allow_missing: bool,
    **variables: str,
) -> str:
    """Runs `dvc exp run` in a clone.

    Args:
        clone: directory of the clone.
        name: name of the experiment.
        changes: parameters to change in params.yaml.
        show_output: whether the output goes to the terminal.
        allow_missing: whether to skip a stage if only the data of its outputs are missing.
        variables: additional environment variables of the stages.

    Returns:
        The git reference of the experiment.

    Raises:
        CommandError: the experiment failed; the message is the last lines of the output.
        UserError: the experiment failed; the user has seen its output.
    """
    command = (
        *("exp", "run", "--name", name),
        *(["--allow-missing"] if allow_missing else []),
        *(f"--set-param={key}={hydra_value(value)}" for key, value in changes.items()),
    )
    try:
        if show_output:
            run_live(sys.executable, "-m", "dvc", *command, cwd=clone, **variables)
        else:
            dvc(*command, cwd=clone, **variables)
    except CommandError as problem:
        damaged = damaged_objects(clone)
        if not show_output:
            raise CommandError("\n".join([str(problem), *damaged])) from None
        why = f"{name}: the experiment failed; the output above says why"
        raise UserError("\n".join([why, *damaged])) from None
    return git("for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}", cwd=clone).strip()


def run_and_import_experiment(clone: Path, name: str, changes: Changes) -> None:
    """Runs an experiment in a clone, shows its output, and adds the experiment to the repository.

    Raises:
        UserError: the experiment failed; the user has seen its output.
    """
    # Without --allow-missing, which skips a stage if only the data of its outputs are missing.
    reference = run_experiment(clone, name, changes, show_output=True, allow_missing=False)
    import_experiment(export_experiment(clone, reference))


def hydra_value(value: object) -> str:
    """A value as Hydra, which `--set-param` uses, reads it: no spaces in lists."""
    return str(value).replace(" ", "")


def export_experiment(clone: Path, reference: str) -> bytes:
    """The commit of an experiment as a git bundle, which needs the commit it is based on."""
    bundle = clone / ".git/experiment.bundle"
    git("bundle", "create", "--quiet", bundle, reference, "--not", "HEAD", cwd=clone)
    return bundle.read_bytes()


def import_experiment(bundle: bytes) -> None:
    """Adds an experiment to the repository, in place of earlier ones with the same name."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(bundle)
        file.flush()
        imported = {line.split()[1] for line in git("bundle", "list-heads", file.name).splitlines()}
        git(
            *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance"),
            *(file.name, "+refs/exps/*:refs/exps/*"),
        )
    for reference in imported:
        pattern = f"refs/exps/*/*/{reference.rsplit('/', 1)[1]}"
        same_name = git("for-each-ref", "--format=%(refname)", pattern).split()
        for earlier in set(same_name) - imported:
            git("update-ref", "-d", earlier)


def list_experiments() -> dict[str, str]:
    """The commit of each experiment, by name; the newest of several with the same name."""
    lines = git(
        "for-each-ref", "--sort=committerdate", "--format=%(objectname) %(refname)", REFERENCES
    ).splitlines()
    commits = (line.split(" ", 1) for line in lines)
    return {reference.rsplit("/", 1)[1]: commit for commit, reference in commits}
