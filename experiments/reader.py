"""Trains the network of reader.yaml as a DVC experiment, and compares it with HEAD's network."""

import sys
from pathlib import Path
from typing import Any

from experiments.check_params import read_params, validate
from experiments.repository.clones import temporary_clone
from experiments.repository.dvc_experiments import run_and_import_experiment
from experiments.repository.recovery_steps import print_recovery_steps
from experiments.repository.subprocesses import CommandError, run_live
from stages.common import command_line
from stages.common.params import flatten, read_yaml
from stages.data.mirrors import make_mirrors_absolute

NAME = "reader"
SETTINGS = Path("reader.yaml")


def main() -> None:
    make_mirrors_absolute()
    changes = flatten(read_changes())
    print_recovery_steps()
    with temporary_clone(NAME) as clone:
        run_and_import_experiment(clone, NAME, changes)
    print(flush=True)
    try:
        run_live(sys.executable, "-m", "experiments.compare", "HEAD", NAME, cwd=Path())
    except CommandError:
        print("Not compared with HEAD (see above)", file=sys.stderr)
    print(f"""
This was an experiment in a temporary clone: your files are unchanged.

Type next: dvc exp apply {NAME}      use its network in the workspace: make predict, make app
           dvc exp branch {NAME} better-{NAME}
                                     make a branch of it, to merge""")


def read_changes() -> dict[str, dict[str, Any]]:
    """The parameters in reader.yaml, which replace those of params.yaml: section to key to value.

    Raises:
        UserError: a parameter is invalid; the message has a line for each error.
    """
    read_params_with_changes()
    changes: dict[str, dict[str, Any]] = read_yaml(SETTINGS)
    return changes


def read_params_with_changes() -> dict[str, Any]:
    """All sections of params.yaml by name, with the changes of reader.yaml.

    Raises:
        UserError: a parameter is invalid; the message has a line for each error.
    """
    params = {name: section.model_dump() for name, section in read_params().items()}
    changes = read_yaml(SETTINGS)
    if isinstance(changes, dict):
        changes = params | {
            name: params.get(name, {}) | keys if isinstance(keys, dict) else keys
            for name, keys in changes.items()
        }
    return validate(changes, SETTINGS)


if __name__ == "__main__":
    command_line.run(main, __doc__)
