"""The better reader of reader.yaml as a DVC experiment, compared with HEAD's network."""

import sys
from pathlib import Path
from typing import Any

from experiments.training import settings
from stages.data.mirrors import make_mirrors_absolute
from stages.edges.bad_input import explained, no_arguments
from stages.edges.parameters import flat, read_yaml
from tools.elsewhere import run, run_experiment, workspace_copy
from tools.leftovers import name_leftovers
from tools.parameters import checked, read_parameters

NAME = "reader"
SETTINGS = Path("reader.yaml")


def main() -> None:
    make_mirrors_absolute()
    changes = settings(flat(read_settings()))
    name_leftovers()
    with workspace_copy(NAME) as clone:
        run_experiment(clone, NAME, changes)
    print(flush=True)
    compared = run(sys.executable, "-m", "experiments.compare", "HEAD", NAME, folder=Path())
    print("""
Type next: dvc exp apply reader      the better reader is the workspace's: make predict, make app
           dvc exp branch reader better-reader
                                     a branch of its own, to merge""")
    sys.exit(compared)


def read_settings() -> dict[str, dict[str, Any]]:
    """What reader.yaml changes in params.yaml, by section and key.

    Raises:
        BadInput: with a line for each fault.
    """
    read_sections()
    changes: dict[str, dict[str, Any]] = read_yaml(SETTINGS)
    return changes


def read_sections() -> dict[str, Any]:
    """The sections of params.yaml by name, with what reader.yaml changes.

    Raises:
        BadInput: with a line for each fault.
    """
    parameters = {name: section.model_dump() for name, section in read_parameters().items()}
    changes = read_yaml(SETTINGS)
    if isinstance(changes, dict):
        changes = parameters | {
            section: parameters.get(section, {}) | keys if isinstance(keys, dict) else keys
            for section, keys in changes.items()
        }
    return checked(changes, SETTINGS)


if __name__ == "__main__":
    with explained():
        no_arguments(__doc__)
        main()
