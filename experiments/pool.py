"""Trains the experiments of a study on this machine, several at a time."""

import os
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Event
from typing import Any

from experiments.scratch import Failed
from experiments.training import Snapshot, train
from experiments.workspace import workspace_place
from stages.training.threads import FEWEST, THREADS, processors

# Trainings at a time: one for each processor. While one starts, another computes.
JOBS = processors()


def train_all(
    snapshot: Snapshot, wanted: Mapping[str, Mapping[str, Any]], jobs: int
) -> Generator[tuple[str, bytes | Failed], None, None]:
    """Trains experiments, and gives each as soon as it is done.

    When whoever takes them goes away, by Ctrl-C too, the trainings that run are ended.

    Args:
        snapshot: of the workspace.
        wanted: for each experiment's name, what it changes in params.yaml.
        jobs: how many to train at a time.

    Yields:
        An experiment's name, and its bundle or why it has failed.
    """
    threads = os.environ.get(THREADS) or str(max(FEWEST, processors() // jobs))
    place = workspace_place({THREADS: threads})
    stop = Event()
    with ThreadPoolExecutor(jobs) as executor:
        names = {
            executor.submit(train, snapshot, name, changes, place, stop): name
            for name, changes in wanted.items()
        }
        try:
            for future in as_completed(names):
                problem = future.exception()
                yield names[future], problem if isinstance(problem, Failed) else future.result()
        finally:
            stop.set()
            executor.shutdown(cancel_futures=True)
