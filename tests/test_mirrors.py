"""Downloads: from a real server that misbehaves in each way."""

import gzip
import hashlib
import itertools
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from types import SimpleNamespace
from typing import NamedTuple

import aiohttp
import numpy as np
import pytest

from stages import download
from stages.data import mirrors as module
from stages.data.datasets import DATASETS, MNIST, PinnedFile
from stages.data.mirrors import fetch, mirrors
from stages.edges.bad_input import BadInput
from tests.project import ROOT, TUTORIAL, activated, set_parameters

PUBLIC = DATASETS["mnist"].mirrors
# Noise, so that zipped it is as large, and arrives in several chunks.
CONTENT = np.random.default_rng(0).bytes(200_000)
ZIPPED = gzip.compress(CONTENT)
FILE = PinnedFile("noise", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
AS_SERVED = FILE._replace(sha256=hashlib.sha256(ZIPPED).hexdigest(), of_gz=True)
OTHER = PinnedFile("letters", 3, hashlib.sha256(b"abc").hexdigest())
# The same block of a gzip file of zeros again and again: 1 MB in about 1 kB.
packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
BOMB_START = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
BOMB_BLOCK = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
# Bound but not listening: nobody else can have the port, and who connects is refused.
DEAF = socket.socket()
DEAF.bind(("127.0.0.1", 0))
CLOSED = f"http://127.0.0.1:{DEAF.getsockname()[1]}"


class Handler(StreamRequestHandler):
    """Answers /behaviour/noise.gz as BEHAVIOURS says, and is the server's side of a connection."""

    server: "Server"

    def handle(self) -> None:
        path = self.rfile.readline().split()[1].decode()
        while self.rfile.readline().strip():
            pass  # a header of the request
        self.server.requests.append(path)
        answers = BEHAVIOURS.get(path.split("/")[1], [MISSING])
        attempt = self.server.requests.count(path)
        answer = LETTERS if path == "/good/letters.gz" else answers[min(attempt, len(answers)) - 1]
        with suppress(ConnectionError):  # the client may have had enough
            self.send(answer.sent)
            answer.then(self)

    def send(self, sent: bytes) -> None:
        self.wfile.write(sent)
        self.server.sent += len(sent)


class Server(ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.closing = threading.Event()
        self.requests: list[str] = []
        self.sent = 0

    def mirror(self, behaviour: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{behaviour}"


def close(_: Handler) -> None:
    """The handler returns, which closes the connection."""


def reset(handler: Handler) -> None:
    # Lingering for 0 s makes close() send a reset.
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def stall(handler: Handler) -> None:
    handler.server.closing.wait(20)


def repeat(block: bytes, pause: float = 0) -> Callable[[Handler], None]:
    def send_again(handler: Handler) -> None:
        for _ in range(1_000):  # or a client that does not give up would make the tests hang
            if handler.server.closing.wait(pause):
                break
            handler.send(block)

    return send_again


class Answer(NamedTuple):
    """What the server sends, and what it does then."""

    sent: bytes
    then: Callable[[Handler], None] = close


def head(*headers: str, status: int = 200) -> bytes:
    # Connection: or the client might ask again on a connection that is about to be closed.
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

SERVING = {
    "good": GOOD,
    "labelled": Answer(whole(ZIPPED, "Content-Encoding: gzip")),
    "chunked": Answer(CHUNKED + chunk(ZIPPED) + chunk(b"")),
    "without_length": Answer(head() + ZIPPED),
    "redirected": Answer(whole(b"", "Location: /good/noise.gz", status=302)),
}
# The answers to the first attempts, one after the other.
RECOVERING = {
    "recovering": [BROKEN, BROKEN, GOOD],
    "resetting_once": [RESETTING_HALF_WAY, GOOD],
}
ONCE, FOUR_TIMES = range(1, 2), range(4, 5)
INCOMPLETE = ".*(not completed|reset).*"
NO_GZIP = "not a gzip file, or a damaged one"
NOT_PINNED = "its content is not the one pinned in stages/data/datasets.py"
TOO_LARGE = "larger than the 200,000 bytes it may be"
# What the user reads of it, and how often it is asked.
BAD = {
    "missing": (MISSING, "not found", ONCE),
    "forbidden": (Answer(whole(b"not for you", status=403)), "HTTP status 403", ONCE),
    "broken": (BROKEN, "HTTP status 500", FOUR_TIMES),
    # aiohttp has a second attempt of its own.
    "resetting": (Answer(b"", reset), ".*(reset|disconnected).*", range(4, 9)),
    "resetting_half_way": (RESETTING_HALF_WAY, INCOMPLETE, FOUR_TIMES),
    "going_round": (
        Answer(whole(b"", "Location: /going_round/noise.gz", status=302)),
        "too many redirects",
        range(2, 13),
    ),
    "page": (Answer(whole(b"<!doctype html><title>Log in</title>" * 99)), NO_GZIP, ONCE),
    "empty": (Answer(whole(b"")), "ends early, after 0 of 200,000 bytes", ONCE),
    "cut_off": (Answer(whole(ZIPPED[:-1_000])), "ends early, after 19.* of 200,000 bytes", ONCE),
    "cut_off_before_its_length": (Answer(PROMISED + ZIPPED[:-1_000]), INCOMPLETE, FOUR_TIMES),
    "cut_off_between_chunks": (Answer(CHUNKED + chunk(ZIPPED[:1_000])), INCOMPLETE, FOUR_TIMES),
    "unzipped": (Answer(whole(CONTENT)), NO_GZIP, ONCE),
    "bad_checksum": (Answer(whole(ZIPPED[:-8] + bytes(8))), NO_GZIP, ONCE),
    "other_content": (Answer(whole(gzip.compress(CONTENT[:-1] + b"!"))), NOT_PINNED, ONCE),
    "shorter_content": (Answer(whole(gzip.compress(CONTENT[:-1]))), NOT_PINNED, ONCE),
    "longer_content": (Answer(whole(gzip.compress(CONTENT + b"!"))), TOO_LARGE, ONCE),
}
ENDLESS = {
    "bomb": Answer(head() + BOMB_START, repeat(BOMB_BLOCK)),
    "going_on": Answer(head() + ZIPPED, repeat(bytes(2**16))),
    # Flag 8: a file name follows, up to a zero byte.
    "endless_header": Answer(head() + b"\x1f\x8b\x08\x08" + bytes(6), repeat(b"a" * 2**16)),
}
HANGING = {
    "silent": Answer(b"", stall),
    "stalling": Answer(PROMISED + ZIPPED[:100_000], stall),
    "trickling": Answer(head("Content-Length: 100000000") + ZIPPED[:1_000], repeat(b"\0", 0.05)),
    "dripping": Answer(PROMISED + ZIPPED[:1_000], repeat(b"a", 0.02)),
    "dripping_headers": Answer(b"HTTP/1.1 200 OK\r\nX-Long: ", repeat(b"a", 0.02)),
}
BEHAVIOURS = {
    **{name: [answer] for name, answer in {**SERVING, **ENDLESS, **HANGING}.items()},
    **{name: [answer] for name, (answer, _, _) in BAD.items()},
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
    running.sent = 0
    return running


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSES", (0.01, 0.02, 0.03))
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "MNIST_MIRROR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def slow_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """PATIENCE seconds pass between two looks of the product at the clock; no test waits."""
    times = itertools.count(step=module.PATIENCE)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=times.__next__))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory that is a mirror."""
    (tmp_path / "a mirror").mkdir()
    (tmp_path / "a mirror/noise.gz").write_bytes(ZIPPED)
    return tmp_path / "a mirror"


OLD = {"x_train.npy": b"old"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the stage runs: its parameters, and an output of an earlier run."""
    set_parameters(tmp_path, TUTORIAL, {"download": {"dataset": "mnist"}})
    (tmp_path / "data/raw").mkdir(parents=True)
    (tmp_path / "data/raw/x_train.npy").write_bytes(OLD["x_train.npy"])
    monkeypatch.chdir(tmp_path)
    # The public mirrors are out of reach.
    monkeypatch.setenv("HTTPS_PROXY", CLOSED)
    return tmp_path


def outputs(project: Path) -> dict[str, bytes]:
    return {
        path.relative_to(project / "data/raw").as_posix(): path.read_bytes()
        for path in (project / "data").rglob("*")
        if path.is_file()
    }


def reason(mirror: str) -> str:
    """Why a mirror that is the only one is refused."""
    with pytest.raises(BadInput) as problem:
        fetch("mnist", [FILE], [mirror])
    _, line, _ = str(problem.value).splitlines()
    assert line.startswith(f"  {mirror}: ")
    return line.removeprefix(f"  {mirror}: ")


@pytest.mark.parametrize("behaviour", SERVING)
def test_ways_to_serve_a_file(server: Server, behaviour: str) -> None:
    assert fetch("mnist", [FILE], [server.mirror(behaviour)]) == [CONTENT]


@pytest.mark.parametrize("behaviour", RECOVERING)
def test_a_mirror_that_recovers_is_asked_again(server: Server, behaviour: str) -> None:
    assert fetch("mnist", [FILE], [server.mirror(behaviour)]) == [CONTENT]
    assert len(server.requests) == len(RECOVERING[behaviour])


@pytest.mark.parametrize("behaviour", BAD)
def test_a_bad_mirror_is_named_and_the_next_one_serves(
    server: Server, behaviour: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, reason, attempts = BAD[behaviour]
    bad = server.mirror(behaviour)
    assert fetch("mnist", [FILE], [bad, server.mirror("good")]) == [CONTENT]
    *refused, last = server.requests
    assert set(refused) == {f"/{behaviour}/noise.gz"}
    assert len(refused) in attempts
    assert last == "/good/noise.gz"
    told, fetched = capsys.readouterr().err.splitlines()
    assert re.fullmatch(f"{re.escape(bad)}/noise.gz: {reason}", told)
    assert fetched == "noise (200,000 bytes), 0 s left"


@pytest.mark.parametrize("behaviour", [*ENDLESS, "a folder"])
def test_what_does_not_end_is_cut_off(server: Server, folder: Path, behaviour: str) -> None:
    (folder / "noise.gz").write_bytes(BOMB_START + 20_000 * BOMB_BLOCK)  # 20 GB
    mirror = str(folder) if behaviour == "a folder" else server.mirror(behaviour)
    tracemalloc.start()
    assert reason(mirror) == TOO_LARGE
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(server.requests) == (0 if behaviour == "a folder" else 1)
    # What lies in the sockets' buffers has been sent, too.
    assert server.sent < 20e6
    assert peak < 5e6


@pytest.mark.parametrize("behaviour", ["silent", "stalling"])
def test_a_mirror_that_stops_answering_is_asked_four_times(
    server: Server, behaviour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT", aiohttp.ClientTimeout(total=20, sock_read=0.1))
    assert reason(server.mirror(behaviour)) == "no answer in time"
    # The server may be slower to take a request than the client is to give it up.
    deadline = time.monotonic() + 30
    while len(server.requests) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_mirror_whose_headers_drip_is_left(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    assert reason(server.mirror("dripping_headers")) == "no answer in time"


@pytest.mark.usefixtures("slow_clock")
def test_patience_has_an_end(server: Server) -> None:
    assert re.fullmatch(r"too slow: 1,\d{3} bytes in 16 s", reason(server.mirror("dripping")))
    # Asked four times by another clock, see BAD.
    assert reason(server.mirror("broken")) == "HTTP status 500"
    assert server.requests == ["/dripping/noise.gz", "/broken/noise.gz"]


def test_a_mirror_that_failed_is_asked_last_for_the_other_files(server: Server) -> None:
    bad, good = server.mirror("missing"), server.mirror("good")
    assert fetch("mnist", [FILE, OTHER, FILE], [bad, good]) == [CONTENT, b"abc", CONTENT]
    assert server.requests == [
        "/missing/noise.gz",
        "/good/noise.gz",
        "/good/letters.gz",
        "/good/noise.gz",
    ]


def test_files_may_come_from_different_mirrors(server: Server, folder: Path) -> None:
    # The directory has no letters.gz.
    assert fetch("mnist", [FILE, OTHER], [str(folder), server.mirror("good")]) == [CONTENT, b"abc"]
    assert server.requests == ["/good/letters.gz"]


def test_a_mirror_of_ones_own_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert mirrors("mnist") == list(PUBLIC)
    monkeypatch.setenv("MNIST_MIRROR", "/a/folder")
    monkeypatch.setenv("FASHION_MNIST_MIRROR", "/another")
    assert mirrors("mnist") == ["/a/folder", *PUBLIC]
    assert mirrors("fashion-mnist") == ["/another", *DATASETS["fashion-mnist"].mirrors]
    monkeypatch.setenv("MNIST_MIRROR", "")
    assert mirrors("mnist") == list(PUBLIC)


def test_a_directory_however_it_is_written(folder: Path) -> None:
    url = folder.as_uri()  # has %20
    with_host = url.replace("file:///", "file://localhost/")
    for mirror in (str(folder), f"{folder}/", os.path.relpath(folder), url, with_host):
        assert fetch("mnist", [FILE], [mirror]) == [CONTENT]


@pytest.mark.parametrize(
    ("mirror", "expected"),
    [
        ("gopher://127.0.0.1/mnist", "neither a folder nor a file:, http: or https: URL"),
        ("dir://x", "neither a folder .*"),
        ("/no/such/folder", "not found"),
        ("file:///no/such/folder", "not found"),
        ("/dev/null", "not found"),
        ("http://[", "Invalid IPv6 URL"),
        ("http://127.0.0.1:99999", ".*0-65535.*"),
        ("data:", ".+"),
        ("jupyter://x", ".+"),
    ],
)
def test_a_mirror_that_is_none_has_its_reason(mirror: str, expected: str) -> None:
    assert re.fullmatch(expected, reason(mirror))


def test_the_stage_without_any_mirror(
    project: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST_MIRROR", server.mirror("page"))
    with pytest.raises(BadInput) as problem:
        download.main()
    first, *reasons, last = str(problem.value).splitlines()
    name = MNIST["x_train"].name
    assert first == f"mnist cannot be downloaded: no mirror has {name}.gz as it should be."
    assert reasons[0] == f"  {server.mirror('page')}: {NO_GZIP}"
    for line, mirror in zip(reasons[1:], PUBLIC, strict=True):
        assert line.startswith(f"  {mirror}: Cannot connect to host 127.0.0.1:")
    assert last == (
        "Set MNIST_MIRROR to a directory or URL with the four files, or go without: make quickstart"
    )
    assert outputs(project) == OLD


def test_the_stage_killed_half_way(project: Path, server: Server) -> None:
    environment = {"MNIST_MIRROR": server.mirror("trickling"), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", "stages.download"], env=activated() | environment
    ) as process:
        deadline = time.monotonic() + 60
        # Until some of the body has been sent, in several pieces.
        while server.sent < len(HANGING["trickling"].sent) + 5:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert server.requests == [f"/trickling/{MNIST['x_train'].name}.gz"]
    assert outputs(project) == OLD

    # The next run clears away what the killed one has left.
    set_parameters(project, {"download": {"dataset": "mnist-5k"}})
    download.main()
    names = ("x_train", "y_train", "x_test", "y_test", "classes")
    assert set(outputs(project)) == {*(f"{name}.npy" for name in names), "SHA256SUMS"}
    subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=project / "data/raw", check=True
    )


def test_a_file_may_be_pinned_as_it_is_served(server: Server, folder: Path) -> None:
    (folder / "noise.gz").write_bytes(gzip.compress(CONTENT, compresslevel=1))
    assert fetch("fashion-mnist", [FILE], [str(folder)]) == [CONTENT]
    with pytest.raises(BadInput, match="its content is not the one pinned"):
        fetch("fashion-mnist", [AS_SERVED], [str(folder)])
    assert fetch("fashion-mnist", [AS_SERVED], [str(folder), server.mirror("good")]) == [CONTENT]


@pytest.mark.parametrize("password", ["secret", "secret/secret", "secret@secret", "secret?#["])
def test_a_password_is_sent_but_never_printed(
    server: Server, password: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def mirror(behaviour: str) -> str:
        return server.mirror(behaviour).replace("http://", f"http://me:{password}@")

    assert fetch("mnist", [FILE], [mirror("missing"), server.mirror("good")]) == [CONTENT]
    assert "secret" not in capsys.readouterr().err
    with pytest.raises(BadInput) as problem:
        fetch("mnist", [FILE], [mirror("forbidden"), mirror("")])
    assert "secret" not in str(problem.value)
    assert server.mirror("forbidden").replace("http://", "  http://…@") in str(problem.value)


def test_what_a_mirror_answers_reaches_no_terminal_raw(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = server.mirror("\x1b[2J")
    assert fetch("mnist", [FILE], [bad, server.mirror("good")]) == [CONTENT]
    assert capsys.readouterr().err.splitlines()[0].isprintable()
