"""Queues experiments with DVC and starts its workers, all in one process: a `dvc` takes a second.

    python -m experiments.queueing 2 'wider model.hidden_units=[512]' 'longer train.epochs=20'

A process of its own all the same, as queueing changes params.yaml and back again, which nothing
must interrupt.
"""

import sys

from dvc.exceptions import DvcException
from dvc.repo import Repo

from experiments.tasks import count_workers


def main() -> None:
    jobs, *experiments = sys.argv[1:]
    wanted = {name: params for name, *params in map(str.split, experiments)}
    with Repo() as repo:
        queue = repo.experiments.celery_queue
        # Of a study that was killed.
        there = {entry.name for entry in (*queue.iter_queued(), *queue.iter_active())}
        ended = {done.entry.name for done in queue.iter_done()} & wanted.keys() - there
        if ended:
            # DVC refuses no second task of one name, and would show both.
            queue.remove(ended)
    for name, params in wanted.items():
        if name not in there:
            # Opened anew, as it remembers what the files held.
            with Repo() as repo:
                repo.experiments.run(queue=True, name=name, params=params)
    # Not before: to queue a task and to begin one DVC takes the same lock, and waits for neither.
    with Repo() as repo:
        queue = repo.experiments.celery_queue
        if count_workers(queue) < int(jobs):
            queue.start_workers(int(jobs))


if __name__ == "__main__":
    try:
        main()
    except DvcException as problem:
        sys.exit(str(problem))
