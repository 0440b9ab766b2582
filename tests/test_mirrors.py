"""Against a real server that misbehaves in each way."""

import gzip
import hashlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from stages.data import mirrors as module
from stages.data.datasets import DATASETS, MNIST, PinnedFile
from stages.data.mirrors import fetch, mirrors
from stages.edges.bad_input import BadInput
from tests.project import ROOT, TUTORIAL, set_parameters

PUBLIC = DATASETS["mnist"].mirrors
# Noise, so that zipped it is as large, and arrives in several chunks.
CONTENT = np.random.default_rng(0).bytes(200_000)
ZIPPED = gzip.compress(CONTENT)
FILE = PinnedFile("noise", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
AS_SERVED = FILE._replace(sha256=hashlib.sha256(ZIPPED).hexdigest(), of_gz=True)
OTHER = PinnedFile("letters", 3, hashlib.sha256(b"abc").hexdigest())
# Ever the same block of a gzip file of zeros: 1 MB in about 1 kB, as often as one likes.
packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
BOMB_START = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
BOMB_BLOCK = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
# Bound but not listening: nobody else can have the port, and who connects is refused.
DEAF = socket.socket()
DEAF.bind(("127.0.0.1", 0))


class Handler(BaseHTTPRequestHandler):
    """Answers /behaviour/name.gz as `behaviour` does."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self) -> None:
        self.close_connection = True
        self.server.requests.append(self.path)
        with suppress(ConnectionError):  # the other side may have had enough
            getattr(self, self.path.split("/")[1])()

    def log_message(self, *_: object) -> None:
        pass

    def end_headers(self) -> None:
        # Untold, a client may ask again on a connection that is about to be closed.
        self.send_header("Connection", "close")
        super().end_headers()

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.send(body)

    def send(self, body: bytes) -> None:
        self.wfile.write(body)
        self.server.sent += len(body)

    def reset(self) -> None:
        # Lingering for 0 s makes close() send a reset.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def good(self) -> None:
        name = self.path.split("/")[-1]
        body = {"noise.gz": ZIPPED, "letters.gz": gzip.compress(b"abc")}
        self.answer(200, body[name])

    def labelled(self) -> None:
        self.answer(200, ZIPPED, Content_Encoding="gzip")

    def chunked(self) -> None:
        self.answer_in_chunks(f"{len(ZIPPED):x}\r\n".encode() + ZIPPED + b"\r\n0\r\n\r\n")

    def answer_in_chunks(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.send(body)

    def without_length(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.send(ZIPPED)

    def redirected(self) -> None:
        self.answer(302, b"", Location=self.path.replace("redirected", "good"))

    def missing(self) -> None:
        self.answer(404, b"no such file")

    def forbidden(self) -> None:
        self.answer(403, b"not for you")

    def broken(self) -> None:
        self.answer(500, b"oh")

    def recovering(self) -> None:
        if self.server.requests.count(self.path) < 3:
            self.broken()
        else:
            self.good()

    def resetting(self) -> None:
        self.reset()

    def resetting_half_way(self) -> None:
        self.answer(200, ZIPPED[:100_000], Content_Length=str(len(ZIPPED)))
        self.reset()

    def resetting_once(self) -> None:
        if self.server.requests.count(self.path) == 1:
            self.resetting_half_way()
        else:
            self.good()

    def silent(self) -> None:
        self.server.closing.wait(20)

    def stalling(self) -> None:
        self.answer(200, ZIPPED[:100_000], Content_Length=str(len(ZIPPED)))
        self.server.closing.wait(20)

    def trickling(self) -> None:
        self.answer(200, ZIPPED[:1_000], Content_Length=str(10**8))
        while not self.server.closing.wait(0.05):
            self.send(b"\0")

    def dripping(self) -> None:
        self.answer(200, ZIPPED[:1_000], Content_Length=str(len(ZIPPED)))
        self.drip()

    def dripping_headers(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        self.drip()

    def drip(self) -> None:
        while not self.server.closing.wait(0.02):
            self.send(b"a")

    def going_round(self) -> None:
        self.answer(302, b"", Location=self.path)

    def page(self) -> None:
        self.answer(200, b"<!doctype html><title>Log in to the network</title>" * 99)

    def empty(self) -> None:
        self.answer(200, b"")

    def cut_off(self) -> None:
        self.answer(200, ZIPPED[:-1_000])

    def cut_off_before_its_length(self) -> None:
        self.answer(200, ZIPPED[:-1_000], Content_Length=str(len(ZIPPED)))

    def cut_off_between_chunks(self) -> None:
        self.answer_in_chunks(b"3e8\r\n" + ZIPPED[:1_000] + b"\r\n")

    def unzipped(self) -> None:
        self.answer(200, CONTENT)

    def bad_checksum(self) -> None:
        self.answer(200, ZIPPED[:-8] + bytes(8))

    def other_content(self) -> None:
        self.answer(200, gzip.compress(CONTENT[:-1] + b"!"))

    def shorter_content(self) -> None:
        self.answer(200, gzip.compress(CONTENT[:-1]))

    def longer_content(self) -> None:
        self.answer(200, gzip.compress(CONTENT + b"!"))

    def bomb(self) -> None:
        self.endless(BOMB_START, BOMB_BLOCK)

    def going_on(self) -> None:
        self.endless(ZIPPED, bytes(2**16))

    def endless_header(self) -> None:
        # Flag 8: a file name follows, up to a zero byte.
        self.endless(b"\x1f\x8b\x08\x08" + bytes(6), b"a" * 2**16)

    def endless(self, start: bytes, block: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        self.send(start)
        while not self.server.closing.is_set():
            self.send(block)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.closing = threading.Event()
        self.requests: list[str] = []
        self.sent = 0

    def mirror(self, behaviour: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{behaviour}"


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
    for name in ("http_proxy", "https_proxy", "all_proxy", "MNIST_MIRROR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def brief_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """For servers that never answer; an honest one may take longer on a busy machine."""
    timeout = aiohttp.ClientTimeout(total=20, connect=2, sock_connect=2, sock_read=0.3)
    monkeypatch.setattr(module, "TIMEOUT", timeout)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory that is a mirror."""
    (tmp_path / "a mirror").mkdir()
    (tmp_path / "a mirror/noise.gz").write_bytes(ZIPPED)
    return tmp_path / "a mirror"


def closed_port() -> int:
    return int(DEAF.getsockname()[1])


def project_copy(folder: Path) -> Path:
    """What the stage needs of the project, and outputs of an earlier run."""
    shutil.copytree(ROOT / "stages", folder / "stages")
    set_parameters(folder, TUTORIAL, {"download": {"dataset": "mnist"}})
    (folder / "data/raw").mkdir(parents=True)
    (folder / "data/raw/x_train.npy").write_bytes(b"old")
    return folder


def outputs(project: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(project)): path.read_bytes()
        for path in (project / "data").rglob("*")
        if path.is_file()
    }


OLD = {"data/raw/x_train.npy": b"old"}


def environment(mirror: str) -> dict[str, str]:
    """The public mirrors are out of reach, behind a proxy that does not exist."""
    dead = "http://127.0.0.1:9"
    return os.environ | {"MNIST_MIRROR": mirror, "HTTPS_PROXY": dead, "https_proxy": dead}


class InVain:
    """A stage that finds no mirror; it takes 10 s, during which other tests can run."""

    def __init__(self, project: Path) -> None:
        self.project = project_copy(project)
        self.mirror = f"http://127.0.0.1:{closed_port()}"
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stages.download"],
            cwd=project,
            env=environment(self.mirror),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def seconds(self) -> float:
        return time.monotonic() - self.started


@pytest.fixture(scope="module", autouse=True)
def in_vain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InVain]:
    started = InVain(tmp_path_factory.mktemp("in_vain"))
    yield started
    started.process.kill()
    started.process.communicate()


@pytest.mark.parametrize(
    "behaviour", ["good", "labelled", "chunked", "without_length", "redirected"]
)
def test_ways_to_serve_a_file(server: Server, behaviour: str) -> None:
    assert fetch("mnist", [FILE], [server.mirror(behaviour)]) == [CONTENT]


@pytest.mark.parametrize(("behaviour", "attempts"), [("recovering", 3), ("resetting_once", 2)])
def test_a_mirror_that_recovers_is_asked_again(
    server: Server, behaviour: str, attempts: int
) -> None:
    assert fetch("mnist", [FILE], [server.mirror(behaviour)]) == [CONTENT]
    assert len(server.requests) == attempts


@pytest.mark.parametrize(
    ("behaviour", "reason", "attempts"),
    [
        ("missing", "not found", 1),
        ("forbidden", "HTTP status 403", 1),
        ("broken", "HTTP status 500", 4),
        ("resetting_half_way", ".*(reset|not completed).*", 4),
        ("page", "not a gzip file, or a damaged one", 1),
        ("empty", "ends early, after 0 of 200,000 bytes", 1),
        ("cut_off", r"ends early, after 19\d,\d{3} of 200,000 bytes", 1),
        ("cut_off_before_its_length", ".*not completed.*", 4),
        ("cut_off_between_chunks", ".*not completed.*", 4),
        ("unzipped", "not a gzip file, or a damaged one", 1),
        ("bad_checksum", "not a gzip file, or a damaged one", 1),
        ("other_content", "its content is not the one pinned in stages/data/datasets.py", 1),
        ("shorter_content", "its content is not the one pinned in stages/data/datasets.py", 1),
        ("longer_content", "larger than the 200,000 bytes it may be", 1),
    ],
)
def test_a_bad_mirror_is_named_and_the_next_one_serves(
    server: Server, behaviour: str, reason: str, attempts: int, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = server.mirror(behaviour)
    assert fetch("mnist", [FILE], [bad, server.mirror("good")]) == [CONTENT]
    assert Counter(server.requests) == {f"/{behaviour}/noise.gz": attempts, "/good/noise.gz": 1}
    refused, fetched = capsys.readouterr().err.splitlines()
    assert re.fullmatch(f"{re.escape(bad)}/noise.gz: {reason}", refused)
    assert fetched == "noise (200,000 bytes), 0 s left"


@pytest.mark.usefixtures("brief_timeout")
@pytest.mark.parametrize("behaviour", ["silent", "stalling"])
def test_a_mirror_that_stops_answering_is_named_and_the_next_one_serves(
    server: Server, behaviour: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = server.mirror(behaviour)
    assert fetch("mnist", [FILE], [bad, server.mirror("good")]) == [CONTENT]
    assert server.requests[:5] == 4 * [f"/{behaviour}/noise.gz"] + ["/good/noise.gz"]
    assert f"{bad}/noise.gz: no answer in time" in capsys.readouterr().err.splitlines()


def test_a_mirror_that_resets_is_left(server: Server) -> None:
    assert fetch("mnist", [FILE], [server.mirror("resetting"), server.mirror("good")]) == [CONTENT]
    # aiohttp has a second attempt of its own.
    assert 4 <= server.requests.count("/resetting/noise.gz") <= 8


def test_a_redirect_that_goes_round_is_left(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = server.mirror("going_round")
    assert fetch("mnist", [FILE], [bad, server.mirror("good")]) == [CONTENT]
    assert 1 < server.requests.count("/going_round/noise.gz") <= 12
    assert f"{bad}/noise.gz: too many redirects" in capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("behaviour", ["bomb", "going_on", "endless_header"])
def test_what_does_not_end_is_cut_off(server: Server, behaviour: str) -> None:
    tracemalloc.start()
    started = time.monotonic()
    with pytest.raises(BadInput, match="larger than the 200,000 bytes it may be"):
        fetch("mnist", [FILE], [server.mirror(behaviour)])
    seconds = time.monotonic() - started
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert server.requests == [f"/{behaviour}/noise.gz"]
    # What lies in the sockets' buffers has been sent, too.
    assert server.sent < 20e6
    assert peak < 5e6
    assert seconds < 5


def test_a_bomb_in_a_directory_is_cut_off(folder: Path) -> None:
    (folder / "noise.gz").write_bytes(BOMB_START + 20_000 * BOMB_BLOCK)  # 20 GB
    started = time.monotonic()
    with pytest.raises(BadInput, match="larger than the 200,000 bytes it may be"):
        fetch("mnist", [FILE], [str(folder)])
    assert time.monotonic() - started < 5


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


def test_ones_own_mirror_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert mirrors("mnist") == list(PUBLIC)
    monkeypatch.setenv("MNIST_MIRROR", "/a/folder")
    assert mirrors("mnist") == ["/a/folder", *PUBLIC]
    monkeypatch.setenv("MNIST_MIRROR", "")
    assert mirrors("mnist") == list(PUBLIC)


def as_path(folder: Path) -> str:
    return str(folder)


def as_path_with_slash(folder: Path) -> str:
    return f"{folder}/"


def as_relative_path(folder: Path) -> str:
    return os.path.relpath(folder)


def as_url(folder: Path) -> str:
    return folder.as_uri()  # has %20


def as_url_with_host(folder: Path) -> str:
    return folder.as_uri().replace("file:///", "file://localhost/")


@pytest.mark.parametrize(
    "written", [as_path, as_path_with_slash, as_relative_path, as_url, as_url_with_host]
)
def test_a_directory_however_it_is_written(folder: Path, written: Callable[[Path], str]) -> None:
    assert fetch("mnist", [FILE], [written(folder)]) == [CONTENT]


@pytest.mark.parametrize(
    ("mirror", "reason"),
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
def test_a_mirror_that_is_none_has_its_reason(mirror: str, reason: str) -> None:
    with pytest.raises(BadInput) as problem:
        fetch("mnist", [FILE], [mirror])
    line = str(problem.value).splitlines()[1]
    assert line.startswith(f"  {mirror}: ")
    assert re.fullmatch(reason, line.removeprefix(f"  {mirror}: "))


def test_where_no_mirror_serves_each_is_named_and_then_the_ways_on(server: Server) -> None:
    bad, closed = server.mirror("page"), f"http://127.0.0.1:{closed_port()}"
    with pytest.raises(BadInput) as problem:
        fetch("mnist", [FILE], [bad, closed, "/no/such/folder"])
    first, *reasons, last = str(problem.value).splitlines()
    assert first == "mnist cannot be downloaded: no mirror has noise.gz as it should be."
    assert reasons[0] == f"  {bad}: not a gzip file, or a damaged one"
    assert reasons[1].startswith(f"  {closed}: Cannot connect to host 127.0.0.1:")
    assert reasons[2:] == ["  /no/such/folder: not found"]
    assert last == (
        "Set MNIST_MIRROR to a directory or URL with the four files, or go without: make quickstart"
    )


@pytest.mark.usefixtures("brief_timeout")
def test_patience_has_an_end(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.45)
    with pytest.raises(BadInput, match="no answer in time"):
        fetch("mnist", [FILE], [server.mirror("silent")])
    # 0.3 s, again 0.3 s, and then no more.
    assert len(server.requests) == 2


def test_the_stage_killed_half_way(server: Server, tmp_path: Path) -> None:
    project = project_copy(tmp_path)
    command = [sys.executable, "-m", "stages.download"]
    with subprocess.Popen(
        command, cwd=project, env=environment(server.mirror("trickling"))
    ) as process:
        deadline = time.monotonic() + 30
        while server.sent < 1_010:  # some of the body has been sent, in several pieces
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    name = next(iter(MNIST.values())).name
    assert server.requests == [f"/trickling/{name}.gz"]
    assert outputs(project) == OLD

    set_parameters(project, {"download": {"dataset": "mnist-5k"}})
    subprocess.run(command, cwd=project, check=True, capture_output=True, timeout=280)
    names = {"x_train", "y_train", "x_test", "y_test", "classes"}
    assert set(outputs(project)) == {
        *(f"data/raw/{name}.npy" for name in names),
        "data/raw/SHA256SUMS",
    }
    subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=project / "data/raw", check=True
    )


@pytest.mark.slow
def test_the_stage_without_any_mirror(in_vain: InVain) -> None:
    said, complained = in_vain.process.communicate(timeout=60 - in_vain.seconds())
    assert in_vain.process.returncode == 1
    assert said == ""
    assert "Traceback" not in complained
    message = complained.splitlines()
    assert len(message) == 5  # each reason once
    assert message[0].startswith("mnist cannot be downloaded: ")
    for line, mirror in zip(message[1:4], (in_vain.mirror, *PUBLIC), strict=True):
        assert line.startswith(f"  {mirror}: Cannot connect to host 127.0.0.1:")
    assert message[4].endswith("or go without: make quickstart")
    assert outputs(in_vain.project) == OLD


def test_a_file_may_be_pinned_as_it_is_served(server: Server, tmp_path: Path) -> None:
    (tmp_path / f"{FILE.name}.gz").write_bytes(gzip.compress(CONTENT, compresslevel=1))
    assert fetch("fashion-mnist", [FILE], [str(tmp_path)]) == [CONTENT]
    with pytest.raises(BadInput, match="its content is not the one pinned"):
        fetch("fashion-mnist", [AS_SERVED], [str(tmp_path)])
    assert fetch("fashion-mnist", [AS_SERVED], [str(tmp_path), server.mirror("good")]) == [CONTENT]


def test_every_data_set_has_a_mirror_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MNIST_MIRROR", raising=False)
    monkeypatch.setenv("FASHION_MNIST_MIRROR", "/a/folder")
    assert mirrors("mnist") == list(PUBLIC)
    assert mirrors("fashion-mnist") == ["/a/folder", *DATASETS["fashion-mnist"].mirrors]


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [("dripping", r"too slow: 1,\d{3} bytes in 1 s"), ("dripping_headers", "no answer in time")],
)
def test_a_mirror_that_drips_is_left(
    server: Server,
    behaviour: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 1)
    bad = server.mirror(behaviour)
    assert fetch("mnist", [FILE], [bad, server.mirror("good")]) == [CONTENT]
    refused, _ = capsys.readouterr().err.splitlines()
    assert re.fullmatch(f"{re.escape(bad)}/noise.gz: {reason}", refused)
    assert server.requests == [f"/{behaviour}/noise.gz", "/good/noise.gz"]


@pytest.mark.parametrize("password", ["secret", "secret/secret", "secret@secret", "secret?#["])
def test_a_password_is_never_printed(
    server: Server, password: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def mirror(behaviour: str) -> str:
        return server.mirror(behaviour).replace("http://", f"http://me:{password}@")

    assert fetch("mnist", [FILE], [mirror("missing"), server.mirror("good")]) == [CONTENT]
    assert "secret" not in capsys.readouterr().err
    with pytest.raises(BadInput) as problem:
        fetch("mnist", [FILE], [mirror("forbidden"), mirror("")])
    assert "secret" not in str(problem.value)
    assert f"  http://…@127.0.0.1:{server.server_port}/forbidden: " in str(problem.value)


def test_a_mirror_with_a_password_serves(server: Server) -> None:
    mirror = server.mirror("good").replace("http://", "http://me:secret@")
    assert fetch("mnist", [FILE], [mirror]) == [CONTENT]


def test_what_a_mirror_answers_reaches_no_terminal_raw(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = server.mirror("\x1b[2J")
    assert fetch("mnist", [FILE], [bad, server.mirror("good")]) == [CONTENT]
    assert capsys.readouterr().err.splitlines()[0].isprintable()
