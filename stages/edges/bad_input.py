"""What a person gets to read when the input is wrong: one line, and exit status 1."""

import argparse
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

# Windows has no SIGHUP.
ENDING = [number for number in signal.Signals if number.name in ("SIGTERM", "SIGHUP")]
told_to_end: list[signal.Signals] = []  # which handlers have no other place for


class BadInput(Exception):
    """Input that a person can mend; the message names it and says what would do."""


class Terminated(BaseException):
    """SIGTERM or SIGHUP has come; as an exception, so that what is half-written is cleared away."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def explained() -> Iterator[None]:
    """Ends the process with a message instead of a traceback, where a person can act.

    Bad input and failures of the file system (a full disk, a missing permission) exit with
    status 1. SIGTERM, SIGHUP and Ctrl-C end the process as they always do, once nothing
    half-written is left. Anything else is our mistake and keeps its traceback.
    """
    # Where the encoding lacks a character, such as the dash of an interval.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    for number in heeded((signal.SIGINT, *ENDING)):
        signal.signal(number, end)
    try:
        yield
        end_if_told()
    except BadInput as problem:
        sys.exit("\n".join(map(printable, str(problem).split("\n"))))
    except OSError as problem:
        where = f"{problem.filename}: " if problem.filename else ""
        # NumPy says no more than "3136000 requested and 3035008 written".
        sys.exit(printable(f"{where}{problem.strerror or f'{problem} (is the disk full?)'}"))
    except KeyboardInterrupt:
        die_of(signal.SIGINT)
    except Terminated as problem:
        die_of(problem.number)


def no_arguments(description: str | None) -> None:
    """Refuses arguments, which would be ignored otherwise; --help shows the description."""
    program = getattr(sys.modules["__main__"].__spec__, "name", None)
    argparse.ArgumentParser(f"python -m {program}", description=description).parse_args()


def printable(text: str) -> str:
    """The text on one line, with what a terminal would obey written out, as repr() does.

    A file's name, a key of a YAML file, or what a server has answered may hold such characters.
    """
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def heeded(numbers: Iterable[signal.Signals]) -> list[signal.Signals]:
    """Those of some signals that whoever started this process lets reach it: nohup bars SIGHUP."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


def end(number: int, _: object) -> None:
    """The handler of a signal to end."""
    told_to_end.append(signal.Signals(number))
    end_if_told()


def end_if_told() -> None:
    """Raises what a signal to end raises, if one has come: a library may have swallowed it."""
    if told_to_end:
        number = told_to_end[-1]
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)


def die_of(number: signal.Signals) -> None:
    """Ends the process by a signal, so that whoever started it sees that."""
    with suppress(OSError, ValueError):  # nobody reads it any more
        sys.stdout.flush()
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
