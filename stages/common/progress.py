"""Progress of long work: a bar on a terminal, a line for each step in a log file."""

import sys
from types import TracebackType
from typing import Self

from tqdm import tqdm


class Progress:
    """Counts units of work and estimates the time that is left.

    A terminal gets a progress bar. Any other output gets one line for each `step`, without control
    characters.

    Args:
        label: name of the work, one or two words.
        total: number of units in all.
        unit: name of a unit, such as " epochs"; "B" is scaled to kB and MB.
        done: number of units that an earlier run has done.
    """

    def __init__(self, label: str, total: int, unit: str, done: int = 0) -> None:
        self.terminal = sys.stderr.isatty()
        self.bar = tqdm(
            desc=label,
            total=total,
            initial=done,
            unit=unit,
            unit_scale=unit == "B",
            dynamic_ncols=True,
            leave=False,
            # With disable=True, tqdm would not count, and seconds_left needs the counts.
            file=sys.stderr if self.terminal else NullFile(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.bar.close()

    def advance(self, units: int) -> None:
        """Adds finished units; a negative number takes units back."""
        self.bar.update(units)

    def step(self, text: str) -> None:
        """Reports that a step, such as a file or an epoch, has finished."""
        if self.terminal:
            self.bar.set_postfix_str(text)
        else:
            left = self.seconds_left()
            remaining = f", {left:.0f} s left" if left else ""
            print(f"{text}{remaining}", file=sys.stderr, flush=True)

    def seconds_left(self) -> float | None:
        """The remaining time at the average speed so far, or None before any unit is done."""
        now = self.bar.format_dict
        done = now["n"] - now["initial"]
        return now["elapsed"] / done * (now["total"] - now["n"]) if done else None


class NullFile:
    """A file object that discards what is written to it."""

    def write(self, text: str) -> None:
        pass

    def flush(self) -> None:
        pass
