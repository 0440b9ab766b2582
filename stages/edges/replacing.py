"""Outputs that appear under their final name only when they are whole."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path beside `path` to write a file or a folder at, then moves it into place.

    The old output is replaced, never opened for writing: it may be a hard link into DVC's
    cache, whose bytes are not ours to change. What a killed run has left is cleared first;
    if the body raises, the old output stays as it was.
    """
    partial = path.with_name(f"partial-{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    remove(partial)
    try:
        yield partial
        if partial.is_dir():
            # A folder cannot be renamed onto one that holds files.
            remove(path)
        partial.replace(path)
    finally:
        remove(partial)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
