"""Filter for messages that TensorFlow and Keras print at each start."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

# Messages of TensorFlow and Keras at each start that a user of this project cannot act on.
NOISE = (
    "All log messages before absl::InitializeLog()",
    "oneDNN custom operations are on",
    "cuda",
    "CUDA",
    "HDF5 file via `model.save()`",
)


def is_noise(line: str) -> bool:
    return any(noise in line for noise in NOISE)


@contextmanager
def filtered_stderr() -> Iterator[None]:
    """Filters NOISE out of what C++ code writes to standard error."""
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(original, 2)
            os.close(original)
            captured.seek(0)
            for line in captured:
                if not is_noise(line):
                    sys.stderr.write(line)
