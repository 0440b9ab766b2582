"""Where the bytes of a data set come from: mirrors, tried in turn, none of them trusted.

What counts is pinned in datasets.py; a copy that differs from it is refused.
"""

import asyncio
import hashlib
import io
import os
import re
import sys
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import aiohttp
import fsspec

from stages.data.datasets import DATASETS, PinnedFile
from stages.edges.bad_input import BadInput, printable
from stages.edges.progress import Progress

# Seconds. A mirror that never answers costs at most PATIENCE and one more attempt, so three of
# them are given up within a minute.
TIMEOUT = aiohttp.ClientTimeout(total=600, connect=4, sock_connect=4, sock_read=5)
PATIENCE = 8
PAUSES = (0.5, 1.0, 2.0)
# Bytes a second, on an average that counts from PATIENCE on. MNIST's 11 MB then take 20 minutes.
LEAST_RATE = 10_000


class Refused(Exception):
    """A mirror's copy that cannot be used; the message says why. No retry would help."""


class Unzipped(io.RawIOBase):
    """A file that unzips what is written to it, and refuses more than `limit` bytes."""

    def __init__(self, limit: int, progress: Progress) -> None:
        self.content = bytearray()
        self.received = 0
        self.gz_sha256 = hashlib.sha256()
        self.unzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # | 16: gzip
        self.limit = limit
        self.progress = progress
        self.started = time.monotonic()
        self.answered = True  # no HTTP server is asked

    def write(self, chunk: bytes) -> int:  # type: ignore[override]
        self.received += len(chunk)
        self.gz_sha256.update(chunk)
        # A byte more than may come, to tell that there is more.
        piece = self.unzip.decompress(chunk, self.limit + 1 - len(self.content))
        self.content += piece
        self.progress.advance(len(piece))
        # Zipped it is never much larger, unless something follows it or its header does not end.
        if len(self.content) > self.limit or self.received > 1.01 * self.limit + 1_024:
            raise Refused(f"larger than the {self.limit:,} bytes it may be")
        seconds = time.monotonic() - self.started
        if seconds > PATIENCE and self.received < LEAST_RATE * seconds:
            raise Refused(f"too slow: {self.received:,} bytes in {seconds:.0f} s")
        return len(chunk)


def variable(dataset: str) -> str:
    """The environment variable that names a mirror of one's own: MNIST_MIRROR for mnist."""
    return f"{dataset.upper().replace('-', '_')}_MIRROR"


def mirrors(dataset: str) -> list[str]:
    """The mirrors in the order to try: one's own where it is set, then the public ones."""
    own = os.environ.get(variable(dataset))
    return [*([own] if own else []), *DATASETS[dataset].mirrors]


def make_mirrors_absolute() -> None:
    """Lets processes in other folders find a mirror that is given as a relative path."""
    for name in map(variable, DATASETS):
        own = os.environ.get(name)
        if own and Path(own).is_dir():
            os.environ[name] = str(Path(own).resolve())


def fetch(dataset: str, files: Sequence[PinnedFile], mirrors: Sequence[str]) -> list[bytes]:
    """Fetches files, each from the first mirror that has it as it is pinned.

    Args:
        dataset: its name, as in DATASETS, for people to read.
        files: what to fetch; a mirror holds each gzipped, as `name`.gz.
        mirrors: directories, or file:, http: or https: URLs.

    Returns:
        The uncompressed content of each file, of the pinned size and SHA-256.

    Raises:
        BadInput: no mirror has one of the files; the message says what each one answered.
    """
    contents = []
    order = list(mirrors)
    with Progress(dataset, sum(file.size for file in files), "B") as progress:
        for file in files:
            reasons = {}
            for mirror in list(order):
                try:
                    contents.append(fetch_patiently(location(mirror, file), file, progress))
                    break
                except Refused as problem:
                    reasons[mirror] = without_password(str(problem), mirror)
                    # The other files are asked of it last.
                    order.remove(mirror)
                    order.append(mirror)
            else:
                raise BadInput(
                    f"{dataset} cannot be downloaded: "
                    f"no mirror has {file.name}.gz as it should be.\n"
                    + "".join(
                        f"  {without_password(mirror, mirror)}: {reasons[mirror]}\n"
                        for mirror in mirrors
                    )
                    + f"Set {variable(dataset)} to a directory or URL with the four files, "
                    "or go without: make quickstart"
                )
            for mirror, reason in reasons.items():
                url = without_password(location(mirror, file), mirror)
                print(printable(f"{url}: {reason}"), file=sys.stderr)
            progress.step(f"{file.name} ({file.size:,} bytes)")
    return contents


def without_password(text: str, mirror: str) -> str:
    """The text without what stands before the host of a mirror's URL: a name and a password."""
    secret = re.match(r"\w+://(.*)@", mirror, re.DOTALL)
    return text.replace(secret[1], "…") if secret and secret[1] else text


def location(mirror: str, file: PinnedFile) -> str:
    return f"{mirror.rstrip('/')}/{file.name}.gz"


def fetch_patiently(url: str, file: PinnedFile, progress: Progress) -> bytes:
    """Fetches one file from one mirror, again after growing pauses where that can help.

    Raises:
        Refused: the mirror does not have it as it is pinned.
    """
    started = time.monotonic()
    for pause in (*PAUSES, None):
        sink = Unzipped(file.size, progress)
        try:
            filesystem, path = located(url, sink)
            filesystem.get_file(path, sink, chunk_size=2**16)
            if not sink.answered:
                raise TimeoutError
            return checked(sink, file)
        except Refused as problem:
            reason, again = str(problem), False
        except aiohttp.TooManyRedirects:
            reason, again = "too many redirects", False
        except aiohttp.ClientResponseError as problem:
            # The server has understood and says no, or (from 500) has a fault of its own.
            reason, again = f"HTTP status {problem.status}", problem.status >= 500
        except (FileNotFoundError, NotADirectoryError):
            reason, again = "not found", False
        except TimeoutError:
            reason, again = "no answer in time", True
        except (aiohttp.ClientError, OSError) as problem:
            reason, again = str(problem) or type(problem).__name__, True
        except zlib.error:
            reason, again = "not a gzip file, or a damaged one", False
        except (ValueError, TypeError, ImportError) as problem:  # a URL that is none for fsspec
            reason, again = str(problem), False
        progress.advance(-len(sink.content))
        if not again or pause is None or time.monotonic() - started > PATIENCE:
            raise Refused(reason)
        time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def located(url: str, sink: Unzipped) -> tuple[Any, str]:
    """The file system that a URL or path is on, and the path there."""
    parts = urlsplit(url)
    if parts.scheme not in ("", "file", "http", "https"):
        raise ValueError("neither a folder nor a file:, http: or https: URL")
    if parts.scheme == "file":
        # fsspec would look for a folder named a%20b.
        url = url2pathname(parts.path)
    # Some servers take the gzip format for an encoding, which aiohttp would undo.
    plain = {"auto_decompress": False, "headers": {"Accept-Encoding": "identity"}}
    kwargs = {"timeout": TIMEOUT, "trust_env": True, "trace_configs": [hurried(sink)], **plain}
    filesystem, path = fsspec.url_to_fs(url, client_kwargs=kwargs)
    return filesystem, path


def hurried(sink: Unzipped) -> aiohttp.TraceConfig:
    """Ends a request whose answer has not begun after PATIENCE; `sink.answered` tells.

    For aiohttp's own limits a header that comes byte by byte is an answer in time.
    """

    async def start(_: Any, context: Any, __: Any) -> None:
        sink.answered = False
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        context.timer = asyncio.get_running_loop().call_later(PATIENCE, task.cancel)

    async def end(_: Any, context: Any, __: Any) -> None:
        sink.answered = True
        context.timer.cancel()

    async def fail(_: Any, context: Any, __: Any) -> None:
        context.timer.cancel()

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(start)
    trace.on_request_end.append(end)
    trace.on_request_exception.append(fail)
    return trace


def checked(sink: Unzipped, file: PinnedFile) -> bytes:
    """The content of a file that has arrived, if it is what is pinned; else raises Refused."""
    if not sink.unzip.eof:
        raise Refused(f"ends early, after {len(sink.content):,} of {file.size:,} bytes")
    digest = sink.gz_sha256 if file.of_gz else hashlib.sha256(sink.content)
    if len(sink.content) != file.size or digest.hexdigest() != file.sha256:
        raise Refused("its content is not the one pinned in stages/data/datasets.py")
    return bytes(sink.content)
