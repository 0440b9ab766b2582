"""Trials on the nodes of a Ray cluster.

Ray sends the files of the snapshot to the nodes, which import this module from there; git bundles
with the experiments come back. Data and models go through DVC's remote. Ray runs a trial again if
its node or worker dies.
"""

import logging
import os
import re
import socket
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from importlib.metadata import distributions
from importlib.util import find_spec
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from experiments.repository.clones import dvc_config
from experiments.repository.dvc_experiments import Changes
from experiments.repository.subprocesses import CommandError, git
from experiments.repository.temporary_directory import temporary_directory
from experiments.study.runner import FinishedTrials
from experiments.study.trial import Config, run_trial
from stages.common.errors import UserError
from stages.training.threads import MIN_THREADS, THREADS

ADDRESS = "RAY_ADDRESS"
LOG = Path(".dvc/tmp/ray.log")
BARE_CLONE = "snapshot.git"  # in the snapshot's directory
CONNECT_TIMEOUT_S = 3
MAX_RESTARTS = 3  # of a trial whose node or worker died


def check_cluster(address: str) -> str:
    """Checks Ray, its address and DVC's default remote, before anything is trained.

    Args:
        address: HOST:PORT of the cluster's head.

    Returns:
        Name and URL of the remote, for messages.

    Raises:
        UserError: Ray is not installed, nothing listens at the address, or DVC has no default
            remote.
    """
    if not find_spec("ray"):
        raise UserError(f"{ADDRESS} is set; expected Ray to be installed: make study installs it")
    config = dvc_config()
    remote = config.get("core", {}).get("remote")
    if not remote:
        raise UserError(
            f"{ADDRESS} is set; expected a default remote of DVC, through which the nodes get the "
            "data: dvc remote add --default NAME s3://BUCKET/PATH"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(f"{ADDRESS} is {address!r:.80}; expected HOST:PORT, such as head:6379")
    try:
        # Ray itself would try for a minute.
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise UserError(f"{ADDRESS} is {address}; nothing listens there ({error})") from None
    url = config.get(f'remote "{remote}"', {}).get("url", "no URL")
    return f"the remote {remote} ({url})"


def run_on_cluster(snapshot: Path, address: str, trials: Mapping[str, Changes]) -> FinishedTrials:
    """Runs trials on a Ray cluster; see `runner.TrialRunner`.

    When the iterator is closed, interrupted by a signal, or this process is killed, the processes
    of its trials are ended.

    Args:
        snapshot: directory of the snapshot.
        address: HOST:PORT of the cluster's head.
        trials: changes of params.yaml by the name of a trial.

    Raises:
        UserError: the cluster cannot be joined, or is lost.
    """
    if not (snapshot / BARE_CLONE).exists():
        # A URI, since --depth is ignored for paths.
        uri = snapshot.absolute().as_uri()
        git("clone", "--quiet", "--bare", "--template=", "--depth=2", uri, snapshot / BARE_CLONE)
    variables = {THREADS: os.environ.get(THREADS) or str(MIN_THREADS)}
    config = dvc_config()
    tasks = [(name, changes, config, variables) for name, changes in trials.items()]
    spawn = get_context("spawn")
    results, child_end = spawn.Pipe(duplex=False)
    driver = spawn.Process(target=run_driver, args=(child_end, address, str(snapshot), tasks))
    driver.start()
    child_end.close()
    try:
        for _ in tasks:
            message = results.recv()
            if isinstance(message, UserError):
                raise message
            name, outcome = message
            future: Future[bytes] = Future()
            if isinstance(outcome, bytes):
                future.set_result(outcome)
            else:
                future.set_exception(CommandError(outcome))
            yield name, future
    except EOFError:
        raise UserError(f"{ADDRESS}: the cluster at {address} is lost; see {LOG}") from None
    finally:
        # Ray ends the tasks of a driver that is gone.
        driver.kill()
        driver.join()


def run_driver(results: Connection, address: str, working_dir: str, tasks: list[Any]) -> None:
    """Runs trials as Ray tasks; the main function of a child process.

    Ray prints a lot, replaces signal handlers, and some of its calls do not return when they are
    interrupted. The child process keeps this away from the command.

    Args:
        results: gets a pair for each trial, its name and a git bundle or an error message; or a
            UserError if the cluster cannot be joined.
        address: HOST:PORT of the cluster's head.
        working_dir: directory that Ray sends to the nodes.
        tasks: arguments of `run_on_node`.
    """
    os.setsid()  # Ctrl-C in a terminal goes to the parent only
    threading.Thread(target=exit_with_parent, daemon=True).start()
    with LOG.open("wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    # A wrong token should not take 20 seconds. Ray reads this variable when it is imported.
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "3")
    import ray

    try:
        ray.init(
            address,
            runtime_env={"working_dir": working_dir},
            logging_level=logging.CRITICAL,
            log_to_driver=False,
        )
    except Exception as error:
        results.send(
            UserError(
                f"{ADDRESS} is {address}; the cluster there does not admit this study: expected "
                "its token (RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token), and this machine as one "
                f"of its nodes ({first_line(error)})"
            )
        )
        return
    task = ray.remote(num_cpus=1, max_retries=MAX_RESTARTS)(run_on_node)
    names = {task.remote(*arguments): arguments[0] for arguments in tasks}
    while names:
        (finished,), _ = ray.wait(list(names))
        try:
            outcome = ray.get(finished)
        except ray.exceptions.RayTaskError as error:
            outcome = str(error.cause)
        except ray.exceptions.RayError as error:
            outcome = first_line(error)
        results.send((names.pop(finished), outcome))


def exit_with_parent() -> None:
    """Ends this process when its parent is gone."""
    parent = parent_process()
    if parent:
        parent.join()
        os._exit(1)


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def run_on_node(name: str, changes: Changes, config: Config, variables: Mapping[str, str]) -> bytes:
    """Runs a trial on this node: a Ray task, whose working directory is a copy of the snapshot.

    Args:
        name: of the experiment.
        changes: of params.yaml.
        config: DVC's configuration on the user's machine.
        variables: environment variables for the stages.

    Returns:
        The experiment as a git bundle.

    Raises:
        CommandError: a command has failed, or the packages differ from requirements.txt.
    """
    if differences := package_differences(Path("requirements.txt").read_text(encoding="utf-8")):
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise CommandError(
            f"node {socket.gethostname()}: packages differ from requirements.txt, so results would "
            f"not be comparable: {', '.join(differences[:3])}{more}. Run there: pip install "
            "--require-hashes -r requirements.txt, then start its Ray again"
        )
    import platformdirs  # installed with Ray by requirements-cluster.txt

    # The node has a cache of its own.
    directory = Path(platformdirs.user_cache_path("mnist-study"))
    cache = {**config.get("cache", {}), "dir": str(directory / "cache")}
    with temporary_directory(directory / "trials") as temporary:
        snapshot = Path(BARE_CLONE).absolute()
        return run_trial(
            snapshot,
            temporary,
            {**config, "cache": cache},
            name,
            changes,
            use_remote=True,
            **variables,
        )


def package_differences(requirements: str) -> list[str]:
    """The installed packages whose version is not the one in the text of a requirements.txt."""
    pins: dict[str, list[str]] = {}
    for package, version in re.findall(r"^([\w.-]+)==(\S+)", requirements, re.MULTILINE):
        pins.setdefault(package, []).append(version)
    installed = installed_versions()
    return [
        f"{package} {installed[package]} instead of {' or '.join(versions)}"
        for package, versions in pins.items()
        if package in installed and installed[package] not in versions
    ]


def installed_versions() -> dict[str, str]:
    """The version of each installed package, by its normalized name, as in requirements.txt."""
    return {
        re.sub(r"[-_.]+", "-", package.metadata["Name"]).lower(): package.version
        for package in distributions()
    }
