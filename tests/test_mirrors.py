"""Downloads from a local server that behaves well or badly, and from directories."""

import gzip
import hashlib
import itertools
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import NamedTuple

import aiohttp
import numpy as np
import pytest

from stages import download
from stages.common.errors import UserError
from stages.data import mirrors as module
from stages.data.datasets import DATASETS, MNIST, PinnedFile
from stages.data.mirrors import download_files, mirrors
from tests.project import ROOT, TUTORIAL, activated, set_parameters

PUBLIC = DATASETS["mnist"].mirrors
# Random bytes, which gzip does not compress, so that they arrive in several chunks.
CONTENT = np.random.default_rng(0).bytes(200_000)
ZIPPED = gzip.compress(CONTENT)
FILE = PinnedFile("noise", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
COMPRESSED = FILE._replace(sha256=hashlib.sha256(ZIPPED).hexdigest(), is_gz_checksum=True)
OTHER = PinnedFile("letters", 3, hashlib.sha256(b"abc").hexdigest())
# Parts of a gzip file: a start and a block that may be repeated. Each is 1 MB of zeros in 1 kB.
packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
BOMB_START = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
BOMB_BLOCK = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
# This socket does not listen, so connections are refused, and no other process can use the port.
UNUSED = socket.socket()
UNUSED.bind(("127.0.0.1", 0))
REFUSING_URL = f"http://127.0.0.1:{UNUSED.getsockname()[1]}"


class Handler(StreamRequestHandler):
    """Answers a request for /BEHAVIOUR/noise.gz with the answers of BEHAVIOURS, one by one."""

    server: "Server"

    def handle(self) -> None:
        path = self.rfile.readline().split()[1].decode()
        while self.rfile.readline().strip():
            pass  # a header of the request
        self.server.requests.append(path)
        answers = BEHAVIOURS.get(path.split("/")[1], [MISSING])
        attempt = self.server.requests.count(path)
        answer = LETTERS if path == "/good/letters.gz" else answers[min(attempt, len(answers)) - 1]
        with suppress(ConnectionError):  # the client may have closed the connection
            self.send(answer.content)
            answer.then(self)

    def send(self, content: bytes) -> None:
        self.wfile.write(content)
        self.server.bytes_sent += len(content)


class Server(ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.closing = threading.Event()
        self.requests: list[str] = []
        self.bytes_sent = 0

    def mirror(self, behaviour: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{behaviour}"


def close(_: Handler) -> None:
    """Does nothing: the connection is closed when the handler returns."""


def reset(handler: Handler) -> None:
    # With a linger time of 0 s, close() sends a reset.
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def stall(handler: Handler) -> None:
    handler.server.closing.wait(20)


def repeat(block: bytes, pause: float = 0) -> Callable[[Handler], None]:
    def send_again(handler: Handler) -> None:
        for _ in range(1_000):  # a limit, in case the client does not close the connection
            if handler.server.closing.wait(pause):
                break
            handler.send(block)

    return send_again


class Answer(NamedTuple):
    """Bytes that the server sends, and what it does afterwards."""

    content: bytes
    then: Callable[[Handler], None] = close


def head(*headers: str, status: int = 200) -> bytes:
    # Otherwise the client might send its next request on a connection that is being closed.
    lines = [f"HTTP/1.1 {status} Reason", "Connection: close", *headers]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def whole(body: bytes, *headers: str, status: int = 200) -> bytes:
    return head(f"Content-Length: {len(body)}", *headers, status=status) + body


def chunk(body: bytes) -> bytes:
    return f"{len(body):x}\r\n".encode() + body + b"\r\n"


CHUNKED = head("Transfer-Encoding: chunked")
PROMISED = head(f"Content-Length: {len(ZIPPED)}")
GOOD = Answer(whole(ZIPPED))
LETTERS = Answer(whole(gzip.compress(b"abc")))
MISSING = Answer(whole(b"no such file", status=404))
BROKEN = Answer(whole(b"oh", status=500))
RESETTING_HALF_WAY = Answer(PROMISED + ZIPPED[:100_000], reset)

VALID = {
    "good": GOOD,
    "encoded": Answer(whole(ZIPPED, "Content-Encoding: gzip")),
    "chunked": Answer(CHUNKED + chunk(ZIPPED) + chunk(b"")),
    "without_length": Answer(head() + ZIPPED),
    "redirected": Answer(whole(b"", "Location: /good/noise.gz", status=302)),
}
# The answers to the first attempts, in this order; later attempts get the last one.
RECOVERING = {
    "recovering": [BROKEN, BROKEN, GOOD],
    "resetting_once": [RESETTING_HALF_WAY, GOOD],
}
ONCE, FOUR_TIMES = range(1, 2), range(4, 5)
INCOMPLETE = ".*(not completed|reset).*"
NO_GZIP = "not a gzip file, or damaged"
WRONG_SHA256 = "its SHA-256 is not the one in stages/data/datasets.py"
TOO_LARGE = "larger than the expected 200,000 bytes"
# An answer, its message for the user, and the number of attempts.
INVALID = {
    "missing": (MISSING, "not found", ONCE),
    "forbidden": (Answer(whole(b"not for you", status=403)), "HTTP status 403", ONCE),
    "broken": (BROKEN, "HTTP status 500", FOUR_TIMES),
    # aiohttp itself tries a second time.
    "resetting": (Answer(b"", reset), ".*(reset|disconnected).*", range(4, 9)),
    "resetting_half_way": (RESETTING_HALF_WAY, INCOMPLETE, FOUR_TIMES),
    "redirect_loop": (
        Answer(whole(b"", "Location: /redirect_loop/noise.gz", status=302)),
        "too many redirects",
        range(2, 13),
    ),
    "page": (Answer(whole(b"<!doctype html><title>Log in</title>" * 99)), NO_GZIP, ONCE),
    "empty": (Answer(whole(b"")), "ends early, after 0 of 200,000 bytes", ONCE),
    "truncated": (Answer(whole(ZIPPED[:-1_000])), "ends early, after 19.* of 200,000 bytes", ONCE),
    "closed_before_content_length": (Answer(PROMISED + ZIPPED[:-1_000]), INCOMPLETE, FOUR_TIMES),
    "closed_between_chunks": (Answer(CHUNKED + chunk(ZIPPED[:1_000])), INCOMPLETE, FOUR_TIMES),
    "uncompressed": (Answer(whole(CONTENT)), NO_GZIP, ONCE),
    "bad_crc": (Answer(whole(ZIPPED[:-8] + bytes(8))), NO_GZIP, ONCE),
    "other_content": (Answer(whole(gzip.compress(CONTENT[:-1] + b"!"))), WRONG_SHA256, ONCE),
    "shorter_content": (Answer(whole(gzip.compress(CONTENT[:-1]))), WRONG_SHA256, ONCE),
    "longer_content": (Answer(whole(gzip.compress(CONTENT + b"!"))), TOO_LARGE, ONCE),
}
ENDLESS = {
    "zip_bomb": Answer(head() + BOMB_START, repeat(BOMB_BLOCK)),
    "data_after_the_end": Answer(head() + ZIPPED, repeat(bytes(2**16))),
    # Flag 8 of gzip: a file name follows, which ends with a zero byte.
    "endless_header": Answer(head() + b"\x1f\x8b\x08\x08" + bytes(6), repeat(b"a" * 2**16)),
}
HANGING = {
    "no_answer": Answer(b"", stall),
    "stalling": Answer(PROMISED + ZIPPED[:100_000], stall),
    "slow_and_large": Answer(
        head("Content-Length: 100000000") + ZIPPED[:1_000], repeat(b"\0", 0.05)
    ),
    "slow": Answer(PROMISED + ZIPPED[:1_000], repeat(b"a", 0.02)),
    "slow_headers": Answer(b"HTTP/1.1 200 OK\r\nX-Long: ", repeat(b"a", 0.02)),
}
BEHAVIOURS = {
    **{name: [answer] for name, answer in {**VALID, **ENDLESS, **HANGING}.items()},
    **{name: [answer] for name, (answer, _, _) in INVALID.items()},
    **RECOVERING,
}


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def server(running: Server) -> Server:
    running.requests.clear()
    running.bytes_sent = 0
    return running


@pytest.fixture(autouse=True)
def fast_and_without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short delays before retries, and none of the user's proxies and mirrors."""
    monkeypatch.setattr(module, "RETRY_DELAYS_S", (0.01, 0.02, 0.03))
    proxies = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    for name in (*proxies, "MNIST_MIRROR", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def slow_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that advances by ANSWER_TIMEOUT_S whenever the product reads it."""
    times = itertools.count(step=module.ANSWER_TIMEOUT_S)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=times.__next__))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory that serves as a mirror."""
    (tmp_path / "a mirror").mkdir()
    (tmp_path / "a mirror/noise.gz").write_bytes(ZIPPED)
    return tmp_path / "a mirror"


OLD = {"x_train.npy": b"old"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Working directory of the stage, with params.yaml and the output of an earlier run."""
    set_parameters(tmp_path, TUTORIAL, {"download": {"dataset": "mnist"}})
    (tmp_path / "data/raw").mkdir(parents=True)
    (tmp_path / "data/raw/x_train.npy").write_bytes(OLD["x_train.npy"])
    monkeypatch.chdir(tmp_path)
    # The public mirrors cannot be reached.
    monkeypatch.setenv("HTTPS_PROXY", REFUSING_URL)
    return tmp_path


def outputs(project: Path) -> dict[str, bytes]:
    return {
        os.path.relpath(path, project / "data/raw"): path.read_bytes()
        for path in (project / "data").rglob("*")
        if path.is_file()
    }


def downloaded(dataset: str, files: list[PinnedFile], mirrors: list[str]) -> list[bytes]:
    with TemporaryDirectory() as directory:
        paths = download_files(dataset, files, mirrors, Path(directory))
        return [path.read_bytes() for path in paths]


def error_message(mirror: str) -> str:
    """The message about a mirror, if it is the only one and has no valid file."""
    with pytest.raises(UserError) as problem:
        downloaded("mnist", [FILE], [mirror])
    _, line, _ = str(problem.value).splitlines()
    assert line.startswith(f"  {mirror}: ")
    return line.removeprefix(f"  {mirror}: ")


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy"])
def test_a_proxy_that_does_not_answer_is_named_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    address = REFUSING_URL.removeprefix("http://")
    monkeypatch.setenv(variable, f"http://user:secret@{address}")
    message = error_message("https://example.org/mnist")
    assert message.endswith(f" (through the proxy {address} of {variable})")
    assert "secret" not in message
    monkeypatch.setenv("no_proxy", "localhost")
    assert "proxy" not in error_message("https://localhost:1/mnist")


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_certificate_authority_of_the_user_is_heeded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    if not shutil.which("openssl"):
        pytest.skip("needs openssl")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", "key.pem", "-out", "certificate.pem"),
        ],
        cwd=folder.parent,
        check=True,
        stderr=subprocess.DEVNULL,
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder.parent / "certificate.pem", folder.parent / "key.pem")
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("localhost", 0), handler) as https:
        https.socket = context.wrap_socket(https.socket, server_side=True)
        threading.Thread(target=https.serve_forever, daemon=True).start()
        url = f"https://localhost:{https.server_port}"
        assert "CERTIFICATE_VERIFY_FAILED" in error_message(url)
        monkeypatch.setenv(variable, str(folder.parent / "certificate.pem"))
        assert downloaded("mnist", [FILE], [url]) == [CONTENT]
        https.shutdown()


def test_certificates_that_cannot_be_read_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere.pem")
    with pytest.raises(UserError) as problem:
        downloaded("mnist", [FILE], [REFUSING_URL])
    assert str(problem.value) == (
        "REQUESTS_CA_BUNDLE is /nowhere.pem; expected a file of certificates "
        "(No such file or directory)"
    )


@pytest.mark.parametrize("behaviour", VALID)
def test_a_valid_file_is_downloaded(server: Server, behaviour: str) -> None:
    assert downloaded("mnist", [FILE], [server.mirror(behaviour)]) == [CONTENT]


@pytest.mark.parametrize("behaviour", RECOVERING)
def test_a_temporary_error_is_retried(server: Server, behaviour: str) -> None:
    assert downloaded("mnist", [FILE], [server.mirror(behaviour)]) == [CONTENT]
    assert len(server.requests) == len(RECOVERING[behaviour])


@pytest.mark.parametrize("behaviour", INVALID)
def test_after_a_bad_mirror_the_next_one_is_used(
    server: Server, behaviour: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, message, attempts = INVALID[behaviour]
    bad = server.mirror(behaviour)
    assert downloaded("mnist", [FILE], [bad, server.mirror("good")]) == [CONTENT]
    *first, last = server.requests
    assert set(first) == {f"/{behaviour}/noise.gz"}
    assert len(first) in attempts
    assert last == "/good/noise.gz"
    warning, progress = capsys.readouterr().err.splitlines()
    assert re.fullmatch(f"{re.escape(bad)}/noise.gz: {message}", warning)
    assert progress == "noise (200,000 bytes)"


@pytest.mark.parametrize("behaviour", [*ENDLESS, "a folder"])
def test_an_endless_file_is_refused_early(server: Server, folder: Path, behaviour: str) -> None:
    (folder / "noise.gz").write_bytes(BOMB_START + 20_000 * BOMB_BLOCK)  # 20 GB
    mirror = str(folder) if behaviour == "a folder" else server.mirror(behaviour)
    tracemalloc.start()
    assert error_message(mirror) == TOO_LARGE
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(server.requests) == (0 if behaviour == "a folder" else 1)
    # The server has also sent what is in the buffers of sockets.
    assert server.bytes_sent < 20e6
    assert peak < 5e6  # bytes


@pytest.mark.parametrize("behaviour", ["no_answer", "stalling"])
def test_a_mirror_that_does_not_answer_is_tried_four_times(
    server: Server, behaviour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT", aiohttp.ClientTimeout(total=20, sock_read=0.1))
    assert error_message(server.mirror(behaviour)) == "no answer in time"
    # The server may count a request after the client has given it up.
    deadline = time.monotonic() + 30
    while len(server.requests) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_slow_headers_reach_the_time_limit(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_TIMEOUT_S", 0.2)
    assert error_message(server.mirror("slow_headers")) == "no answer in time"


@pytest.mark.usefixtures("slow_clock")
def test_slow_downloads_and_retries_have_a_time_limit(server: Server) -> None:
    assert re.fullmatch(r"too slow: 1,\d{3} bytes in 16 s", error_message(server.mirror("slow")))
    # With the real clock there would be four attempts, see INVALID.
    assert error_message(server.mirror("broken")) == "HTTP status 500"
    assert server.requests == ["/slow/noise.gz", "/broken/noise.gz"]


def test_a_full_disk_is_not_an_error_of_the_mirror(folder: Path, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    (tmp_path / "0").symlink_to("/dev/full")
    with pytest.raises(UserError) as problem:
        download_files("mnist", [FILE], [str(folder)], tmp_path)
    assert str(problem.value) == f"{tmp_path}/0: No space left on device"


def test_a_mirror_that_failed_is_the_last_one_for_other_files(server: Server) -> None:
    bad, good = server.mirror("missing"), server.mirror("good")
    assert downloaded("mnist", [FILE, OTHER, FILE], [bad, good]) == [CONTENT, b"abc", CONTENT]
    assert server.requests == [
        "/missing/noise.gz",
        "/good/noise.gz",
        "/good/letters.gz",
        "/good/noise.gz",
    ]


def test_files_may_come_from_different_mirrors(server: Server, folder: Path) -> None:
    # The directory has no letters.gz.
    assert downloaded("mnist", [FILE, OTHER], [str(folder), server.mirror("good")]) == [
        CONTENT,
        b"abc",
    ]
    assert server.requests == ["/good/letters.gz"]


def test_the_users_mirror_is_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert mirrors("mnist") == list(PUBLIC)
    monkeypatch.setenv("MNIST_MIRROR", "/a/folder")
    monkeypatch.setenv("FASHION_MNIST_MIRROR", "/another")
    assert mirrors("mnist") == ["/a/folder", *PUBLIC]
    assert mirrors("fashion-mnist") == ["/another", *DATASETS["fashion-mnist"].mirrors]
    monkeypatch.setenv("MNIST_MIRROR", "")
    assert mirrors("mnist") == list(PUBLIC)


def test_a_directory_may_be_a_path_or_a_url(folder: Path) -> None:
    url = folder.as_uri()  # has %20
    with_host = url.replace("file:///", "file://localhost/")
    for mirror in (str(folder), f"{folder}/", os.path.relpath(folder), url, with_host):
        assert downloaded("mnist", [FILE], [mirror]) == [CONTENT]


@pytest.mark.parametrize(
    ("mirror", "expected"),
    [
        ("gopher://127.0.0.1/mnist", "not a directory, nor a file:, http: or https: URL"),
        ("dir://x", "not a directory, .*"),
        ("/no/such/folder", "not found"),
        ("file:///no/such/folder", "not found"),
        ("/dev/null", "not found"),
        ("http://[", "Invalid IPv6 URL"),
        ("http://127.0.0.1:99999", "not a valid URL"),
        ("data:", ".+"),
        ("jupyter://x", ".+"),
    ],
)
def test_an_invalid_mirror_is_refused(mirror: str, expected: str) -> None:
    assert re.fullmatch(expected, error_message(mirror))


def test_the_stage_names_all_mirrors_if_none_is_valid(
    project: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST_MIRROR", server.mirror("page"))
    with pytest.raises(UserError) as problem:
        download.main()
    first, *reasons, last = str(problem.value).splitlines()
    name = MNIST["x_train"].name
    assert first == f"download.dataset is mnist; no mirror has a valid {name}.gz:"
    assert reasons[0] == f"  {server.mirror('page')}: {NO_GZIP}"
    for line, mirror in zip(reasons[1:], PUBLIC, strict=True):
        assert line.startswith(f"  {mirror}: Cannot connect to host 127.0.0.1:")
    assert last == (
        "Set MNIST_MIRROR to a directory or URL with the files, or work offline: make quickstart"
    )
    assert outputs(project) == OLD


def test_after_a_kill_of_the_stage_the_next_run_succeeds(project: Path, server: Server) -> None:
    environment = {"MNIST_MIRROR": server.mirror("slow_and_large"), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", "stages.download"], env=activated() | environment
    ) as process:
        deadline = time.monotonic() + 60
        # Until several pieces of the body have been sent.
        while server.bytes_sent < len(HANGING["slow_and_large"].content) + 5:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert server.requests == [f"/slow_and_large/{MNIST['x_train'].name}.gz"]
    left = outputs(project)
    (partial,) = set(left) - set(OLD)
    assert partial.startswith("../partial-raw/")
    assert left.items() >= OLD.items()

    # The next run removes the partial files of the killed one.
    set_parameters(project, {"download": {"dataset": "mnist-5k"}})
    download.main()
    names = ("x_train", "y_train", "x_test", "y_test", "classes")
    assert set(outputs(project)) == {*(f"{name}.npy" for name in names), "SHA256SUMS"}
    subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=project / "data/raw", check=True
    )


def test_a_checksum_may_be_that_of_the_compressed_file(server: Server, folder: Path) -> None:
    (folder / "noise.gz").write_bytes(gzip.compress(CONTENT, compresslevel=1))
    assert downloaded("fashion-mnist", [FILE], [str(folder)]) == [CONTENT]
    with pytest.raises(UserError, match=WRONG_SHA256):
        downloaded("fashion-mnist", [COMPRESSED], [str(folder)])
    both = [str(folder), server.mirror("good")]
    assert downloaded("fashion-mnist", [COMPRESSED], both) == [CONTENT]


@pytest.mark.parametrize("password", ["secret", "secret/secret", "secret@secret", "secret?#["])
def test_a_password_is_sent_but_never_printed(
    server: Server, password: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def mirror(behaviour: str) -> str:
        return server.mirror(behaviour).replace("http://", f"http://me:{password}@")

    assert downloaded("mnist", [FILE], [mirror("missing"), server.mirror("good")]) == [CONTENT]
    assert "secret" not in capsys.readouterr().err
    with pytest.raises(UserError) as problem:
        downloaded("mnist", [FILE], [mirror("forbidden"), mirror("")])
    assert "secret" not in str(problem.value)
    assert server.mirror("forbidden").replace("http://", "  http://…@") in str(problem.value)


def test_control_characters_of_a_mirror_are_escaped(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = server.mirror("\x1b[2J")
    assert downloaded("mnist", [FILE], [bad, server.mirror("good")]) == [CONTENT]
    assert capsys.readouterr().err.splitlines()[0].isprintable()
