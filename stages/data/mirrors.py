"""Download of a data set from its mirrors, verified by size and SHA-256.

The addresses and checksums are in datasets.py.
"""

import asyncio
import hashlib
import os
import re
import ssl
import sys
import time
import zlib
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass, url2pathname

import aiohttp

from stages.common.errors import UserError, printable
from stages.common.progress import Progress
from stages.data.datasets import DATASETS, PinnedFile

# Limit of the time until a response starts, and of the time in which attempts are started: a mirror
# without an answer costs at most 16 s.
ANSWER_TIMEOUT_S = 8
# No total timeout, since MIN_BYTES_PER_S limits a download.
TIMEOUT = aiohttp.ClientTimeout(total=None, connect=4, sock_connect=4, sock_read=5)
RETRY_DELAYS_S = (0.5, 1.0, 2.0)
# Average speed, checked after ANSWER_TIMEOUT_S. MNIST's 11 MB then take at most 20 minutes.
MIN_BYTES_PER_S = 10_000
CHUNK_BYTES = 2**16


class DownloadError(Exception):
    """A mirror has no valid copy of a file, or could not be reached in any attempt."""


class VerifiedStream:
    """Decompresses the chunks of one file as they arrive, and verifies the whole.

    Args:
        file: the expected file.
        output: an unbuffered file that gets the decompressed bytes.
        progress: counts the decompressed bytes.
    """

    def __init__(self, file: PinnedFile, output: FileIO, progress: Progress) -> None:
        self.file = file
        self.output = output
        self.progress = progress
        self.size = 0  # decompressed bytes
        self.received = 0  # compressed bytes
        self.sha256 = hashlib.sha256()  # of the .gz file or of its content
        self.gzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # | 16: gzip's format
        self.started = time.monotonic()

    def add(self, chunk: bytes) -> None:
        """Decompresses a chunk.

        Raises:
            DownloadError: the file is too large, or it arrives too slowly.
            UserError: it cannot be written.
            zlib.error: the file is not gzipped, or damaged.
        """
        self.received += len(chunk)
        size = self.file.size
        # One byte more than allowed shows that there is more.
        piece = self.gzip.decompress(chunk, size + 1 - self.size)
        self.sha256.update(chunk if self.file.is_gz_checksum else piece)
        self.size += len(piece)
        self.progress.advance(len(piece))
        try:
            while piece:  # an unbuffered file may take a part
                piece = piece[self.output.write(piece) :]
        except OSError as problem:  # not an error of the mirror
            raise UserError(f"{self.output.name}: {problem.strerror}") from None
        # A valid .gz file is at most 1% larger than its content. This one may have an endless
        # header, or trailing data.
        if self.size > size or self.received > 1.01 * size + 1_024:
            raise DownloadError(f"larger than the expected {size:,} bytes")
        seconds = time.monotonic() - self.started
        if seconds > ANSWER_TIMEOUT_S and self.received < MIN_BYTES_PER_S * seconds:
            raise DownloadError(f"too slow: {self.received:,} bytes in {seconds:.0f} s")

    def verify(self) -> None:
        """Raises DownloadError unless the file is complete and has the pinned checksum."""
        if not self.gzip.eof:
            raise DownloadError(f"ends early, after {self.size:,} of {self.file.size:,} bytes")
        if self.size != self.file.size or self.sha256.hexdigest() != self.file.sha256:
            raise DownloadError("its SHA-256 is not the one in stages/data/datasets.py")


def mirror_variable(dataset: str) -> str:
    """The environment variable for a user's own mirror: MNIST_MIRROR for mnist."""
    return f"{dataset.upper().replace('-', '_')}_MIRROR"


def mirrors(dataset: str) -> list[str]:
    """The mirrors in the order of their use: the user's own, if any, then the public ones."""
    own = os.environ.get(mirror_variable(dataset))
    return [*([own] if own else []), *DATASETS[dataset].mirrors]


def make_mirrors_absolute() -> None:
    """Makes relative paths in the mirrors' variables absolute, for processes in other folders."""
    for name in map(mirror_variable, DATASETS):
        own = os.environ.get(name)
        if own and Path(own).is_dir():
            os.environ[name] = str(Path(own).resolve())


def download_files(
    dataset: str, files: Sequence[PinnedFile], urls: Sequence[str], directory: Path
) -> list[Path]:
    """Downloads files, each from the first mirror that has a valid copy.

    Args:
        dataset: name of the data set, for messages.
        files: the expected files; mirrors serve each as NAME.gz.
        urls: of mirrors, file:, http: or https:, or paths of directories.
        directory: gets the uncompressed files.

    Returns:
        The path of each file, which has the pinned size and SHA-256.

    Raises:
        UserError: no mirror has a valid copy of a file; the message has each mirror's answer.
    """
    paths = [directory / str(index) for index in range(len(files))]
    order = list(urls)
    with Progress(dataset, sum(file.size for file in files), "B") as progress:
        for file, path in zip(files, paths, strict=True):
            reasons = {}
            for mirror in list(order):
                try:
                    download_with_retries(url_of(mirror, file), file, path, progress)
                    break
                except DownloadError as problem:
                    reasons[mirror] = without_password(str(problem), mirror)
                    # Try this mirror last for the other files.
                    order.remove(mirror)
                    order.append(mirror)
            else:
                raise UserError(
                    f"download.dataset is {dataset}; no mirror has a valid {file.name}.gz:\n"
                    + "".join(
                        f"  {without_password(mirror, mirror)}: {reasons[mirror]}\n"
                        for mirror in urls
                    )
                    + f"Set {mirror_variable(dataset)} to a directory or URL with the files, "
                    "or work offline: make quickstart"
                )
            for mirror, reason in reasons.items():
                url = without_password(url_of(mirror, file), mirror)
                print(printable(f"{url}: {reason}"), file=sys.stderr)
            progress.step(f"{file.name} ({file.size:,} bytes)")
    return paths


def without_password(text: str, mirror: str) -> str:
    """The text without the user name and password of a mirror's URL."""
    secret = re.match(r"\w+://(.*)@", mirror, re.DOTALL)
    return text.replace(secret[1], "…") if secret and secret[1] else text


def url_of(mirror: str, file: PinnedFile) -> str:
    return f"{mirror.rstrip('/')}/{file.name}.gz"


def download_with_retries(url: str, file: PinnedFile, path: Path, progress: Progress) -> None:
    """Downloads one file from one mirror to a path; retries errors that may be temporary.

    Raises:
        DownloadError: the mirror has no valid copy.
    """
    started = time.monotonic()
    for delay in (*RETRY_DELAYS_S, None):
        output = path.open("wb", buffering=0)
        stream = VerifiedStream(file, output, progress)
        try:
            with output:
                receive(url, stream)
            stream.verify()
            return
        except DownloadError as problem:
            reason, is_temporary = str(problem), False
        except aiohttp.TooManyRedirects:
            reason, is_temporary = "too many redirects", False
        except aiohttp.ClientResponseError as problem:
            # From 500 on, the server reports an error of its own.
            reason = "not found" if problem.status == 404 else f"HTTP status {problem.status}"
            if isinstance(problem, aiohttp.ClientHttpProxyError):
                reason += through_proxy(url)
            is_temporary = problem.status >= 500
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            reason, is_temporary = "not found", False
        except TimeoutError:
            reason, is_temporary = f"no answer in time{through_proxy(url)}", True
        except aiohttp.InvalidURL:
            reason, is_temporary = "not a valid URL", False
        except (ValueError, RuntimeError) as problem:  # an invalid URL, or no home directory for ~
            reason, is_temporary = str(problem), False
        except (aiohttp.ClientError, OSError) as problem:
            reason, is_temporary = str(problem) or type(problem).__name__, True
            reason += through_proxy(url)
        except zlib.error:
            reason, is_temporary = "not a gzip file, or damaged", False
        progress.advance(-stream.size)
        if not is_temporary or delay is None or time.monotonic() - started > ANSWER_TIMEOUT_S:
            raise DownloadError(reason)
        time.sleep(delay)
    raise AssertionError("the last attempt returns or raises")


def through_proxy(url: str) -> str:
    """Text about the proxy for a URL, which HTTP_PROXY or HTTPS_PROXY sets; empty if there is none.

    The user name and password of the proxy are left out.
    """
    parts = urlsplit(url)
    name = f"{parts.scheme}_proxy"
    proxy = getproxies().get(parts.scheme)
    if not proxy or not parts.hostname or proxy_bypass(parts.hostname):
        return ""
    variable = name if os.environ.get(name) else name.upper()
    return f" (through the proxy {urlsplit(proxy).netloc.rpartition('@')[2]} of {variable})"


def ssl_context() -> ssl.SSLContext:
    """Verifies servers by the system's certificates or SSL_CERT_FILE, and by REQUESTS_CA_BUNDLE.

    Raises:
        UserError: REQUESTS_CA_BUNDLE has no certificates.
    """
    context = ssl.create_default_context()
    if bundle := os.environ.get("REQUESTS_CA_BUNDLE"):
        kind = "capath" if Path(bundle).is_dir() else "cafile"
        try:
            context.load_verify_locations(**{kind: bundle})
        except OSError as problem:
            raise UserError(
                f"REQUESTS_CA_BUNDLE is {bundle}; expected a file of certificates "
                f"({problem.strerror or problem})"
            ) from None
    return context


def receive(url: str, stream: VerifiedStream) -> None:
    """Passes a file to `stream` chunk by chunk.

    Args:
        url: a path, or a file:, http: or https: URL.
        stream: gets the chunks.

    Raises:
        ValueError: the URL is invalid.
        OSError, aiohttp.ClientError, TimeoutError: the file cannot be read.
    """
    parts = urlsplit(url)
    if parts.scheme in ("http", "https"):
        asyncio.run(receive_by_http(url, stream))
    elif parts.scheme in ("", "file"):
        path = Path(url2pathname(parts.path) if parts.scheme else url).expanduser()
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                stream.add(chunk)
    else:
        raise ValueError("not a directory, nor a file:, http: or https: URL")


async def receive_by_http(url: str, stream: VerifiedStream) -> None:
    async with aiohttp.ClientSession(
        timeout=TIMEOUT,
        connector=aiohttp.TCPConnector(ssl=ssl_context()),
        trust_env=True,  # proxies
        raise_for_status=True,
        # Some servers declare the .gz file as gzip-encoded, and aiohttp would decompress it.
        auto_decompress=False,
        headers={"Accept-Encoding": "identity"},
    ) as session:
        # aiohttp's sock_read timeout restarts with each byte, so it does not limit slow headers.
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            response = await session.get(url)
        async with response:
            async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                stream.add(chunk)
