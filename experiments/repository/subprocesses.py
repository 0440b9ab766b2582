"""Runs git and DVC as child processes."""

import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from stages.common.errors import UserError

MAX_ERROR_LINES = 10
# The GIT_ variables may be set in a git hook. The PYTHON variables change what is imported.
REMOVED_VARIABLES = {
    *("GIT_QUARANTINE_PATH", "GIT_NAMESPACE"),
    *("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH"),
}
# Without the user's hooks; and clones of local directories, which the user's git may forbid, are
# allowed.
GIT_OPTIONS = ("-c", "core.hooksPath=/dev/null", "-c", "protocol.file.allow=always")


class CommandError(UserError):
    """A command failed. The message is the end of its output, or its exit status."""


def git(*arguments: str | Path, cwd: Path = Path()) -> str:
    """Runs git and returns its standard output, with line ends as they are.

    Pathspecs are literal: `*` and `[` in a file name have no special meaning. Bytes that are not
    valid UTF-8 become surrogates, as in `os.fsdecode`.

    Raises:
        CommandError: git failed; the message is git's own, or its exit status.
    """
    result = subprocess.run(
        ["git", *GIT_OPTIONS, *arguments],
        cwd=cwd,
        env=environment(GIT_LITERAL_PATHSPECS="1"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if result.returncode:
        message = result.stderr.decode(errors="replace").strip()
        command = next((str(word) for word in arguments if not str(word).startswith("-")), "")
        raise CommandError(f"git {command}: {message or f'exit status {result.returncode}'}")
    return result.stdout.decode(errors="surrogateescape")


def dvc(*arguments: str, cwd: Path = Path(), **variables: str) -> str:
    """Runs DVC and returns its standard output.

    Args:
        arguments: of the command, such as "cache", "dir".
        cwd: directory to run it in.
        variables: additional environment variables.

    Raises:
        CommandError: DVC failed; the message is the last lines of its output.
    """
    # Files instead of pipes: a process that a stage leaves running would keep a pipe open.
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        result = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=cwd,
            env=environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            # Ctrl-C reaches this process only; kill_processes_in then ends DVC and its stages.
            start_new_session=True,
            check=False,
        )
        stdout.seek(0)
        stderr.seek(0)
        output, errors = (file.read().decode(errors="replace") for file in (stdout, stderr))
    if result.returncode:
        # Without the name of the clone, the same failure has the same message in each attempt.
        text = f"{output}\n{errors}".replace(f"{cwd.resolve()}{os.sep}", "")
        lines = [line for line in text.splitlines() if line.strip()]
        raise CommandError(
            "\n".join(lines[-MAX_ERROR_LINES:]) or f"exit status {result.returncode}"
        )
    return output


def run_live(*command: str, cwd: Path, **variables: str) -> None:
    """Runs a command whose output the user sees.

    Args:
        command: program and arguments.
        cwd: directory to run it in.
        variables: additional environment variables.

    Raises:
        CommandError: the command failed; the message is its exit status.
    """
    result = subprocess.run(
        command, cwd=cwd, env=environment(**variables), start_new_session=True, check=False
    )
    if result.returncode:
        raise CommandError(f"exit status {result.returncode}")


@cache
def variables_of_a_repository() -> set[str]:
    """The environment variables that bind git to one repository, such as that of a running hook."""
    command = ["git", "rev-parse", "--local-env-vars"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def environment(**variables: str) -> dict[str, str]:
    """Environment of child processes: this Python is first on PATH, as in an active environment."""
    removed = REMOVED_VARIABLES | variables_of_a_repository()
    kept = {name: value for name, value in os.environ.items() if name not in removed}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}"
    return kept | {"PATH": path} | variables
