"""The web page that predicts digits, on a real server and in a real browser if there is one."""

import base64
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
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from app.array_types import UInt8
from tests.drawings import encode
from tests.project import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# All tests of this file share a server, so they run in the same process of pytest-xdist.
pytestmark = pytest.mark.xdist_group("app")
IDLE_TIMEOUT_S = 3  # instead of 10, for which the tests would have to wait
SERVER = f"""
import app.server
from stages.common import command_line

app.server.IDLE_TIMEOUT_S = {IDLE_TIMEOUT_S}
command_line.run(app.server.main)
"""


def forbid_large_files() -> None:
    """Lets the system refuse files above 500 kB: waitress by default writes such uploads to one."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))


@pytest.fixture(scope="module")
def address(trained_model: Path) -> Iterator[str]:
    """Host and port of a server like that of `make app`, except for IDLE_TIMEOUT_S."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, "--port", str(port), "--model", trained_model],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=forbid_large_files,
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
    """The page in a browser. At the end, all its requests must have gone to the server."""
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


def post(address: str, content: bytes) -> tuple[int, Any]:
    """Sends a picture file; returns the status and the JSON of the answer."""
    with connect(address) as connection:
        connection.request("POST", "/digit", content)
        response = connection.getresponse()
        return response.status, json.load(response)


def draw_one() -> Image.Image:
    """Draws a 1, dark on light."""
    picture = Image.new("L", (200, 200), 240)
    ImageDraw.Draw(picture).line([(104, 40), (96, 160)], fill=20, width=14)
    return picture


ONE = encode(draw_one())


def wait_for(page: "Page", message: str) -> None:
    page.locator("#message", has_text=message).wait_for(timeout=60_000)


def likeliest_digit(page: "Page") -> int:
    """The digit with the largest of the ten percentages."""
    texts = page.locator("#bars li span").all_inner_texts()
    assert len(texts) == 10
    percentages = [float(text.rstrip("%")) for text in texts]
    assert sum(percentages) == pytest.approx(100, abs=1)
    digits = page.locator("#bars li b").all_inner_texts()
    return int(digits[percentages.index(max(percentages))])


def canvas_pixels(page: "Page", name: str) -> UInt8:
    """The pixels of a canvas, uint8 of shape (height, width, 4): red, green, blue and opacity."""
    data_url = page.evaluate("(name) => document.getElementById(name).toDataURL()", name)
    png = base64.b64decode(data_url.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


def test_a_1_drawn_with_the_mouse_is_predicted(page: "Page") -> None:
    assert page.locator("#network-input").is_hidden()
    box = page.locator("#drawing").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"]
    page.mouse.move(x, y + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(x - 5, y + 0.8 * box["height"], steps=12)
    page.mouse.up()

    wait_for(page, "It is a 1")
    assert likeliest_digit(page) == 1
    network_input = canvas_pixels(page, "network-input")
    assert network_input.shape == (28, 28, 4)
    assert network_input[..., 0].max() == 255
    assert network_input[..., 0].min() == 0

    page.locator("#clear").click()
    assert page.locator("#bars").is_hidden()
    assert page.locator("#network-input").is_hidden()
    assert (canvas_pixels(page, "drawing") == 255).all()


def test_digits_in_a_row_get_boxes_and_are_shown_as_a_number(page: "Page", tmp_path: Path) -> None:
    row = Image.new("L", (600, 200), 240)
    for column in range(3):
        row.paste(draw_one(), (200 * column, 0))
    row.save(tmp_path / "row.png")
    page.set_input_files("#file", tmp_path / "row.png")

    wait_for(page, "111")
    assert canvas_pixels(page, "network-input").shape == (28, 3 * 28, 4)
    # The middle row of the canvas crosses the left and right side of each box. The digits are at
    # 1/6, 3/6 and 5/6 of its width of 560.
    is_line = canvas_pixels(page, "boxes")[280, :, 3] > 128
    (sides,) = np.nonzero(np.diff(is_line.astype(int)) == 1)
    assert len(sides) == 6
    assert np.allclose(sides.reshape(3, 2).mean(axis=1), [93, 280, 467], atol=8)

    page.locator("#clear").click()
    assert not canvas_pixels(page, "boxes").any()


def test_picture_files_can_be_opened_and_dropped(page: "Page", tmp_path: Path) -> None:
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
        list(encode(ImageOps.invert(draw_one()))),
    )
    page.dispatch_event("#drawing", "drop", {"dataTransfer": transfer})
    wait_for(page, "It is a 1")
    assert likeliest_digit(page) == 1


def test_an_upload_of_megabytes_stays_in_memory(address: str) -> None:
    large = draw_one().resize((1_500, 1_500)).convert("RGB")
    content = encode(large, compress_level=0)
    assert len(content) > 5_000_000
    status, prediction = post(address, content)  # forbid_large_files: no file can hold it

    assert status == 200
    (digit,) = prediction["digits"]
    assert len(digit["probabilities"]) == 10
    assert int(np.argmax(digit["probabilities"])) == 1
    assert len(digit["image"]) == 28 * 28
    assert max(digit["image"]) == 255


def test_an_unreadable_picture_gets_an_error(address: str) -> None:
    for content, message in [
        (b"no picture", "not a picture"),
        (b"", "not a picture"),
        (encode(Image.new("1", (10_001, 10_000))), "more than 100 megapixels"),
    ]:
        status, answer = post(address, content)
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
        if header[1] == "chunked":  # the size is unknown until the last chunk
            with contextlib.suppress(ConnectionError):
                for _ in range(33):
                    connection.send(b"f4240\r\n" + bytes(1_000_000) + b"\r\n")
        assert connection.getresponse().status == 413


def test_other_addresses_of_the_machine_are_not_served(address: str) -> None:
    with socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(("127.0.0.2", urlsplit(f"//{address}").port or 0))


def test_security_headers(address: str) -> None:
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
        ({"Host": "localhost:9000"}, 200),  # through an SSH tunnel
        ({"Host": "192.168.7.5:8000"}, 200),  # from a phone
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "LOCALHOST:8000", "Origin": "http://LOCALHOST:8000"}, 200),
        ({"Host": "evil.example:8000"}, 403),  # DNS rebinding: the name resolves to 127.0.0.1
        ({"Host": ""}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 400),
        ({"Host": "["}, 400),
        ({"Host": "localhost:8000", "Origin": "http://localhost:9"}, 403),
    ],
)
def test_requests_of_other_sites_are_refused(
    address: str, headers: dict[str, str], status: int
) -> None:
    with connect(address) as connection:
        for method, path, body in (("GET", "/", None), ("POST", "/digit", ONE)):
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            response.read()
            assert response.status == status


def test_a_client_may_pause_for_less_than_the_idle_timeout(address: str) -> None:
    with connect(address) as connection:
        connection.request("GET", "/")
        connection.getresponse().read()
        time.sleep(0.7 * IDLE_TIMEOUT_S)
        connection.putrequest("POST", "/digit")
        connection.putheader("Content-Length", str(len(ONE)))
        connection.endheaders()
        time.sleep(0.7 * IDLE_TIMEOUT_S)  # the server closes idle connections every second
        connection.send(ONE)
        assert json.load(connection.getresponse())["digits"]


def test_idle_clients_do_not_lock_others_out(address: str) -> None:
    """More clients than MAX_CONNECTIONS send the start of a request, and then no more of it.

    All but the first hundred continue with a byte now and then. The server closes their
    connections after the idle timeout, too.
    """
    host, port = address.split(":")
    start = b"POST /digit HTTP/1.1\r\nContent-Length: 9999\r\n\r\n"
    is_answered = threading.Event()

    def send_slowly(clients: list[socket.socket]) -> None:
        while not is_answered.wait(0.5):
            for client in clients:
                with contextlib.suppress(OSError):
                    client.send(b"G")

    with ThreadPoolExecutor() as pool, contextlib.ExitStack() as stack:
        stack.callback(is_answered.set)
        clients = []
        for number in range(700):
            client = socket.create_connection((host, int(port)), timeout=100)
            clients.append(stack.enter_context(client))
            client.sendall(start[: 1 + number % len(start)])
        pool.submit(send_slowly, clients[100:])
        assert post(address, ONE)[0] == 200
        # The first client's connection is closed, perhaps after an HTTP error.
        assert clients[0].recv(1) in (b"", b"H")


def test_a_small_picture_does_not_wait_for_large_ones(address: str) -> None:
    large = encode(Image.new("L", (9_990, 9_990)))
    with ThreadPoolExecutor() as pool:
        requests = [pool.submit(post, address, large) for _ in range(4)]
        wait(requests, return_when=FIRST_COMPLETED)  # the others are being read, or wait
        assert post(address, ONE)[0] == 200
        assert not all(request.done() for request in requests)
        assert {request.result()[0] for request in requests} == {422}  # they have no digit


def test_start_message() -> None:
    from app.server import start_message  # imports TensorFlow

    local = r"\(Ctrl-C ends it; make app HOST=0\.0\.0\.0 lets a phone in\)"
    public = r"\(Ctrl-C ends it\)\. Whoever reaches this machine can use the page\."
    for host, url, access in [
        ("127.0.0.1", r"http://127\.0\.0\.1:80/", local),
        ("::1", r"http://\[::1\]:80/", local),
        ("0.0.0.0", r"http://.*:80/", public),  # noqa: S104
        ("::", r"http://\[.*\]:80/", public),
        ("192.0.2.1", r"http://192\.0\.2\.1:80/", public),
        ("box", r"http://box:80/", public),
    ]:
        assert re.fullmatch(f"Draw at {url} {access}", start_message(host, 80))
