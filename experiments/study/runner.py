"""Search for the trials that exist, retries of those that fail, and a thread pool."""

import os
import sys
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from experiments.repository.clones import dvc_config
from experiments.repository.experiments import Changes, experiments, import_experiment
from experiments.repository.temporary import kill_processes_in, temporary_directory
from experiments.study.grid import Trial
from experiments.study.trial import run_trial
from stages.common.errors import UserError, printable
from stages.common.progress import Progress
from stages.training.threads import MIN_THREADS, THREADS, processors

ATTEMPTS = 3
RETRY_DELAY_S = (
    10  # before the second attempt, twice that before the third: memory may be free then
)
# Runs trials, given by name, and yields each when it is done. Its future has the experiment as a
# git bundle, or a UserError.
Results = Generator[tuple[str, Future[bytes]], None, None]
Run = Callable[[Mapping[str, Changes]], Results]


def get_or_run(label: str, trials: Mapping[str, Trial], run: Run) -> dict[str, str]:
    """Returns the experiments of trials, after running those that do not exist.

    Args:
        label: of the trials, for messages.
        trials: by name.
        run: runs trials; called only if some do not exist.

    Returns:
        The commit of each trial by its name, in their order, without those that failed in all
        ATTEMPTS.
    """
    commits = experiments()
    missing = {name: trial.changes for name, trial in trials.items() if name not in commits}
    existing = len(trials) - len(missing)
    print(f"{label}: {existing} of {len(trials)} are there, {len(missing)} to train", flush=True)
    messages: dict[str, str] = {}
    for attempt in range(ATTEMPTS):
        if not missing:
            break
        time.sleep(attempt * RETRY_DELAY_S)
        missing = {name: missing[name] for name in run_and_import(missing, run, messages)}
    commits = experiments()
    return {name: commits[name] for name in trials if name in commits}


def run_and_import(trials: Mapping[str, Changes], run: Run, messages: dict[str, str]) -> list[str]:
    """Runs trials and adds the experiments to the workspace; shows progress and errors.

    Args:
        trials: changes of params.yaml by the name of a trial.
        run: runs them.
        messages: the last error message of each trial; a message is shown once.

    Returns:
        The names of those that failed.
    """
    failed = []
    with (
        Progress("study", len(trials), " trainings") as progress,
        closing(run(trials)) as finished,
    ):
        for count, (name, future) in enumerate(finished, 1):
            try:
                import_experiment(future.result())
            except UserError as error:
                failed.append(name)
                if messages.get(name) != str(error):
                    messages[name] = str(error)
                    show_error(name, str(error))
            progress.advance(1)
            progress.step(f"{count - len(failed)} of {len(trials)} trained, {len(failed)} failed")
    return failed


def show_error(name: str, output: str) -> None:
    """Prints the error of a trial on stderr, beside a progress bar if there is one."""
    lines = [f"    {printable(line)}" for line in output.split("\n")]
    tqdm.write("\n".join([f"{name} has failed:", *lines]), file=sys.stderr)


def run_locally(snapshot: Path, jobs: int, trials: Mapping[str, Changes]) -> Results:
    """Runs trials on this machine, several at a time; see `Run`.

    When the iterator is closed, or interrupted by a signal, the processes of its trials are ended.

    Args:
        snapshot: directory of the snapshot. Trials work in directories beside it.
        jobs: number of trials at a time.
        trials: changes of params.yaml by the name of a trial.
    """
    threads = os.environ.get(THREADS) or str(max(MIN_THREADS, processors() // jobs))
    config = dvc_config()

    def run_in_directory(name: str, changes: Changes) -> bytes:
        with temporary_directory(snapshot.parent) as directory:
            return run_trial(
                snapshot, directory, config, False, name, changes, **{THREADS: threads}
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
