"""Number of threads of the training, which does not affect its result."""

import os
from collections.abc import Mapping

from stages.common.errors import UserError

THREADS = "TRAINING_THREADS"
# With a single thread XLA compiles another program, which gives other bits. All programs with two
# or more threads give the same bits, also on a single core.
MIN_THREADS, MAX_THREADS = 2, 1_024


def threads(environment: Mapping[str, str]) -> int:
    """The value of TRAINING_THREADS, or else the number of processors; at least two.

    Raises:
        UserError: TRAINING_THREADS is not an integer from 1 to 1024.
    """
    text = environment.get(THREADS, "")
    if not text:
        return max(MIN_THREADS, processors())
    # int() alone would also accept "1_0" and " 5 ".
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:5]) <= MAX_THREADS):
        raise UserError(f"{THREADS} is {text!r:.40}; expected an integer from 1 to {MAX_THREADS}")
    return max(MIN_THREADS, int(text))


def processors() -> int:
    """The number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
