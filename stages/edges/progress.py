"""Progress of long work: a bar on a terminal, a line for each finished step in a log."""

import sys
from types import TracebackType
from typing import Self

from tqdm import tqdm

from stages.edges.bad_input import end_if_told


class Progress:
    """Counts `total` units of work, and says how far it is and how long it will take.

    A terminal gets a bar that is drawn anew; anything else gets a line for each `step` and no
    control characters.

    Args:
        label: what is being done, one or two words.
        total: units of work in all.
        unit: their name, such as " epochs"; "B" is scaled to kB and MB.
        done: units that an earlier run has done already.
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
            # Not `disable`, which would not keep time.
            file=sys.stderr if self.terminal else Nowhere(),
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
        """Counts units of work that are done; ends the work if a signal has told it to."""
        end_if_told()
        self.bar.update(units)

    def step(self, text: str) -> None:
        """Tells that a step, such as a file or an epoch, is done."""
        if self.terminal:
            self.bar.set_postfix_str(text)
        else:
            left = self.seconds_left()
            known = "" if left is None else f", {left:.0f} s left"
            print(f"{text}{known}", file=sys.stderr, flush=True)

    def seconds_left(self) -> float | None:
        """At the pace so far; None before anything is done."""
        now = self.bar.format_dict
        done = now["n"] - now["initial"]
        return now["elapsed"] / done * (now["total"] - now["n"]) if done else None


class Nowhere:
    """A file that keeps nothing."""

    def write(self, text: str) -> None:
        pass

    def flush(self) -> None:
        pass
