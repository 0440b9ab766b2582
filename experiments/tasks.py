"""DVC's queue: asks it for experiments, and looks after them until they are there.

DVC's workers are processes of their own. They run what is queued, whoever queued it, and end
ten seconds after the last. Its queue is reported to lose tasks now and then (DVC's issues
10562 and 10673), so what counts is which experiments have come, not what the queue says.
"""

import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

import psutil

from stages.parts.bad_input import BadInput, Terminated
from stages.parts.progress import Progress

SECONDS_BETWEEN_LOOKS = 2
# A worker that is starting, or has no processor for a while, does not answer at once.
PATIENT_LOOKS = 5


def carry_out(wanted: Mapping[str, Mapping[str, Any]], jobs: int) -> None:
    """Has the queue run experiments, and returns when it has none of them left.

    Those that it has already, of a study that was killed, are not queued again. Ctrl-C and
    SIGTERM take them all from the queue, those that are running too; tasks of other names
    are never touched.

    Args:
        wanted: for each experiment's name, what it changes in params.yaml.
        jobs: workers, each of which runs one experiment at a time.
    """
    before = states(wanted)
    try:
        # DVC refuses no second task of one name, and would show both.
        ended = [name for name, state in before.items() if state in ("Success", "Failed")]
        if ended:
            dvc("queue", "remove", *ended)
        for name, changes in wanted.items():
            if before.get(name) not in ("Queued", "Running"):
                dvc("exp", "run", "--queue", "--name", name, *settings(changes))
        with Progress("study", len(wanted), " trainings") as progress:
            watch(wanted, jobs, progress)
    except (KeyboardInterrupt, Terminated):
        withdraw(wanted)
        raise


def watch(names: Collection[str], jobs: int, progress: Progress) -> None:
    """Keeps the workers at work until no experiment of these names is queued or running."""
    dvc("queue", "start", "--jobs", str(jobs))
    told: Counter[str] = Counter()
    few_workers = 0
    unattended: Counter[str] = Counter()
    while True:
        now = states(names)
        counts = Counter(now.values())
        progress.advance(counts["Success"] - told["Success"])
        if counts != told:
            progress.step(
                f"{counts['Success']} of {len(names)} trained, {counts['Running']} running, "
                f"{counts['Failed']} failed"
            )
            told = counts
        if not counts["Queued"] + counts["Running"]:
            return

        workers = working_on()
        few_workers = few_workers + 1 if counts["Queued"] and len(workers) < jobs else 0
        if few_workers > PATIENT_LOOKS:
            dvc("queue", "start", "--jobs", str(jobs))
            few_workers = 0
        attended = {name for tasks in workers.values() for name in tasks}
        for name, state in now.items():
            lost = state == "Running" and name not in attended
            unattended[name] = unattended[name] + 1 if lost else 0
            if unattended[name] > PATIENT_LOOKS:
                # Its worker was killed. To the queue it would be running for ever.
                stop([name])
        time.sleep(SECONDS_BETWEEN_LOOKS)


def withdraw(names: Iterable[str]) -> None:
    """Takes the experiments of these names from the queue, and stops those that are running."""
    queued = [name for name, state in states(names).items() if state == "Queued"]
    if queued:
        dvc("queue", "remove", *queued)
    for _ in range(PATIENT_LOOKS):
        running = [name for name, state in states(names).items() if state == "Running"]
        if not running:
            break
        stop(running)
        time.sleep(SECONDS_BETWEEN_LOOKS)


def stop(names: Collection[str]) -> None:
    """Ends running experiments, which then have failed."""
    from dvc.repo import Repo

    with Repo() as repo:
        queue = repo.experiments.celery_queue
        processes = [
            queue.proc.get(task.stash_rev) for task in queue.iter_active() if task.name in names
        ]
    # While a stage runs, DVC does not listen to what `dvc queue kill` tells it.
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True) if process else []:
                child.terminate()
    with suppress(BadInput):  # they have ended by now
        dvc("queue", "kill", *names)


def states(names: Iterable[str]) -> dict[str, str]:
    """What the queue says of each experiment: Queued, Running, Failed or Success.

    Those that it does not know are left out. In this process, as a `dvc queue status` every
    other second would take a fifth of a processor from the training.
    """
    from dvc.repo import Repo

    wanted = set(names)
    with Repo() as repo:
        tasks = repo.experiments.celery_queue.status()
    return {task["name"]: task["status"] for task in tasks if task["name"] in wanted}


def working_on() -> dict[str, list[str]]:
    """For each worker that answers, the names of the experiments it is running."""
    from dvc.repo import Repo

    with Repo() as repo:
        workers = repo.experiments.celery_queue.worker_status()
    return {
        worker: [task["args"][0]["name"] for task in tasks] for worker, tasks in workers.items()
    }


def settings(changes: Mapping[str, Any]) -> list[str]:
    """The options of `dvc exp run` that change these parameters."""
    return [f"--set-param={key}={str(value).replace(' ', '')}" for key, value in changes.items()]


def dvc(*arguments: str) -> None:
    """Runs a command of DVC to its end, whatever happens meanwhile.

    Raises:
        BadInput: it failed; the message is DVC's.
    """
    # A session of its own, as queueing changes params.yaml and back again, and Ctrl-C must not
    # reach that. A file, no pipe, as the workers it starts would hold a pipe open.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        process = subprocess.Popen(
            ["dvc", *arguments], stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status = process.wait()
        except BaseException:
            process.wait()
            raise
        if status:
            output.seek(0)
            raise BadInput(f"dvc {' '.join(arguments)} failed:\n{output.read().strip()}")
