"""Time of eight trials of a study: in thread pools of several sizes, on Ray, and one by one.

    python -m benchmarks.parallel_study

It works in a clone of HEAD. Each measurement has its own seeds, so that DVC has no results in its
cache; the data are prepared before the clock starts. If Ray is installed
(requirements-cluster.txt), a local cluster of one node is measured as well, with a directory as
DVC's remote.
"""

import argparse
import itertools
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import chdir, closing, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from benchmarks.common import ROOT, print_table
from experiments.repository.clones import temporary_clone
from experiments.repository.dvc_experiments import Changes, hydra_value, import_experiment
from experiments.repository.subprocesses import dvc, git
from experiments.study.cluster import ADDRESS, check_cluster, run_on_cluster
from experiments.study.grid import STUDY, read_study
from experiments.study.local import run_locally
from experiments.study.runner import TrialRunner
from experiments.study.trial import commit_snapshot, prepare_data
from stages.common import command_line
from stages.data.mirrors import make_mirrors_absolute
from stages.training.threads import processors

TRIALS = 8
PORT = 6399


class Result(NamedTuple):
    """Seconds until all experiments are in the workspace, and bytes of the largest bundle."""

    seconds: float
    bundle_bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.parallel_study",
        description="Times eight trials, several at a time and one after the other.",
    )
    epochs = max(read_study(STUDY, {}).epochs)
    parser.add_argument("--epochs", type=int, default=epochs, help=f"default: {epochs}")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2, 4], help="default: 1 2 4")
    options = parser.parse_args()
    if min(options.jobs) < 1 or len(set(options.jobs)) < len(options.jobs):
        parser.error("--jobs must be different integers from 1")
    os.environ.pop(ADDRESS, None)
    make_mirrors_absolute()
    results: dict[str, Result] = {}
    seeds = itertools.count(1000)

    def trials() -> dict[str, Changes]:
        return {
            f"seed-{seed}": {"train.epochs": options.epochs, "train.seed": seed}
            for seed in itertools.islice(seeds, TRIALS)
        }

    with tempfile.TemporaryDirectory() as directory:
        git("clone", "--quiet", ROOT, f"{directory}/clone")
        with chdir(f"{directory}/clone"):
            with temporary_clone("study") as snapshot:
                commit_snapshot(snapshot)
                prepare_data(snapshot, 0, None)
                for jobs in options.jobs:
                    name = f"thread pool, {jobs} at a time"
                    results[name] = time_trials(
                        name, partial(run_locally, snapshot, jobs), trials()
                    )
            if find_spec("ray"):
                with ray_cluster(Path(directory)) as address, temporary_clone("study") as snapshot:
                    commit_snapshot(snapshot)
                    prepare_data(snapshot, 0, check_cluster(address))
                    name = f"Ray on this machine, {processors()} at a time"
                    results[name] = time_trials(
                        name, partial(run_on_cluster, snapshot, address), trials()
                    )
            started = time.perf_counter()
            for changes in trials().values():
                settings = (f"{key}={hydra_value(value)}" for key, value in changes.items())
                dvc("exp", "run", *(f"--set-param={setting}" for setting in settings))
            one_by_one = time.perf_counter() - started

    times = {name: result.seconds for name, result in results.items()}
    times["dvc exp run, one after the other"] = one_by_one
    print_table(
        (f"{TRIALS} trials of {options.epochs} epochs", "s", "/ one after the other"),
        [(name, f"{each:.0f}", f"{each / one_by_one:.2f}") for name, each in times.items()],
    )
    megabytes = max(result.bundle_bytes for result in results.values()) / 1e6
    print(f"\nA node returns {megabytes:.2f} MB per trial")


def time_trials(name: str, run_trials: TrialRunner, trials: Mapping[str, Changes]) -> Result:
    """Runs trials, imports the experiments and prints the time.

    Raises:
        UserError: a trial has failed.
    """
    started = time.perf_counter()
    sizes = []
    with closing(run_trials(trials)) as finished:
        for _, future in finished:
            import_experiment(future.result())
            sizes.append(len(future.result()))
    seconds = time.perf_counter() - started
    print(f"{name}: {seconds:.0f} s", file=sys.stderr, flush=True)
    return Result(seconds, max(sizes))


@contextmanager
def ray_cluster(directory: Path) -> Iterator[str]:
    """Yields the address of a cluster of one node; a directory is DVC's default remote."""
    (directory / "token").write_text(secrets.token_hex(16))
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": f"{directory}/token",
        "XDG_CACHE_HOME": f"{directory}/cache",
    }
    dvc("remote", "add", "--local", "--default", "directory", f"{directory}/remote")
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    node = ["--head", f"--port={PORT}", f"--num-cpus={processors()}", f"--temp-dir={directory}/ray"]
    quiet = ["--include-dashboard=false", "--disable-usage-stats", "--block"]
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            [*ray, "start", *node, *quiet],
            env=os.environ | {"RAY_worker_niceness": "0"},
            stdout=log,
            stderr=log,
        )
        try:
            while "Ray runtime started" not in (directory / "log").read_text():
                if process.poll() is not None:
                    raise SystemExit((directory / "log").read_text())
                time.sleep(0.5)
            yield f"127.0.0.1:{PORT}"
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    command_line.run(main)
