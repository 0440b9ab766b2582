"""The page that reads digits: a real server, and a real browser where there is one."""

import contextlib
import http.client
import io
import json
import re
import resource
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps
from playwright.sync_api import Browser, Page, expect

from app.server import where
from tests.project import ROOT

pytestmark = pytest.mark.xdist_group("app")  # one server for all
SILENCE = 3  # seconds; the product's 10 would make the tests wait
SERVER = f"import app.server; app.server.SILENCE = {SILENCE}; app.server.main()"


def no_large_files() -> None:
    """Has the system refuse to write an upload to a file: waitress would, from 512 KB on."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))


@pytest.fixture(scope="module")
def address(trained_model: Path) -> Iterator[str]:
    """Where a server listens, started as `make app` starts it, but for SILENCE."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, "--port", str(port), "--model", trained_model],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=no_large_files,
    )
    try:
        assert server.stdout is not None
        assert "Draw at" in server.stdout.readline()
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.terminate()
        server.wait(timeout=100)


@pytest.fixture
def page(address: str, browser: Browser) -> Iterator[Page]:
    """The page in a browser; every request it made must have stayed on this machine."""
    page = browser.new_page()
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(address)
    yield page
    assert requests
    assert all(url.startswith((address, "data:", "blob:")) for url in requests)


def one() -> Image.Image:
    """Dark ink on paper: a 1."""
    picture = Image.new("L", (200, 200), 240)
    ImageDraw.Draw(picture).line([(104, 40), (96, 160)], fill=20, width=14)
    return picture


def likeliest(page: Page) -> int:
    """The digit of the longest of the ten bars."""
    texts = page.locator("#bars li span").all_inner_texts()
    assert len(texts) == 10
    shares = [float(text.rstrip("%")) for text in texts]
    assert sum(shares) == pytest.approx(100, abs=1)
    digits = page.locator("#bars li b").all_inner_texts()
    return int(digits[shares.index(max(shares))])


def test_a_1_drawn_with_the_mouse_is_read(page: Page) -> None:
    box = page.locator("#paper").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"]
    page.mouse.move(x, y + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(x - 5, y + 0.8 * box["height"], steps=12)
    page.mouse.up()

    expect(page.locator("#message")).to_contain_text("It is a 1", timeout=20_000)
    assert likeliest(page) == 1
    seen = "document.getElementById('seen').getContext('2d').getImageData(0, 0, 28, 28).data"
    levels = page.evaluate(f"Array.from({seen})")
    assert len({tuple(levels[at : at + 3]) for at in range(0, len(levels), 4)}) > 2

    page.locator("#clear").click()
    expect(page.locator("#bars")).to_be_hidden()
    expect(page.locator("#seen")).to_be_hidden()  # no black square


def test_several_digits_are_boxed_and_one_number(page: Page, tmp_path: Path) -> None:
    expect(page.locator("#seen")).to_be_hidden()
    row = Image.new("L", (600, 200), 240)
    for place in range(3):
        row.paste(one(), (200 * place, 0))
    row.save(tmp_path / "row.png")
    page.set_input_files("#file", tmp_path / "row.png")

    expect(page.locator("#message")).to_contain_text("111", timeout=20_000)
    assert page.evaluate("document.getElementById('seen').width") == 3 * 28
    pixels = "document.getElementById('boxes').getContext('2d').getImageData(0, 280, 560, 1).data"
    lines = np.array(page.evaluate(f"Array.from({pixels})")).reshape(-1, 4)[:, 3] > 128
    starts = np.flatnonzero(np.diff(lines.astype(int)) == 1)
    # Two sides of each box, around ones that stand at a sixth, a half and five sixths.
    assert len(starts) == 6
    assert np.allclose(starts.reshape(3, 2).mean(axis=1), [93, 280, 467], atol=8)

    page.locator("#clear").click()
    assert not np.any(page.evaluate(f"Array.from({pixels})"))


def test_a_dropped_picture_is_read(page: Page) -> None:
    file = io.BytesIO()
    ImageOps.invert(one()).save(file, "PNG")
    transfer = page.evaluate_handle(
        """(bytes) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "one.png"));
            return transfer;
        }""",
        list(file.getvalue()),
    )
    page.dispatch_event("#paper", "drop", {"dataTransfer": transfer})

    expect(page.locator("#message")).to_contain_text("It is a 1", timeout=20_000)
    assert likeliest(page) == 1


def test_a_picture_file_is_read_and_what_is_none_gets_a_message(page: Page, tmp_path: Path) -> None:
    one().save(tmp_path / "one.png")
    page.set_input_files("#file", tmp_path / "one.png")
    expect(page.locator("#message")).to_contain_text("It is a 1", timeout=20_000)
    assert likeliest(page) == 1

    (tmp_path / "text.png").write_text("no picture")
    page.set_input_files("#file", tmp_path / "text.png")
    expect(page.locator("#message")).to_contain_text(re.compile("not a picture", re.IGNORECASE))
    expect(page.locator("#bars")).to_be_hidden()

    (tmp_path / "large.png").write_bytes(bytes(32_000_001))
    page.set_input_files("#file", tmp_path / "large.png")
    expect(page.locator("#message")).to_contain_text("larger than 32 MB")


def bomb() -> bytes:
    """A file of 12 kilobytes that holds more pixels than are read."""
    file = io.BytesIO()
    Image.new("1", (10_001, 10_000)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"no picture", "not a picture"),
        (b"", "not a picture"),
        (bomb(), "more than 100 megapixels"),
    ],
    ids=["text", "nothing", "bomb"],
)
def test_what_is_no_picture_is_refused(address: str, body: bytes, message: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(address, body)

    assert refused.value.code == 422
    answer = json.loads(refused.value.read())
    assert set(answer) == {"error"}
    assert message in answer["error"]


@pytest.mark.parametrize(
    "header", [("Content-Length", "32000001"), ("Transfer-Encoding", "chunked")]
)
def test_an_upload_over_the_limit_is_refused(address: str, header: tuple[str, str]) -> None:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=100)
    connection.putrequest("POST", "/digit")
    connection.putheader(*header)
    connection.endheaders()
    if header[1] == "chunked":  # the size is known only once it has come
        with contextlib.suppress(ConnectionError):
            for _ in range(33):
                connection.send(b"f4240\r\n" + bytes(1_000_000) + b"\r\n")

    assert connection.getresponse().status == 413
    connection.close()


def test_a_picture_is_answered(address: str) -> None:
    file = io.BytesIO()
    one().save(file, "PNG")
    answer = json.loads(post(address, file.getvalue()))

    (digit,) = answer["digits"]
    assert int(np.argmax(digit["probabilities"])) == 1
    assert len(digit["probabilities"]) == 10
    assert len(digit["image"]) == 28 * 28
    assert max(digit["image"]) == 255


def test_only_this_machine_is_served(address: str) -> None:
    with socket.socket() as other, pytest.raises(ConnectionRefusedError):
        other.connect(("127.0.0.2", urlsplit(address).port or 0))


def test_the_browser_is_told_what_to_refuse(address: str) -> None:
    with urllib.request.urlopen(address, timeout=100) as answer:  # noqa: S310
        policy = answer.headers["Content-Security-Policy"].split("; ")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert policy[0] == "default-src 'self'"
    assert {"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} == set(policy[1:])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:9000"}, 200),  # as through a tunnel
        ({"Host": "192.168.7.5:8000"}, 200),  # as a phone says it
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "LOCALHOST:8000", "Origin": "http://LOCALHOST:8000"}, 200),
        ({"Host": "evil.example:8000"}, 403),  # whose name leads to 127.0.0.1
        ({"Host": ""}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 400),
        ({"Host": "["}, 400),
        ({"Host": "localhost:8000", "Origin": "http://localhost:9"}, 403),
    ],
)
def test_other_sites_are_refused(address: str, headers: dict[str, str], status: int) -> None:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=100)
    for method, path in (("GET", "/"), ("POST", "/digit")):
        body = png(one()) if method == "POST" else None
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
    connection.close()


def test_half_open_requests_keep_nobody_out(address: str) -> None:
    place = (urlsplit(address).hostname, urlsplit(address).port)
    with contextlib.ExitStack() as stack:
        for number in range(150):
            other = stack.enter_context(socket.create_connection(place, timeout=100))
            other.sendall(b"POST /digit HTTP/1.1\r\nContent-Length: 9999\r\n\r\n"[: 5 + number])
        assert json.loads(post(address, png(one())))["digits"]
        # And those who say no more are shown out.
        other.settimeout(60)
        assert other.recv(1) in (b"", b"H")  # H: of HTTP/1.1 400


def test_whoever_pauses_on_a_connection_is_answered(address: str) -> None:
    place = urlsplit(address)
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=100)
    connection.request("GET", "/")
    connection.getresponse().read()
    time.sleep(0.8 * SILENCE)
    picture = png(one())
    connection.putrequest("POST", "/digit")
    connection.putheader("Content-Length", str(len(picture)))
    connection.endheaders()
    time.sleep(0.4 * SILENCE)  # in all more than SILENCE since the first answer
    connection.send(picture)
    assert json.load(connection.getresponse())["digits"]
    connection.close()


def test_those_who_drip_are_shown_out_too(address: str) -> None:
    """More than may be connected at a time, each of which says a byte now and then."""
    place = (urlsplit(address).hostname, urlsplit(address).port)
    answered = threading.Event()

    def drip(others: list[socket.socket]) -> None:
        while not answered.wait(0.5):
            for other in others:
                with contextlib.suppress(OSError):
                    other.send(b"G")

    with contextlib.ExitStack() as stack, ThreadPoolExecutor() as pool:
        stack.callback(answered.set)
        others = [
            stack.enter_context(socket.create_connection(place, timeout=100)) for _ in range(600)
        ]
        pool.submit(drip, others)
        assert json.loads(post(address, png(one())))["digits"]
        answered.set()


def test_a_second_person_is_answered_while_large_pictures_are_read(address: str) -> None:
    large = png(Image.new("L", (9_990, 9_990)))
    with ThreadPoolExecutor() as pool:
        answers = [pool.submit(post, address, large) for _ in range(4)]
        assert json.loads(post(address, png(one())))["digits"]
        assert not all(answer.done() for answer in answers)
        for answer in answers:
            with pytest.raises(urllib.error.HTTPError, match="422"):  # no ink
                answer.result()


def test_a_picture_of_megabytes_touches_no_disk(address: str) -> None:
    picture = png(one().resize((1_500, 1_500)).convert("RGB"), compress_level=0)
    assert len(picture) > 5_000_000
    assert json.loads(post(address, picture))["digits"]  # see no_large_files


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("127.0.0.1", r"Draw at http://127.0.0.1:80/ .*make app HOST=0.0.0.0 lets a phone in\)"),
        ("::1", r"Draw at http://\[::1\]:80/ .*make app HOST=0.0.0.0 lets a phone in\)"),
        ("0.0.0.0", r"Draw at http://.*:80/ .* Whoever reaches this machine can use the page."),  # noqa: S104
        ("::", r"Draw at http://\[.*\]:80/ .* Whoever reaches this machine can use the page."),
        ("192.0.2.1", r"Draw at http://192.0.2.1:80/ .* Whoever reaches .*"),
        ("box", r"Draw at http://box:80/ .* Whoever reaches .*"),
    ],
)
def test_it_is_said_who_is_let_in(host: str, said: str) -> None:
    assert re.fullmatch(said, where(host, 80))


def png(image: Image.Image, compress_level: int = 1) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=compress_level)
    return file.getvalue()


def post(address: str, body: bytes) -> Any:
    request = urllib.request.Request(f"{address}digit", data=body)  # noqa: S310
    with urllib.request.urlopen(request, timeout=100) as answer:  # noqa: S310
        return answer.read()
