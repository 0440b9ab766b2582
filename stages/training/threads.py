"""Number of TensorFlow's threads, which does not affect the results."""

import os
from collections.abc import Mapping

from stages.common.errors import UserError
from stages.training.stderr_filter import filtered_stderr

THREADS = "TRAINING_THREADS"
# With a single thread XLA compiles a different program, whose results differ in the last bits. All
# programs with two or more threads give the same bits, also on a single core.
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
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_THREADS))
    if not (is_number and 1 <= int(text) <= MAX_THREADS):
        raise UserError(f"{THREADS} is {text!r:.40}; expected an integer from 1 to {MAX_THREADS}")
    return max(MIN_THREADS, int(text))


def set_threads() -> None:
    """Sets TensorFlow's number of threads; call it once, before TensorFlow computes anything.

    Raises:
        UserError: as `threads`.
    """
    # Imported here, since the check of all parameters needs `threads` only, not TensorFlow.
    from stages.training.tensorflow_setup import tf

    tf.config.threading.set_intra_op_parallelism_threads(threads(os.environ))
    tf.config.threading.set_inter_op_parallelism_threads(1)
    with filtered_stderr():
        tf.config.list_logical_devices()  # the search for GPUs prints warnings


def processors() -> int:
    """The number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
