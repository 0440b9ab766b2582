"""What a person gets to read when the input is wrong: one line, and exit status 1."""

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class BadInput(Exception):
    """Input that a person can mend; the message names it and says what would do."""


class Terminated(BaseException):
    """SIGTERM has come; as an exception, so that what is half-written is cleared away."""


@contextmanager
def explained() -> Iterator[None]:
    """Ends the process with a message instead of a traceback, where a person can act.

    Bad input and failures of the file system (a full disk, a missing permission) exit with
    status 1. SIGTERM and Ctrl-C end the process as they always do, once nothing half-written
    is left. Anything else is our mistake and keeps its traceback.
    """
    # Where the encoding lacks a character, such as the dash of an interval.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except BadInput as problem:
        sys.exit(str(problem))
    except OSError as problem:
        where = f"{problem.filename}: " if problem.filename else ""
        # NumPy says no more than "3136000 requested and 3035008 written".
        sys.exit(f"{where}{problem.strerror or f'{problem} (is the disk full?)'}")
    except KeyboardInterrupt:
        die_of(signal.SIGINT)
    except Terminated:
        die_of(signal.SIGTERM)


def no_arguments(description: str | None) -> None:
    """Refuses arguments, which would be ignored otherwise; --help shows the description."""
    program = getattr(sys.modules["__main__"].__spec__, "name", None)
    argparse.ArgumentParser(f"python -m {program}", description=description).parse_args()


def terminate(*_: object) -> None:
    raise Terminated


def die_of(number: signal.Signals) -> None:
    """Ends the process by a signal, so that whoever started it sees that."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
