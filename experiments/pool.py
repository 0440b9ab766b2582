"""Trains the experiments of a study on this machine, several at a time."""

import os
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from queue import SimpleQueue
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
    shares: SimpleQueue[set[int]] = SimpleQueue()
    for share in shared_out(processors_here(), jobs):
        shares.put(share)
    with ThreadPoolExecutor(jobs, initializer=keep_to_a_share, initargs=(shares,)) as executor:
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


def shared_out(numbers: list[int], jobs: int) -> list[set[int]]:
    """For each of so many trainings the numbers of its processors, of one at least."""
    return [set(numbers[job::jobs]) or {numbers[job % len(numbers)]} for job in range(jobs)]


def keep_to_a_share(shares: "SimpleQueue[set[int]]") -> None:
    """Has this thread, and what it starts, use processors of its own.

    Trainings whose threads wait for each other across all processors take longer.
    """
    if hasattr(os, "sched_setaffinity"):  # Linux
        os.sched_setaffinity(0, shares.get())


def processors_here() -> list[int]:
    """The numbers of the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(processors()))
