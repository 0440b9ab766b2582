"""Temporary directory that is removed, with the processes in it, when its owner exits.

A watchdog process does both, so that they are also done after a SIGKILL of the owner. This file is
its program, too, so it imports nothing of the project.
"""

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

GRACE_PERIOD_S = 2.0
POLL_INTERVAL_S = 0.1
REMOVAL_ATTEMPTS = 50


@contextmanager
def temporary_directory(parent: Path, prefix: str = "") -> Iterator[Path]:
    """Yields a new directory, which is removed afterwards, also after a SIGKILL of this process.

    All processes whose working directory is in it are killed first.

    Args:
        parent: where to make the directory; made if it is missing.
        prefix: beginning of the directory's name.
    """
    parent.mkdir(parents=True, exist_ok=True)
    directory = parent.resolve() / f"{prefix}{secrets.token_hex(4)}"
    # The watchdog starts before the directory exists, so that no kill can leave the directory.
    watchdog = subprocess.Popen(
        [sys.executable, "-I", __file__, directory],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        if watchdog.wait():  # until it has forked
            raise ChildProcessError("the watchdog of a temporary directory failed (see above)")
        directory.mkdir()
        yield directory
    finally:
        watchdog.communicate()  # closes its input, and waits for its end
        shutil.rmtree(directory, ignore_errors=True)  # if the watchdog was killed


def watch(directory: Path) -> None:
    """Waits for the end of the standard input, then removes a directory and the processes in it.

    The owner holds the other end of that pipe. It closes when the owner exits, however it exits.
    """
    # Fork, so that the watchdog is not a child of its owner: Ray kills the children of a worker.
    if os.fork():
        os._exit(0)
    os.chdir("/")
    sys.stdin.read()
    kill_processes_in(directory)
    # Repeated: a git process with a different working directory may still write here.
    for _ in range(REMOVAL_ATTEMPTS):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            break
        time.sleep(POLL_INTERVAL_S)


def kill_processes_in(directory: Path) -> None:
    """Terminates all processes whose working directory is in a directory; kills those that stay.

    Returns when there are none.
    """
    directory = directory.resolve()
    deadline = time.monotonic() + GRACE_PERIOD_S
    terminated: set[psutil.Process] = set()
    while processes := processes_in(directory):
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                if time.monotonic() > deadline:
                    process.kill()
                elif process not in terminated:
                    process.terminate()
        terminated.update(processes)
        time.sleep(POLL_INTERVAL_S)


def processes_in(directory: Path) -> list[psutil.Process]:
    """The processes that work in a directory; their `info` has name and cmdline, too."""
    return [
        process
        # The working directory of a zombie, or of another user's process, is None.
        for process in psutil.process_iter(["cwd", "name", "cmdline"])
        if Path(process.info["cwd"] or "/").is_relative_to(directory)
    ]


if __name__ == "__main__":
    watch(Path(sys.argv[1]))
