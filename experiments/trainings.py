"""The trainings of a study: those whose results are in git already, and those yet to be trained."""

import os
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property, partial
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from experiments import pool
from experiments.grid import Training, width
from experiments.recipes import held, ingredients, recipe
from experiments.scratch import Failed
from experiments.workspace import adopt, prepare, take_snapshot
from stages.edges.bad_input import BadInput, printable
from stages.edges.progress import Progress

# Times that an experiment is asked for before it is given up.
ATTEMPTS = 3
OTHERS = (
    "its files differ from those here. Does a stage change code, or git the ends of lines?\n"
    "git config core.autocrlf, and git ls-files --eol, tell the latter"
)

# Trains what is wanted: gives the name of each experiment, and its bundle or why it has failed.
TrainAll = Callable[
    [Mapping[str, Mapping[str, Any]]], Generator[tuple[str, bytes | Failed], None, None]
]


class Trainings:
    """Trainings of the workspace as it is now, whatever is edited while they run.

    Args:
        validation: how many training images they hold out.
        jobs: how many to train at a time; None for as many as there are processors.
    """

    def __init__(self, validation: int, jobs: int | None) -> None:
        self.validation = validation
        self.jobs = jobs
        self.ingredients = ingredients()
        self.stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stack.__exit__(kind, problem, traceback)

    @cached_property
    def train_all(self) -> TrainAll:
        """Whoever trains: made ready when there is something to train, for the whole study."""
        return self.stack.enter_context(trainer(self.validation, self.jobs))

    def obtain(self, label: str, trainings: Sequence[Training]) -> dict[Training, str]:
        """The commits that hold the results of trainings, after running those that none holds.

        A training that is not there after ATTEMPTS is left out.
        """
        recipes = {training: self.recipe(training) for training in trainings}
        commits = held()
        there = sum(digest in commits for digest in recipes.values())
        print(f"{label}: {there} of {len(trainings)} are there, {len(trainings) - there} to train")
        if there < len(trainings):
            wanted = {
                self.name(training): training.parameters
                for training, digest in recipes.items()
                if digest not in commits
            }
            failed = carry_out(wanted, self.train_all)
            commits = held()
            for training, digest in recipes.items():
                name = self.name(training)
                if digest not in commits and name not in failed:
                    # Another attempt would end alike.
                    tell(f"{name} has ended well, with other results than were asked for:", OTHERS)
        return {
            training: commits[digest] for training, digest in recipes.items() if digest in commits
        }

    def recipe(self, training: Training) -> str:
        return recipe(training.parameters, self.ingredients)

    def name(self, training: Training) -> str:
        """Of its experiment; the digits at the end change when code or other parameters do."""
        return (
            f"study-{width(training.hidden_units)}-epochs-{training.epochs}-seed-{training.seed}-"
            f"{self.recipe(training)[:7]}"
        )


@contextmanager
def trainer(validation: int, jobs: int | None) -> Iterator[TrainAll]:
    """Takes a snapshot of the workspace and makes its data ready, here or on a cluster.

    The cluster is the one at RAY_ADDRESS, where that is set.

    Raises:
        BadInput: something that all trainings need is not to be had.
    """
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        snapshot = prepare(take_snapshot(), validation, None)
        yield partial(pool.train_all, snapshot, jobs=jobs or pool.JOBS)
        return
    try:
        from experiments import cluster
    except ModuleNotFoundError as problem:
        raise BadInput(
            f"RAY_ADDRESS is set, and {problem.name} is not installed; make study installs what "
            "is missing"
        ) from None
    remote = cluster.remote()
    with cluster.connected(address):
        snapshot = prepare(take_snapshot(), validation, remote)
        yield partial(cluster.train_all, cluster.sent_to_nodes(snapshot), jobs=jobs)


def carry_out(
    wanted: Mapping[str, Mapping[str, Any]], train_all: TrainAll
) -> Mapping[str, Mapping[str, Any]]:
    """Trains experiments and adds them to the workspace's; tells why one has failed, once.

    Returns:
        What is wanted still, after ATTEMPTS.
    """
    told: dict[str, str] = {}
    for _ in range(ATTEMPTS):
        if not wanted:
            break
        failed: dict[str, Failed] = {}
        with (
            Progress("study", len(wanted), " trainings") as progress,
            closing(train_all(wanted)) as outcomes,
        ):
            for done, (name, outcome) in enumerate(outcomes, 1):
                if isinstance(outcome, bytes):
                    adopt(outcome)
                else:
                    failed[name] = outcome
                    if told.get(name) != str(outcome):
                        told[name] = str(outcome)
                        tell(f"{name} has failed:", str(outcome))
                progress.advance(1)
                trained = done - len(failed)
                progress.step(f"{trained} of {len(wanted)} trained, {len(failed)} failed")
        wanted = {name: wanted[name] for name in failed}
    return wanted


def tell(what: str, output: str) -> None:
    """Says something, and below it what a command has printed, beside a bar that may be there."""
    lines = [f"    {printable(line)}" for line in output.split("\n")]
    tqdm.write("\n".join([what, *lines]), file=sys.stderr)
