"""Runs trials of a study on this machine, several at a time."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from experiments.repository.clones import dvc_config
from experiments.repository.dvc_experiments import Changes
from experiments.repository.temporary_directory import kill_processes_in, temporary_directory
from experiments.study.runner import FinishedTrials
from experiments.study.trial import run_trial
from stages.training.threads import MIN_THREADS, THREADS, processors


def run_locally(snapshot: Path, jobs: int | None, trials: Mapping[str, Changes]) -> FinishedTrials:
    """Runs trials on this machine, several at a time; see `runner.TrialRunner`.

    When the iterator is closed, or interrupted by a signal, the processes of its trials are ended.

    Args:
        snapshot: directory of the snapshot. Trials work in directories beside it.
        jobs: number of trials at a time; None for one per processor.
        trials: changes of params.yaml by the name of a trial.
    """
    jobs = jobs or processors()
    threads = os.environ.get(THREADS) or str(max(MIN_THREADS, processors() // jobs))
    config = dvc_config()

    def run_in_directory(name: str, changes: Changes) -> bytes:
        with temporary_directory(snapshot.parent) as directory:
            variables = {THREADS: threads}
            return run_trial(
                snapshot, directory, config, name, changes, use_remote=False, **variables
            )

    executor = ThreadPoolExecutor(jobs)
    futures = {executor.submit(run_in_directory, *trial): trial[0] for trial in trials.items()}
    try:
        for future in as_completed(futures):
            yield futures[future], future
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        # Repeated, since a thread may start another command.
        while not all(future.done() for future in futures):
            kill_processes_in(snapshot.parent)
