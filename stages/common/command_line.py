"""Entry point of all commands: exit status, error messages and signals."""

import argparse
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from stages.common.errors import UserError, printable

# Windows has no SIGHUP.
SIGNALS = [each for each in signal.Signals if each.name in ("SIGINT", "SIGTERM", "SIGHUP")]
received: list[signal.Signals] = []


def run(main: Callable[[], None], description: str | None = None) -> None:
    """Runs a command, and ends the process with one line instead of a traceback if a user can act.

    A UserError or a failure of the file system (full disk, missing permission) gives exit status 1.
    SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt, so that temporary files are removed; then
    they end the process with their usual status. Any other exception is a bug and keeps its
    traceback.

    Args:
        main: the command.
        description: help text of a command without arguments. If it is None, `main` parses the
            arguments.
    """
    # The terminal's encoding may lack a character, such as the dash of an interval.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, handle)
    try:
        if description:
            refuse_arguments(description)
        main()
        raise_if_signalled()
    except UserError as problem:
        sys.exit("\n".join(map(printable, str(problem).split("\n"))))
    except OSError as problem:
        where = f"{problem.filename}: " if problem.filename else ""
        # NumPy's error for a full disk is "3136000 requested and 3035008 written".
        sys.exit(printable(f"{where}{problem.strerror or f'{problem} (is the disk full?)'}"))
    except KeyboardInterrupt:
        exit_by_signal(received[-1] if received else signal.SIGINT)


def refuse_arguments(description: str) -> None:
    """Parses the arguments of a command that has none but --help."""
    program = getattr(sys.modules["__main__"].__spec__, "name", None)
    argparse.ArgumentParser(f"python -m {program}", description=description).parse_args()


def handle(number: int, _: object) -> None:
    """Signal handler that raises KeyboardInterrupt."""
    received.append(signal.Signals(number))
    raise KeyboardInterrupt


def raise_if_signalled() -> None:
    """Raises KeyboardInterrupt again if a library has swallowed the one of a signal."""
    if received:
        raise KeyboardInterrupt


def exit_by_signal(number: signal.Signals) -> None:
    """Ends the process by a signal, so that its parent sees the signal as the reason."""
    with suppress(OSError, ValueError):  # the reader of a pipe may be gone
        sys.stdout.flush()
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
