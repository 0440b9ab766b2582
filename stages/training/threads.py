"""How many threads to compute with, which is the caller's matter and changes no result."""

import os
from collections.abc import Mapping

from stages.edges.bad_input import BadInput

THREADS = "TRAINING_THREADS"
# For a single thread XLA compiles another program, which gives other bits. From two on they are
# the same, on one core too.
FEWEST, MOST = 2, 1_024


def threads(environment: Mapping[str, str]) -> int:
    """What the environment says, or a thread for each processor; never fewer than two.

    Raises:
        BadInput: the environment says something else than a whole number from 1 to 1024.
    """
    text = environment.get(THREADS, "")
    if not text:
        return max(FEWEST, processors())
    # Not by int() alone, which takes "1_0" and " 5 " too, and no thousands of digits.
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:5]) <= MOST):
        raise BadInput(f"{THREADS} is {text!r:.40}; it must be a whole number from 1 to {MOST}")
    return max(FEWEST, int(text))


def processors() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
