"""A folder to work in and the processes at work there; neither outlives whoever has made them.

Also sent to the nodes of a cluster, so it takes nothing from the rest of the project.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Self

# Seconds that a process has to end once it is asked to.
GRACE = 2.0
POLL = 0.1
LAST_LINES = 10

# Reads from a pipe which process group is at work, 0 for none, until nobody holds the other end:
# then whoever has made the folder is done with it, or was killed. It is no child of anybody, as
# Ray kills the children of a worker whose study has ended.
GUARD = """
import os, shutil, signal, sys, time

if os.fork():
    os._exit(0)
group = 0
for line in sys.stdin:
    group = int(line)
for number in (signal.SIGTERM, signal.SIGKILL):
    until = time.monotonic() + float(sys.argv[2])
    try:
        while group:
            os.killpg(group, number)
            if time.monotonic() > until:
                break
            time.sleep(0.05)
    except ProcessLookupError:
        break
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""


class Failed(Exception):
    """A command has failed; the message is the last lines of what it has printed."""


class Stopped(Exception):
    """Whoever has asked for the work wants it no longer."""


class Scratch:
    """A folder, and processes in it, for as long as the `with` lasts and this process lives.

    Args:
        parent: where to make the folder; made if it is missing.
        stop: once it is set, a command that runs is ended and raises Stopped.
        variables: what is added to the environment of the commands.
    """

    def __init__(
        self, parent: Path, stop: Event | None = None, variables: Mapping[str, str] | None = None
    ) -> None:
        self.parent = parent
        self.stop = stop or Event()
        self.variables = dict(variables or {})

    def __enter__(self) -> Self:
        self.parent.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(dir=self.parent))
        self.guard = subprocess.Popen(
            [sys.executable, "-I", "-c", GUARD, self.folder, str(GRACE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        self.guard.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self.guard.stdin is not None and self.guard.stdout is not None  # noqa: PT018, S101
        self.guard.stdin.close()
        self.guard.stdout.read()  # ends when the folder is removed
        self.guard.stdout.close()

    def run(self, *command: str, cwd: Path | None = None) -> str:
        """Runs a command to its end; what it prints, both streams.

        Args:
            command: its words; `dvc` is that of the Python at work here.
            cwd: where to run it; the folder, if it is not given.

        Raises:
            Failed: its exit status is not 0.
            Stopped: it was ended, since `stop` is set.
        """
        if command[0] == "dvc":
            command = (sys.executable, "-m", *command)
        # A file, no pipe: what a command has left running would hold a pipe open.
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
            process = subprocess.Popen(
                command,
                cwd=cwd or self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self.tell_guard(process.pid)
            try:
                while process.poll() is None:
                    self.wait(POLL, process)
            finally:
                end(process)
                self.tell_guard(0)
            output.seek(0)
            text = output.read()
        if process.returncode:
            # The folder has another name at each attempt.
            text = text.replace(f"{self.folder}{os.sep}", "")
            lines = [line for line in text.splitlines() if line.strip()]
            raise Failed("\n".join(lines[-LAST_LINES:]) or f"exit status {process.returncode}")
        return text

    def wait(self, seconds: float, process: "subprocess.Popen[bytes] | None" = None) -> None:
        """Waits, no longer than a process lasts.

        Raises:
            Stopped: `stop` is set.
        """
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self.stop.is_set():
                raise Stopped
            if process is None:
                time.sleep(min(left, POLL))
                continue
            with suppress(subprocess.TimeoutExpired):
                process.wait(min(left, POLL))
                return

    def tell_guard(self, group: int) -> None:
        assert self.guard.stdin is not None  # noqa: S101
        self.guard.stdin.write(f"{group}\n")
        self.guard.stdin.flush()

    def environment(self) -> dict[str, str]:
        """What commands get: their Python is first on the PATH, as in an active environment."""
        foreign = ("PYTHONPATH", "PYTHONHOME", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
        kept = {name: value for name, value in os.environ.items() if name not in foreign}
        path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}"
        return kept | {"PATH": path} | self.variables


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process with all of its group, if it has not ended by itself."""
    if process.poll() is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
