"""Trains the experiments of a study on the nodes of a Ray cluster.

Code and results travel as git bundles through Ray, data and models through DVC's remote. What a
node or a worker was at when it died Ray runs again on another.
"""

import io
import logging
import os
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import platformdirs
from packaging.requirements import Requirement

# To be turned away should not take 20 seconds. It is read at the import.
os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "3")
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from experiments import scratch, training
from experiments.scratch import Failed
from experiments.training import Place, Snapshot, fetch, train
from experiments.workspace import configuration
from stages.edges.bad_input import ENDING, BadInput, Terminated, heeded
from stages.training.threads import FEWEST, THREADS

ADDRESS = "RAY_ADDRESS"
WORDS_OF_RAY = Path(".dvc/tmp/ray.log")
REQUIREMENTS = Path("requirements.txt")
SECONDS_TO_ANSWER = 3
DEATHS = 3  # of a training's node or worker, after which it is given up

# The nodes have no copy of the project: what they call of these modules goes there as a whole.
for module in (scratch, training, sys.modules[__name__]):
    ray.cloudpickle.register_pickle_by_value(module)


class OnNodes(NamedTuple):
    """What Ray keeps for the nodes, so that it goes to each of them once."""

    snapshot: Any
    packages: list[str]
    variables: dict[str, str]


def sent_to_nodes(snapshot: Snapshot) -> OnNodes:
    """Has each node fetch the data, which shows whether it can do what it will be asked to.

    Raises:
        BadInput: one has other packages, or cannot reach the remote; or there are none.
    """
    sent = OnNodes(
        ray.put(snapshot),
        pinned(REQUIREMENTS.read_text(encoding="utf-8")),
        # Ray gives each training a processor; with one thread it would have other bits.
        {THREADS: os.environ.get(THREADS) or str(FEWEST)},
    )
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    if not nodes:
        raise BadInput(f"{ADDRESS}: no node of this cluster offers a processor to Ray")
    tasks = [
        ray.remote(
            num_cpus=0,
            max_retries=DEATHS,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=True),
        )(prepare_node).remote(*sent)
        for node in nodes
    ]
    problems = [
        f"Node {node['NodeManagerAddress']} ({node['NodeManagerHostname']}): {problem}"
        for node, task in zip(nodes, tasks, strict=True)
        if (problem := answer(task))
    ]
    if problems:
        raise BadInput("\n".join(problems))
    return sent


def train_all(
    sent: OnNodes, wanted: Mapping[str, Mapping[str, Any]], jobs: int | None
) -> Generator[tuple[str, bytes | Failed], None, None]:
    """Trains experiments on the nodes, and gives each as soon as it is done.

    Args:
        sent: the workspace's snapshot.
        wanted: for each experiment's name, what it changes in params.yaml.
        jobs: how many to train at a time at most; None for one on each processor that the nodes
            have offered to Ray.

    Yields:
        An experiment's name, and its bundle or why it has failed.
    """
    task = ray.remote(num_cpus=1, max_retries=DEATHS)(train_on_node)
    waiting = deque(wanted.items())
    running: dict[Any, str] = {}
    while waiting or running:
        while waiting and (jobs is None or len(running) < jobs):
            name, changes = waiting.popleft()
            running[task.remote(*sent, name, dict(changes))] = name
        (done,), _ = ray.wait(list(running))
        given = answer(done)
        yield running.pop(done), Failed(given) if isinstance(given, str) else given


def answer(task: Any) -> Any:
    """What a task has given back, or what has kept it from that."""
    try:
        return ray.get(task)
    except ray.exceptions.RayError as problem:
        # Of its words the first line: the rest are traces of Ray's processes.
        words = str(getattr(problem, "cause", None) or problem).strip()
        return words.split("\n")[0]


def train_on_node(
    snapshot: Snapshot,
    packages: Sequence[str],
    variables: Mapping[str, str],
    name: str,
    changes: Mapping[str, Any],
) -> bytes | str:
    """The experiment's bundle, or why it has failed; of an exception Ray would print the trace."""
    # A node may have joined the cluster since the others were asked.
    if others := differences(packages):
        return others
    try:
        return train(snapshot, name, changes, place_on_node(variables))
    except Failed as problem:
        return str(problem)


def prepare_node(snapshot: Snapshot, packages: Sequence[str], variables: Mapping[str, str]) -> str:
    """Brings the data into the cache of this node; what keeps it from that, or nothing."""
    if others := differences(packages):
        return others
    try:
        fetch(snapshot, place_on_node(variables))
    except Failed as problem:
        return f"the data cannot be had from the remote:\n{problem}"
    return ""


def place_on_node(variables: Mapping[str, str]) -> Place:
    """Where a node trains: beside a cache of its own, in the folder for caches of its user."""
    folder = Path(platformdirs.user_cache_path("mnist-study"))
    return Place(folder / "trainings", folder / "cache", True, variables)


def pinned(requirements: str) -> list[str]:
    """The packages of a requirements.txt with their releases, without hashes and comments."""
    lines = (line.rstrip(" \\") for line in requirements.splitlines())
    return [line for line in lines if line and line[0] not in " #-"]


def differences(packages: Sequence[str]) -> str:
    """In which releases this Python has other packages than it should; empty if in none."""
    found = []
    for requirement in map(Requirement, packages):
        if requirement.marker and not requirement.marker.evaluate():
            continue
        try:
            here = version(requirement.name)
        except PackageNotFoundError:
            here = "none"
        if not requirement.specifier.contains(here, prereleases=True):
            found.append(f"{requirement.name} {here} instead of {requirement.specifier}")
    if not found:
        return ""
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return (
        f"{', '.join(found[:3])}{more}; results would not be comparable: "
        "pip install --require-hashes -r requirements.txt there, then start its Ray again"
    )


def remote() -> str:
    """The DVC remote through which data and models travel, with its address.

    Raises:
        BadInput: there is none.
    """
    sections = configuration()
    name = sections.get("core", {}).get("remote")
    if not name:
        raise BadInput(
            f"{ADDRESS} is set, and DVC has no default remote, through which the nodes get the "
            "data; dvc remote add --default NAME s3://BUCKET/PATH adds one"
        )
    url = sections.get(f'remote "{name}"', {}).get("url", "no url")
    return f"the remote {name} ({url})"


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Takes part in a cluster. Ctrl-C and SIGTERM end what this process has running there.

    Raises:
        BadInput: nobody, or no cluster that lets this process in, answers at the address.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise BadInput(f"{ADDRESS} is {address!r:.80}; it must be HOST:PORT, such as head:6379")
    try:
        socket.create_connection((host, int(port)), SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError, UnicodeError) as problem:
        raise BadInput(f"{ADDRESS}: nobody answers at {address} ({problem})") from None
    handler = signal.getsignal(signal.SIGTERM)
    with quietly():
        try:
            ray.init(address, logging_level=logging.CRITICAL, log_to_driver=False)
        except Exception as problem:
            raise BadInput(
                f"{ADDRESS}: no Ray cluster at {address} lets this study in: the token "
                "(RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token) must be the cluster's, and this "
                f"machine one of its nodes ({str(problem).strip().splitlines()[0]})"
            ) from None
        try:
            with interruptible():
                yield
        finally:
            # The workers end, and with them what they have started.
            ray.shutdown()
            signal.signal(signal.SIGTERM, handler)  # which Ray has replaced by its own


@contextmanager
def interruptible() -> Iterator[None]:
    """Has SIGTERM and SIGHUP do what Ctrl-C does: Ray waits on, whatever else is raised."""
    signals: list[signal.Signals] = []

    def interrupt(number: int, _: object) -> None:
        signals.append(signal.Signals(number))
        raise KeyboardInterrupt

    # In place of Ray's for SIGTERM.
    before = {number: signal.signal(number, interrupt) for number in heeded(ENDING)}
    try:
        yield
    except KeyboardInterrupt:
        if signals:
            raise Terminated(signals[0]) from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def quietly() -> Iterator[None]:
    """Sends what Ray writes to the standard output and error, pages of it, to a file instead."""
    kept = os.dup(2)
    before = sys.stdout, sys.stderr
    with WORDS_OF_RAY.open("w", 1) as file, os.fdopen(os.dup(2), "w", 1) as mine:
        sys.stdout, sys.stderr = OwnWords(sys.stdout, file), OwnWords(mine, file)
        os.dup2(file.fileno(), 2)  # which Ray's C++ code uses
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            sys.stdout, sys.stderr = before
            os.dup2(kept, 2)
            os.close(kept)


class OwnWords(io.TextIOBase):
    """A stream for this thread alone: what others write, Ray's threads, goes elsewhere."""

    def __init__(self, mine: TextIO, others: TextIO) -> None:
        self.mine = mine
        self.others = others
        self.thread = threading.current_thread()

    def write(self, text: str) -> int:
        own = threading.current_thread() is self.thread
        return (self.mine if own else self.others).write(text)

    def flush(self) -> None:
        self.mine.flush()

    def isatty(self) -> bool:
        return self.mine.isatty()

    def fileno(self) -> int:
        return self.mine.fileno()
