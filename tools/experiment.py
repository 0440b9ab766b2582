"""An experiment of DVC in this folder, without the hints that `dvc exp run` ends with.

It is a process of its own, in a clone: python -m tools.experiment NAME download.dataset=mnist-5k
"""

import argparse

from dvc.exceptions import DvcException
from dvc.repo import Repo
from scmrepo.exceptions import SCMError

from stages.edges.bad_input import BadInput, explained


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.experiment", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("changes", nargs="*", help="of params.yaml, such as train.epochs=3")
    options = parser.parse_args()
    try:
        # What it says of stages is logged; dvc.ui, which would write the hints, is off by default.
        with Repo() as repo:
            repo.experiments.run(name=options.name, params=options.changes)
    except (DvcException, SCMError) as problem:
        raise BadInput(str(problem)) from None


if __name__ == "__main__":
    with explained():
        main()
