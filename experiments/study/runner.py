"""Runs the missing trials of a study, and retries failed ones."""

import sys
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from contextlib import closing

from tqdm import tqdm

from experiments.repository.dvc_experiments import Changes, import_experiment, list_experiments
from experiments.study.grid import Trial
from stages.common.errors import UserError, printable
from stages.common.progress import Progress

ATTEMPTS = 3
# Multiplied by the number of the attempt. A trial that ran out of memory may fit later.
RETRY_DELAY_S = 10
# Yields each finished trial: its name, and a future with its git bundle or a UserError.
FinishedTrials = Generator[tuple[str, Future[bytes]], None, None]
# Runs trials on this machine or on a cluster: changes of params.yaml by the name of a trial.
TrialRunner = Callable[[Mapping[str, Changes]], FinishedTrials]


def get_or_run(label: str, trials: Mapping[str, Trial], run_trials: TrialRunner) -> dict[str, str]:
    """Returns the experiments of trials, after running those that do not exist.

    Args:
        label: name of this group of trials, for messages.
        trials: by name.
        run_trials: called only if some do not exist.

    Returns:
        The commit of each trial by its name, in their order, without those that failed in all
        ATTEMPTS.
    """
    commits = list_experiments()
    missing = {name: trial.changes for name, trial in trials.items() if name not in commits}
    existing = len(trials) - len(missing)
    print(f"{label}: {existing} of {len(trials)} exist, {len(missing)} to train", flush=True)
    messages: dict[str, str] = {}
    for attempt in range(ATTEMPTS):
        if not missing:
            break
        time.sleep(attempt * RETRY_DELAY_S)
        missing = {name: missing[name] for name in run_and_import(missing, run_trials, messages)}
    commits = list_experiments()
    return {name: commits[name] for name in trials if name in commits}


def run_and_import(
    trials: Mapping[str, Changes], run_trials: TrialRunner, messages: dict[str, str]
) -> list[str]:
    """Runs trials and adds the experiments to the workspace; shows progress and errors.

    Args:
        trials: changes of params.yaml by the name of a trial.
        run_trials: runs them.
        messages: the last error message of each trial; a message is shown once.

    Returns:
        The names of those that failed.
    """
    failed = []
    with (
        Progress("study", len(trials), " trials") as progress,
        closing(run_trials(trials)) as finished,
    ):
        for count, (name, future) in enumerate(finished, 1):
            try:
                bundle = future.result()
            except UserError as error:
                failed.append(name)
                if messages.get(name) != str(error):
                    messages[name] = str(error)
                    show_error(name, str(error))
            else:
                import_experiment(bundle)
            progress.advance(1)
            progress.step(f"{count - len(failed)} of {len(trials)} trained, {len(failed)} failed")
    return failed


def show_error(name: str, output: str) -> None:
    """Prints the error of a trial on stderr, beside a progress bar if there is one."""
    lines = [f"    {printable(line)}" for line in output.split("\n")]
    tqdm.write("\n".join([f"{name} has failed:", *lines]), file=sys.stderr)
