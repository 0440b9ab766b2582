"""Entry point of all commands: exit status, error messages and signals."""

import argparse
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from stages.common.errors import UserError, error_message

# Windows has no SIGHUP.
SIGNALS = [each for each in signal.Signals if each.name in ("SIGINT", "SIGTERM", "SIGHUP")]
received_signals: list[signal.Signals] = []


def run(main: Callable[[], None], description: str | None = None) -> None:
    """Runs a command. An error that the user can fix becomes a message and exit status 1.

    That is a UserError, or a failure of the file system (full disk, missing permission).
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
            signal.signal(number, raise_keyboard_interrupt)
    try:
        if description:  # a command without arguments, except --help
            program = getattr(sys.modules["__main__"].__spec__, "name", None)
            argparse.ArgumentParser(f"python -m {program}", description=description).parse_args()
        main()
        raise_if_signalled()
    except (UserError, OSError) as problem:
        sys.exit(error_message(problem))
    except KeyboardInterrupt:
        exit_by_signal(received_signals[-1] if received_signals else signal.SIGINT)


def raise_keyboard_interrupt(number: int, _: object) -> None:
    """Signal handler."""
    received_signals.append(signal.Signals(number))
    raise KeyboardInterrupt


def raise_if_signalled() -> None:
    """Raises KeyboardInterrupt if a signal was received: a library may have swallowed the first."""
    if received_signals:
        raise KeyboardInterrupt


def exit_by_signal(number: signal.Signals) -> None:
    """Ends the process by the signal itself, so that its parent sees why it ended."""
    with suppress(OSError, ValueError):  # the reader of a pipe may be gone
        sys.stdout.flush()
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
