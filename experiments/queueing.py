"""Queues experiments with DVC, all in one process: `dvc exp run --queue` takes a second for each.

    python -m experiments.queueing 'wider model.hidden_units=[512]' 'longer train.epochs=20'

A process of its own all the same, as queueing changes params.yaml and back again, which nothing
must interrupt.
"""

import sys

from dvc.exceptions import DvcException
from dvc.repo import Repo


def main() -> None:
    for argument in sys.argv[1:]:
        name, *params = argument.split()
        # Opened anew, as it remembers what the files held.
        with Repo() as repo:
            repo.experiments.run(queue=True, name=name, params=params)


if __name__ == "__main__":
    try:
        main()
    except DvcException as problem:
        sys.exit(str(problem))
