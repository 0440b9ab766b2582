"""Eight trainings at a time as a study does them, against the same eight one after the other.

    python -m benchmarks.parallel_study

It works in a clone of the last commit, so the workspace stays as it is. Each eight has seeds of
its own, so that DVC has no results for any. The data is there for all. Where Ray is installed
(requirements-cluster.txt), a cluster of this one machine trains eight more, which tells what Ray
adds, with a folder as the remote.
"""

import argparse
import math
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import chdir, closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from experiments import pool
from experiments.grid import STUDY, read_study
from experiments.training import settings
from experiments.trainings import TrainAll, trainer
from experiments.workspace import adopt, dvc, take_snapshot
from stages.data.mirrors import make_mirrors_absolute
from stages.edges.bad_input import explained

ROOT = Path(__file__).parents[1]
TRAININGS = 8
TARGET = 0.55
PORT = 6399


class Run(NamedTuple):
    """How long trainings took until they were in the workspace, and the size of one's bundle."""

    seconds: float
    bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.parallel_study",
        description="Times eight trainings, several at a time and one after the other.",
    )
    longest = max(read_study(STUDY, {}).epochs)
    parser.add_argument("--epochs", type=int, default=longest, help=f"the study's: {longest}")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2, 4], help="at a time; 1 2 4")
    options = parser.parse_args()
    if min(options.jobs) < 1 or len(set(options.jobs)) < len(options.jobs):
        parser.error("--jobs must be different numbers from 1")
    os.environ.pop("RAY_ADDRESS", None)
    make_mirrors_absolute()
    runs: dict[str, Run] = {}

    def wanted() -> dict[str, dict[str, Any]]:
        first = 1000 * (len(runs) + 1)
        return {
            f"seed-{seed}": {"train.epochs": options.epochs, "train.seed": seed}
            for seed in range(first, first + TRAININGS)
        }

    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "clone", "--quiet", ROOT, f"{folder}/clone"], check=True)
        with chdir(f"{folder}/clone"):
            Path(".dvc/tmp").mkdir()
            for jobs in options.jobs:
                name = f"a pool, {jobs} at a time"
                with trainer(0, jobs) as train_all:
                    runs[name] = timed(name, train_all, wanted())
            if find_spec("ray"):
                with ray_cluster(Path(folder)), trainer(0, None) as train_all:
                    name = f"Ray on this machine, {pool.JOBS} at a time"
                    runs[name] = timed(name, train_all, wanted())
            start = time.perf_counter()
            for changes in wanted().values():
                dvc("exp", "run", *(f"--set-param={setting}" for setting in settings(changes)))
            one_by_one = time.perf_counter() - start
            snapshot = take_snapshot()

    print(f"{TRAININGS} trainings of {options.epochs} epochs\n\n| | s | of one after the other |")
    print("| --- | ---: | ---: |")
    for name, run in runs.items():
        print(f"| {name} | {run.seconds:.0f} | {run.seconds / one_by_one:.2f} |")
    print(f"| dvc exp run, one after the other | {one_by_one:.0f} | 1.00 |")
    code = (len(snapshot.bundle) + len(snapshot.patch)) / 1e6
    result = max(run.bytes for run in runs.values()) / 1e6
    print(f"\nTo a node goes {code:.1f} MB of code, once; from it {result:.2f} MB a training")
    each = runs[f"a pool, {options.jobs[0]} at a time"].seconds / TRAININGS * options.jobs[0]
    for workers in (1, 2, 4, 100):
        minutes = math.ceil(1000 / workers) * each / 60
        print(f"1,000 trainings of {each:.0f} s, workers: {workers}, minutes: {minutes:.0f}")
    ratio = min(run.seconds for name, run in runs.items() if "pool" in name) / one_by_one
    print(f"\nThe best pool takes {ratio:.2f}; to reach: {TARGET}")
    raise SystemExit(ratio > TARGET)


def timed(name: str, train_all: TrainAll, wanted: Mapping[str, Mapping[str, Any]]) -> Run:
    """Trains, takes the results over, and says at once how long that took.

    Raises:
        SystemExit: one has failed.
    """
    start = time.perf_counter()
    sizes = []
    with closing(train_all(wanted)) as outcomes:
        for experiment, outcome in outcomes:
            if not isinstance(outcome, bytes):
                raise SystemExit(f"{experiment} has failed:\n{outcome}")
            adopt(outcome)
            sizes.append(len(outcome))
    seconds = time.perf_counter() - start
    print(f"{name}: {seconds:.0f} s", file=sys.stderr, flush=True)
    return Run(seconds, max(sizes))


@contextmanager
def ray_cluster(folder: Path) -> Iterator[None]:
    """A cluster of one node, and a folder as DVC's default remote."""
    (folder / "token").write_text(secrets.token_hex(16))
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": f"{folder}/token",
        "RAY_ADDRESS": f"127.0.0.1:{PORT}",
        "XDG_CACHE_HOME": f"{folder}/cache",
    }
    dvc("remote", "add", "--local", "--default", "folder", f"{folder}/remote")
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    node = ["--head", f"--port={PORT}", f"--num-cpus={pool.JOBS}", f"--temp-dir={folder}/ray"]
    quiet = ["--include-dashboard=false", "--disable-usage-stats", "--block"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*ray, "start", *node, *quiet],
            env=environment | {"RAY_worker_niceness": "0"},
            stdout=log,
            stderr=log,
        )
        try:
            while "Ray runtime started" not in (folder / "log").read_text():
                if process.poll() is not None:
                    raise SystemExit((folder / "log").read_text())
                time.sleep(0.5)
            yield
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    with explained():
        main()
