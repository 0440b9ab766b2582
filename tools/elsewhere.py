"""Runs of the pipeline in clones of this repository: whatever ends them, the workspace stays."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from experiments.recipes import git, new_code
from stages.edges.bad_input import BadInput, Terminated

# DVC keeps its own temporary folders here; git ignores it.
TEMPORARY = Path(".dvc/tmp")
SECONDS_TO_END = 10


@contextmanager
def workspace_copy(purpose: str) -> Iterator[Path]:
    """Yields a clone with the workspace's uncommitted edits and new code; it shares DVC's cache.

    DVC sets such edits aside for a moment when it begins an experiment, and where it is killed
    then they are gone from the folder that it runs in. Here that folder is nobody's.

    Args:
        purpose: a name; of two processes with the same purpose the second one waits, and clears
            away what a killed one has left.

    Raises:
        BadInput: this is no git repository with a commit, or no DVC repository.
    """
    from dvc.config import Config
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            cache = repo.cache.local.path
    except DvcException as problem:
        raise BadInput(f"{purpose}: {problem}") from None
    tracked = [name for name in git("ls-files", "-z").split("\0") if name]

    TEMPORARY.mkdir(exist_ok=True)
    with (TEMPORARY / f"{purpose}.lock").open("w") as lock:
        # Inherited by what `run` starts, so that it is held until the last of them has ended.
        os.set_inheritable(lock.fileno(), True)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Another {purpose} is running in this folder; this one waits", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        for killed in TEMPORARY.glob(f"{purpose}-*"):
            shutil.rmtree(killed, ignore_errors=True)
        with tempfile.TemporaryDirectory(
            prefix=f"{purpose}-", dir=TEMPORARY, ignore_cleanup_errors=True
        ) as temporary:
            clone = Path(temporary).resolve() / "clone"
            git("clone", "--quiet", "--no-checkout", ".", str(clone))
            for name in map(Path, [*tracked, *new_code(Path())]):
                if name.is_file() or name.is_symlink():  # not where it was removed
                    (clone / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(name, clone / name, follow_symlinks=False)
            git("-C", str(clone), "add", "--all", "--force")
            # DVC's commits need an author, who may be told to this repository alone, or to none.
            for key in ("user.name", "user.email"):
                known = git("config", "--default", purpose, "--get", key).strip()
                git("-C", str(clone), "config", key, known)
            local = Path(".dvc/config.local")
            if local.exists():
                shutil.copy2(local, clone / local)
            with Config(str(clone / ".dvc")).edit("local") as config:
                config["cache"]["dir"] = cache
                # DVC would leave a folder for this clone where the user's others are.
                config["core"]["site_cache_dir"] = str(clone / TEMPORARY / "site-cache")
            yield clone


def run_experiment(clone: Path, name: str, changes: Sequence[str]) -> None:
    """Runs an experiment in a clone and takes it out, in place of earlier ones of its name.

    What DVC's cache holds of it already is not run again.

    Args:
        clone: of `workspace_copy`.
        name: the experiment's.
        changes: of params.yaml, such as train.seed=7.

    Raises:
        BadInput: it has failed; its own output says why.
    """
    if run(sys.executable, "-m", "tools.experiment", name, *changes, folder=clone):
        raise BadInput(f"{name}: the experiment has failed; what is above says why")
    pattern = f"refs/exps/**/{name}"
    (made,) = git("-C", str(clone), "for-each-ref", "--format=%(refname)", pattern).split()
    earlier = git("for-each-ref", "--format=%(refname)", pattern).split()
    git("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", str(clone), f"+{made}:{made}")
    for experiment in set(earlier) - {made}:
        git("update-ref", "-d", experiment)


def run(*command: str, folder: Path) -> int:
    """Runs a command in a folder to its end; its exit status.

    Ctrl-C, SIGTERM and SIGHUP end whatever it has started.
    """
    # A session of its own: where one process of it is told to end, all are, by us.
    process = subprocess.Popen(command, cwd=folder, start_new_session=True, close_fds=False)
    try:
        return process.wait()
    except (KeyboardInterrupt, Terminated):
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):  # all have ended
                os.killpg(process.pid, number)
                until = time.monotonic() + SECONDS_TO_END
                while time.monotonic() < until:
                    process.poll()
                    os.killpg(process.pid, 0)
                    time.sleep(0.05)
        raise
