"""Lock that makes a second command of the same kind wait."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

# DVC keeps its own temporary files here, and git ignores it. It is on the disk of the cache, so
# that DVC can link to cached files instead of copying them.
DVC_TMP = Path(".dvc/tmp")


@contextmanager
def exclusive_lock(purpose: str) -> Iterator[None]:
    """Waits until no other process has the lock of this purpose."""
    DVC_TMP.mkdir(parents=True, exist_ok=True)
    lock = FileLock(DVC_TMP.resolve() / f"{purpose}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print(f"Another {purpose} is running in this directory; this one waits", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
