"""DVC's queue: asks it for experiments, and looks after them until they are there.

DVC's workers are processes of their own. They run what is queued, whoever queued it, and end
ten seconds after the last. Its queue is reported to lose tasks now and then (DVC's issues
10562 and 10673), so what counts is which experiments have come, not what the queue says.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from stages.edges.bad_input import BadInput, Terminated
from stages.edges.progress import Progress

SECONDS_BETWEEN_LOOKS = 1
# A worker takes a while to start, and a task to begin and to be collected.
PATIENT_LOOKS = 10


class Look(NamedTuple):
    """What is seen of the experiments looked for.

    Attributes:
        queued: names of those that wait in the queue.
        running: names of those that a worker has taken and is not done with; it may still have
            to put away some that are there already.
        there: names of those that have results in git.
        workers: how many are alive, whatever they run.
        unattended: names of running experiments that have no process and, since the queue has
            more running than there are workers, perhaps no worker either: it was killed.
    """

    queued: set[str]
    running: set[str]
    there: set[str]
    workers: int
    unattended: set[str]


def carry_out(wanted: Mapping[str, Mapping[str, Any]], jobs: int) -> None:
    """Has the queue run experiments, and returns when it has none of them left.

    Those that it has already, of a study that was killed, are not queued again. Ctrl-C and
    SIGTERM take them all from the queue, those that are running too; tasks of other names
    are never touched.

    Args:
        wanted: for each experiment's name, what it changes in params.yaml.
        jobs: workers, each of which runs one experiment at a time.
    """
    experiments = [" ".join([name, *settings(changes)]) for name, changes in wanted.items()]
    try:
        run(sys.executable, "-m", "experiments.queueing", str(jobs), *experiments)
        with Progress("study", len(wanted), " trainings") as progress:
            watch(wanted, jobs, progress)
    except (KeyboardInterrupt, Terminated):
        withdraw(wanted)
        raise


def watch(names: Collection[str], jobs: int, progress: Progress) -> None:
    """Keeps the workers at work until no experiment of these names is queued or running."""
    told = ""
    trained = 0
    few_workers = 0
    unattended: Counter[str] = Counter()
    while True:
        now = look(names)
        progress.advance(len(now.there) - trained)
        trained = len(now.there)
        running = len(now.running - now.there)
        failed = len(names) - len(now.there | now.queued | now.running)
        tell = f"{trained} of {len(names)} trained, {running} running, {failed} failed"
        if tell != told:
            progress.step(tell)
            told = tell
        if not now.queued | now.running:
            return

        few_workers = few_workers + 1 if now.queued and now.workers < jobs else 0
        if few_workers > PATIENT_LOOKS:
            dvc("queue", "start", "--jobs", str(jobs))
            few_workers = 0
        unattended = Counter({name: unattended[name] + 1 for name in now.unattended})
        for name, looks in unattended.items():
            if looks > PATIENT_LOOKS:
                # To the queue it would be running for ever.
                stop({name})
        time.sleep(SECONDS_BETWEEN_LOOKS)


def withdraw(names: Iterable[str]) -> None:
    """Takes the experiments of these names from the queue, and stops those that are running."""
    for _ in range(PATIENT_LOOKS):
        now = look(names)
        if now.queued:
            with suppress(BadInput):  # a worker has taken one of them by now
                dvc("queue", "remove", *now.queued)
        elif now.running:
            stop(now.running)
            time.sleep(SECONDS_BETWEEN_LOOKS)
        else:
            return
    print("Some are still in DVC's queue; see dvc queue status", file=sys.stderr)


def stop(names: Collection[str]) -> None:
    """Ends running experiments, which then have failed."""
    from dvc.repo import Repo

    with Repo() as repo:
        queue = repo.experiments.celery_queue
        processes = [
            queue.proc.get(task.stash_rev) for task in queue.iter_active() if task.name in names
        ]
    # While a stage runs, DVC does not listen to what `dvc queue kill` tells it. When the stage
    # has ended it clears away its folder, so it is left alive.
    for process in filter(None, processes):
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                child.terminate()
    with suppress(BadInput):  # they have ended by now
        dvc("queue", "kill", *names)


def look(names: Iterable[str]) -> Look:
    """Looks for the experiments of these names.

    In this process, as a `dvc queue status` every second would take half a processor from the
    training.
    """
    from dvc.repo import Repo
    from dvc.repo.experiments.utils import exp_refs

    wanted = set(names)
    with Repo() as repo:
        queue = repo.experiments.celery_queue
        # In the order in which an experiment comes by, lest one that moves on is seen nowhere.
        queued = {entry.name for entry in queue.iter_queued()}
        processes = {entry.name: queue.proc.get(entry.stash_rev) for entry in queue.iter_active()}
        there = {experiment.name for experiment in exp_refs(repo.scm)}
        workers = count_workers(queue)
    running = wanted & processes.keys()
    unattended = {
        name
        for name in running
        if not ((process := processes[name]) and is_alive(process.pid, "exec-run"))
    }
    return Look(
        (wanted & queued) - running,
        running,
        wanted & there,
        workers,
        unattended if len(processes) > workers else set(),
    )


def count_workers(queue: Any) -> int:
    """How many workers of DVC's queue are alive.

    By their processes, as a worker that is asked has one second to answer, by files that it looks
    for once a second.
    """
    return sum(
        is_alive(json.loads(path.read_text())["pid"], "queue-worker")
        for path in Path(queue.wdir).glob("dvc-exp-worker-*.json")
    )


def is_alive(pid: int, word: str) -> bool:
    """Whether there is a process with this number, and the word is in its command line."""
    with suppress(psutil.Error):
        return word in psutil.Process(pid).cmdline()
    return False


def settings(changes: Mapping[str, Any]) -> list[str]:
    """Changes of params.yaml as `dvc exp run --set-param` takes them."""
    return [f"{key}={str(value).replace(' ', '')}" for key, value in changes.items()]


def dvc(*arguments: str) -> None:
    run("dvc", *arguments)


def run(*command: str) -> None:
    """Runs a command to its end, whatever happens meanwhile.

    Raises:
        BadInput: it failed; the message is the command's.
    """
    # A session of its own, which Ctrl-C does not reach. A file, no pipe, as the workers that it
    # starts would hold a pipe open.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status = process.wait()
        except BaseException:
            process.wait()
            raise
        if status:
            output.seek(0)
            what = " ".join([Path(command[0]).name, *command[1:3]])
            raise BadInput(f"{what} failed:\n{output.read().strip()}")
