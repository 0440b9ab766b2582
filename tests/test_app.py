"""The page that reads digits: a real server, and a real browser where there is one."""

import contextlib
import http.client
import json
import re
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from tests.drawings import encoded
from tests.project import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.xdist_group("app")  # one server for all
SILENCE = 3  # seconds; the product's 10 would make the tests wait
SERVER = f"import app.server; app.server.SILENCE = {SILENCE}; app.server.main()"


def no_large_files() -> None:
    """Has the system refuse to write an upload to a file: waitress would, from 512 KB on."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))


@pytest.fixture(scope="module")
def address(trained_model: Path) -> Iterator[str]:
    """The host and port of a server, started as `make app` starts it, but for SILENCE."""
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
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=100)


@pytest.fixture
def page(address: str, browser: "Browser") -> Iterator["Page"]:
    """The page in a browser; every request it made must have stayed on this machine."""
    with browser.new_context() as context:
        page = context.new_page()
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.goto(f"http://{address}/")
        yield page
    assert requests
    assert all(url.startswith((f"http://{address}/", "data:", "blob:")) for url in requests)


def connect(address: str) -> contextlib.closing[http.client.HTTPConnection]:
    return contextlib.closing(http.client.HTTPConnection(address, timeout=100))


def post(address: str, picture: bytes) -> tuple[int, Any]:
    """Asks for the digits of a picture: the status and the content of the answer."""
    with connect(address) as connection:
        connection.request("POST", "/digit", picture)
        answer = connection.getresponse()
        return answer.status, json.load(answer)


def draw_one() -> Image.Image:
    """Dark ink on paper: a 1."""
    picture = Image.new("L", (200, 200), 240)
    ImageDraw.Draw(picture).line([(104, 40), (96, 160)], fill=20, width=14)
    return picture


ONE = encoded(draw_one())


def wait_for(page: "Page", message: str) -> None:
    page.locator("#message", has_text=message).wait_for(timeout=60_000)


def likeliest(page: "Page") -> int:
    """The digit of the longest of the ten bars."""
    texts = page.locator("#bars li span").all_inner_texts()
    assert len(texts) == 10
    shares = [float(text.rstrip("%")) for text in texts]
    assert sum(shares) == pytest.approx(100, abs=1)
    digits = page.locator("#bars li b").all_inner_texts()
    return int(digits[shares.index(max(shares))])


def test_a_1_drawn_with_the_mouse_is_read(page: "Page") -> None:
    assert page.locator("#seen").is_hidden()
    box = page.locator("#paper").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"]
    page.mouse.move(x, y + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(x - 5, y + 0.8 * box["height"], steps=12)
    page.mouse.up()

    wait_for(page, "It is a 1")
    assert likeliest(page) == 1
    seen = "document.getElementById('seen').getContext('2d').getImageData(0, 0, 28, 28).data"
    levels = page.evaluate(f"Array.from({seen})")
    assert len({tuple(levels[at : at + 3]) for at in range(0, len(levels), 4)}) > 2

    page.locator("#clear").click()
    assert page.locator("#bars").is_hidden()
    assert page.locator("#seen").is_hidden()  # no black square


def test_several_digits_are_boxed_and_one_number(page: "Page", tmp_path: Path) -> None:
    row = Image.new("L", (600, 200), 240)
    for place in range(3):
        row.paste(draw_one(), (200 * place, 0))
    row.save(tmp_path / "row.png")
    page.set_input_files("#file", tmp_path / "row.png")

    wait_for(page, "111")
    assert page.evaluate("document.getElementById('seen').width") == 3 * 28
    pixels = "document.getElementById('boxes').getContext('2d').getImageData(0, 280, 560, 1).data"
    lines = np.array(page.evaluate(f"Array.from({pixels})")).reshape(-1, 4)[:, 3] > 128
    starts = np.flatnonzero(np.diff(lines.astype(int)) == 1)
    # Two sides of each box, around ones that stand at a sixth, a half and five sixths.
    assert len(starts) == 6
    assert np.allclose(starts.reshape(3, 2).mean(axis=1), [93, 280, 467], atol=8)

    page.locator("#clear").click()
    assert not np.any(page.evaluate(f"Array.from({pixels})"))


def test_a_file_is_opened_or_dropped_and_read_or_refused(page: "Page", tmp_path: Path) -> None:
    files = {
        "one.png": (ONE, "It is a 1"),
        "text.png": (b"no picture", "Not a picture"),
        "large.png": (bytes(32_000_001), "larger than 32 MB"),
    }
    for name, (content, message) in files.items():
        (tmp_path / name).write_bytes(content)
        page.set_input_files("#file", tmp_path / name)
        wait_for(page, message)
        assert page.locator("#bars").is_visible() == (content == ONE)

    transfer = page.evaluate_handle(
        """(bytes) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "one.png"));
            return transfer;
        }""",
        list(encoded(ImageOps.invert(draw_one()))),
    )
    page.dispatch_event("#paper", "drop", {"dataTransfer": transfer})
    wait_for(page, "It is a 1")
    assert likeliest(page) == 1


def test_a_picture_of_megabytes_is_answered_and_touches_no_disk(address: str) -> None:
    large = draw_one().resize((1_500, 1_500)).convert("RGB")
    picture = encoded(large, compress_level=0)
    assert len(picture) > 5_000_000
    status, answer = post(address, picture)  # no_large_files forbids the disk

    assert status == 200
    (digit,) = answer["digits"]
    assert len(digit["probabilities"]) == 10
    assert int(np.argmax(digit["probabilities"])) == 1
    assert len(digit["image"]) == 28 * 28
    assert max(digit["image"]) == 255


def test_what_is_no_picture_is_refused(address: str) -> None:
    too_many_pixels = encoded(Image.new("1", (10_001, 10_000)))
    for body, message in [
        (b"no picture", "not a picture"),
        (b"", "not a picture"),
        (too_many_pixels, "more than 100 megapixels"),
    ]:
        status, answer = post(address, body)
        assert status == 422
        assert set(answer) == {"error"}
        assert message in answer["error"]


@pytest.mark.parametrize(
    "header", [("Content-Length", "32000001"), ("Transfer-Encoding", "chunked")]
)
def test_an_upload_over_the_limit_is_refused(address: str, header: tuple[str, str]) -> None:
    with connect(address) as connection:
        connection.putrequest("POST", "/digit")
        connection.putheader(*header)
        connection.endheaders()
        if header[1] == "chunked":  # the size is known only once it has come
            with contextlib.suppress(ConnectionError):
                for _ in range(33):
                    connection.send(b"f4240\r\n" + bytes(1_000_000) + b"\r\n")
        assert connection.getresponse().status == 413


def test_only_this_machine_is_served(address: str) -> None:
    with socket.socket() as other, pytest.raises(ConnectionRefusedError):
        other.connect(("127.0.0.2", urlsplit(f"//{address}").port or 0))


def test_the_browser_is_told_what_to_refuse(address: str) -> None:
    with connect(address) as connection:
        connection.request("GET", "/")
        headers = connection.getresponse().headers
    policy = headers["Content-Security-Policy"].split("; ")
    assert policy[0] == "default-src 'self'"
    assert {"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} == set(policy[1:])
    assert headers["X-Content-Type-Options"] == "nosniff"


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
    with connect(address) as connection:
        for method, path, body in (("GET", "/", None), ("POST", "/digit", ONE)):
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == status


def test_a_client_that_pauses_is_answered(address: str) -> None:
    with connect(address) as connection:
        connection.request("GET", "/")
        connection.getresponse().read()
        time.sleep(0.7 * SILENCE)
        connection.putrequest("POST", "/digit")
        connection.putheader("Content-Length", str(len(ONE)))
        connection.endheaders()
        time.sleep(0.7 * SILENCE)  # the server looks for silent connections every second
        connection.send(ONE)
        assert json.load(connection.getresponse())["digits"]


def test_incomplete_requests_keep_nobody_out(address: str) -> None:
    """The page is busy with more clients than may be connected at a time, until it drops them.

    A hundred say no more after the start of a request. The others send a byte now and then.
    """
    host, port = address.split(":")
    start = b"POST /digit HTTP/1.1\r\nContent-Length: 9999\r\n\r\n"
    answered = threading.Event()

    def drip(others: list[socket.socket]) -> None:
        while not answered.wait(0.5):
            for other in others:
                with contextlib.suppress(OSError):
                    other.send(b"G")

    with ThreadPoolExecutor() as pool, contextlib.ExitStack() as stack:
        stack.callback(answered.set)
        others = []
        for number in range(700):
            other = socket.create_connection((host, int(port)), timeout=100)
            others.append(stack.enter_context(other))
            other.sendall(start[: 1 + number % len(start)])
        pool.submit(drip, others[100:])
        assert post(address, ONE)[0] == 200
        assert others[0].recv(1) in (b"", b"H")  # H: of HTTP/1.1 400


def test_a_second_person_is_answered_while_large_pictures_are_read(address: str) -> None:
    large = encoded(Image.new("L", (9_990, 9_990)))
    with ThreadPoolExecutor() as pool:
        answers = [pool.submit(post, address, large) for _ in range(4)]
        wait(answers, return_when=FIRST_COMPLETED)  # the next ones are being read, or queue
        assert post(address, ONE)[0] == 200
        assert not all(answer.done() for answer in answers)
        assert {answer.result()[0] for answer in answers} == {422}  # no ink


def test_it_is_said_who_is_let_in() -> None:
    from app.server import where  # imports TensorFlow

    for_a_phone = r"\(Ctrl-C ends it; make app HOST=0\.0\.0\.0 lets a phone in\)"
    for_all = r"\(Ctrl-C ends it\)\. Whoever reaches this machine can use the page\."
    for host, url, access in [
        ("127.0.0.1", r"http://127\.0\.0\.1:80/", for_a_phone),
        ("::1", r"http://\[::1\]:80/", for_a_phone),
        ("0.0.0.0", r"http://.*:80/", for_all),  # noqa: S104
        ("::", r"http://\[.*\]:80/", for_all),
        ("192.0.2.1", r"http://192\.0\.2\.1:80/", for_all),
        ("box", r"http://box:80/", for_all),
    ]:
        assert re.fullmatch(f"Draw at {url} {access}", where(host, 80))
