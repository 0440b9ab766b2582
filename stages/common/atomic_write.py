"""Atomic writing of files and directories."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path to write a file or directory at, and renames it to `path` afterwards.

    An existing output is replaced, not opened for writing: it may be a hard link into DVC's cache.
    If the body raises, the existing output stays. The temporary path is `partial-NAME` beside
    `path`; one that a killed process has left is removed first.
    """
    partial = path.with_name(f"partial-{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    remove(partial)
    try:
        yield partial
        if partial.is_dir():
            # rename() does not replace a directory that has files.
            remove(path)
        partial.replace(path)
    finally:
        remove(partial)


def remove(path: Path) -> None:
    """Removes a file, a symbolic link or a directory, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
