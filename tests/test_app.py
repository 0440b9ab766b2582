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
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest
from PIL import Image, ImageDraw, ImageOps

from app.array_types import UInt8
from tests.drawings import encode
from tests.project import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, CDPSession, Page

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


class Server(NamedTuple):
    address: str  # host and port
    process: psutil.Process


@pytest.fixture(scope="module")
def server(trained_model: Path) -> Iterator[Server]:
    """A server like that of `make app`, except for IDLE_TIMEOUT_S."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    names = ("Digits.example.org", "box.local")
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", SERVER, "--port", str(port), "--model", trained_model),
            *("--names", *names),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=forbid_large_files,
    )
    try:
        assert process.stdout is not None
        assert f"Draw at http://127.0.0.1:{port}/ (Ctrl-C" in process.stdout.readline()
        yield Server(f"127.0.0.1:{port}", psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(timeout=100)


@pytest.fixture
def address(server: Server) -> str:
    return server.address


@pytest.fixture
def page(address: str, browser: "Browser") -> Iterator["Page"]:
    """The page in a browser. At the end, all its requests must have gone to the server."""
    with browser.new_context(has_touch=True) as context:
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


def draw_row_of_ones(count: int) -> Image.Image:
    row = Image.new("L", (200 * count, 200), 240)
    for column in range(count):
        row.paste(draw_one(), (200 * column, 0))
    return row


ONE = encode(draw_one())


def wait_for(page: "Page", message: str | re.Pattern[str]) -> None:
    page.locator("#message", has_text=message).wait_for(timeout=60_000)


A_ONE = re.compile(r"^1[, ]")


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

    wait_for(page, A_ONE)
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
    draw_row_of_ones(3).save(tmp_path / "row.png")
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


def touch(session: "CDPSession", event: str, points: dict[int, tuple[float, float]]) -> None:
    """Sends a touch event with the positions of the fingers that are on the screen."""
    touch_points = [{"id": finger, "x": x, "y": y} for finger, (x, y) in points.items()]
    session.send("Input.dispatchTouchEvent", {"type": event, "touchPoints": touch_points})


def test_a_stroke_belongs_to_the_finger_that_began_it(page: "Page") -> None:
    session = page.context.new_cdp_session(page)
    box = page.locator("#drawing").bounding_box()
    assert box is not None
    left, right = box["x"] + 0.3 * box["width"], box["x"] + 0.9 * box["width"]
    top, bottom = box["y"] + 0.2 * box["height"], box["y"] + 0.8 * box["height"]
    middle = (top + bottom) / 2
    touch(session, "touchStart", {1: (left, top)})
    touch(session, "touchMove", {1: (left, middle)})
    touch(session, "touchStart", {1: (left, middle), 2: (right, top)})  # the palm
    touch(session, "touchMove", {1: (left, middle), 2: (right, bottom)})
    touch(session, "touchEnd", {1: (left, middle)})
    touch(session, "touchMove", {1: (left, bottom)})
    touch(session, "touchEnd", {})

    wait_for(page, A_ONE)
    rows, columns = np.nonzero(canvas_pixels(page, "drawing")[..., 0] < 128)
    assert columns.min() > 0.2 * 560
    assert columns.max() < 0.4 * 560
    assert rows.max() > 0.75 * 560
    # The next stroke is drawn.
    touch(session, "touchStart", {3: (right, top)})
    touch(session, "touchMove", {3: (right, bottom)})
    touch(session, "touchEnd", {})
    wait_for(page, "11")


def test_the_page_shows_rows_doubt_and_refusals_as_the_command_does(
    page: "Page", address: str, tmp_path: Path
) -> None:
    rows = Image.new("L", (400, 400), 240)
    for left, top in ((0, 0), (200, 0), (100, 200)):
        rows.paste(draw_one(), (left, top))
    scribble = Image.new("L", (300, 300), 240)
    ImageDraw.Draw(scribble).regular_polygon((150, 150, 90), 5, outline=20, width=12)
    for name, picture in {"rows": rows, "doubt": scribble, "refusal": TOUCHING}.items():
        picture.save(tmp_path / f"{name}.png")
    answers = {name: post(address, (tmp_path / f"{name}.png").read_bytes())[1] for name in NAMES}
    lines = [row["text"] for row in answers["rows"]["rows"]]
    assert len(lines) == 2
    assert not answers["doubt"]["sure"]

    page.set_input_files("#file", tmp_path / "rows.png")
    wait_for(page, f"Row 1: {lines[0]}\nRow 2: {lines[1]}\n")
    assert canvas_pixels(page, "network-input").shape == (2 * 28, 2 * 28, 4)
    page.set_input_files("#file", tmp_path / "doubt.png")
    wait_for(page, answers["doubt"]["rows"][0]["text"])
    assert page.locator("#message.unsure").is_visible()
    page.set_input_files("#file", tmp_path / "refusal.png")
    wait_for(page, "Digits that touch cannot be separated; leave a gap between them.")
    assert page.locator("#message.error").is_visible()


def test_the_page_is_used_by_keyboard_and_screen_reader(page: "Page", tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(ONE)
    # A listener makes the browser report file choosers. expect_file_chooser alone would do so too
    # late on a busy machine.
    page.on("filechooser", lambda _: None)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "clear"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(tmp_path / "one.png")
    wait_for(page, A_ONE)
    for role, name in [
        ("button", "Clear"),
        ("img", "Canvas to draw digits on"),
        ("img", "The images that the network sees"),
        ("list", "Probability of each digit"),
        ("status", ""),
    ]:
        assert page.get_by_role(role, name=name or None).count() == 1  # type: ignore[arg-type]
    assert page.get_by_label("Open a picture").count() == 1
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    wait_for(page, "Draw a digit")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_narrow_screen_in_light_and_dark_mode(
    page: "Page", tmp_path: Path, scheme: Literal["light", "dark"]
) -> None:
    page.set_viewport_size({"width": 320, "height": 640})
    page.emulate_media(color_scheme=scheme)
    draw_row_of_ones(8).save(tmp_path / "row.png")
    page.set_input_files("#file", tmp_path / "row.png")
    wait_for(page, "11111111")
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    red, green, blue = map(int, re.findall(r"\d+", page.evaluate(BACKGROUND))[:3])
    assert (max(red, green, blue) < 64) == (scheme == "dark")


BACKGROUND = "getComputedStyle(document.body).backgroundColor"
NAMES = ("rows", "doubt", "refusal")
TOUCHING = Image.new("L", (400, 200), 240)
for left in (40, 118, 196):
    ImageDraw.Draw(TOUCHING).ellipse((left, 60, left + 80, 160), outline=20, width=8)


def test_picture_files_can_be_opened_and_dropped(page: "Page", tmp_path: Path) -> None:
    files: dict[str, tuple[bytes, str | re.Pattern[str]]] = {
        "one.png": (ONE, A_ONE),
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
    wait_for(page, A_ONE)
    assert likeliest_digit(page) == 1


def test_an_upload_of_megabytes_stays_in_memory(address: str) -> None:
    large = draw_one().resize((1_500, 1_500)).convert("RGB")
    content = encode(large, compress_level=0)
    assert len(content) > 5_000_000
    status, prediction = post(address, content)  # forbid_large_files: no file can hold it

    assert status == 200
    (row,) = prediction["rows"]
    (digit,) = row["digits"]
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
        ({"Host": "digits.example.org"}, 200),  # one of --names
        ({"Host": "BOX.local:8000", "Origin": "http://BOX.local:8000"}, 200),
        # A proxy keeps the Host header, or replaces it by the address of the server.
        ({"Host": "digits.example.org", "Origin": "https://digits.example.org"}, 200),
        ({"Host": "127.0.0.1:8000", "Origin": "https://digits.example.org"}, 200),
        ({"Host": "127.0.0.1:8000", "Origin": "https://digits.example.org.evil.example"}, 403),
        ({"Host": "digits.example.org", "Origin": "https://evil.example"}, 403),
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
        assert json.load(connection.getresponse())["rows"]


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


def test_frames_in_frames_do_not_stop_the_page(address: str) -> None:
    frames = Image.new("L", (1_000, 1_000), 240)
    for left in range(0, 490, 10):
        box = (left, left, 999 - left, 999 - left)
        ImageDraw.Draw(frames).rectangle(box, outline=20, width=3)
    content = encode(frames)
    with ThreadPoolExecutor(20) as pool:
        requests = [pool.submit(post, address, content) for _ in range(20)]
        wait(requests, return_when=FIRST_COMPLETED)
        assert post(address, ONE)[0] == 200
        assert not all(request.done() for request in requests)
        statuses = {request.result()[0] for request in requests}
    assert statuses == {422, 503}  # of 20 large pictures some are refused, as the server is busy


def test_many_large_uploads_are_bounded_in_memory(server: Server) -> None:
    """100 uploads of 30 MB at once; meanwhile a small picture is answered."""
    large = bytes(30_000_000)
    peak_bytes = 0
    retry_after = set()

    def upload() -> int:
        with connect(server.address) as connection:
            connection.request("POST", "/digit", large)
            response = connection.getresponse()
            response.read()
            retry_after.add(response.getheader("Retry-After"))
            return response.status

    with ThreadPoolExecutor(100) as pool:
        requests = {pool.submit(upload) for _ in range(100)}
        wait(requests, return_when=FIRST_COMPLETED)
        assert post(server.address, ONE)[0] == 200
        assert not all(request.done() for request in requests)
        waiting = requests
        while waiting:
            peak_bytes = max(peak_bytes, server.process.memory_info().rss)
            _, waiting = wait(waiting, timeout=0.05)
    assert {request.result() for request in requests} == {422, 503}
    assert retry_after == {None, "2"}
    assert peak_bytes < 1_000_000_000
    assert post(server.address, ONE)[0] == 200


def test_start_message() -> None:
    from app.server import start_message  # imports TensorFlow

    local = r"\(Ctrl-C ends it; make app HOST=0\.0\.0\.0 lets a phone in\)"
    public = r"\(Ctrl-C ends it\)\. Whoever reaches this machine can use the page\."
    for addresses, url, access in [
        (["127.0.0.1"], r"http://127\.0\.0\.1:80/", local),
        (["::1"], r"http://\[::1\]:80/", local),
        (["127.0.0.1", "::1"], r"http://127\.0\.0\.1:80/ or http://\[::1\]:80/", local),
        (["0.0.0.0"], r"http://.*:80/", public),  # noqa: S104
        (["::"], r"http://\[.*\]:80/", public),
        (["192.0.2.1"], r"http://192\.0\.2\.1:80/", public),
        (["127.0.1.1", "192.0.2.1"], r"http://127.0.1.1:80/ or http://192\.0\.2\.1:80/", public),
    ]:
        message = start_message([(address, 80) for address in addresses])
        assert re.fullmatch(f"Draw at {url} {access}", message)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.2"])
def test_the_message_names_the_addresses_that_the_server_listens_at(host: str) -> None:
    from flask import Flask

    from app.server import create_server, listening_addresses, start_message

    server = create_server(Flask("empty"), host, 0)
    try:
        addresses = listening_addresses(server)
    finally:
        server.close()
    expected = {info[4][0] for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    assert {address for address, _ in addresses} == expected
    assert "lets a phone in" in start_message(addresses)
