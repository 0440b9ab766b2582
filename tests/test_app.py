"""The page that reads digits: a real server, and a real browser where there is one."""

import http.client
import io
import re
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Page, expect, sync_playwright

from tests.project import ROOT

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


@pytest.fixture(scope="module")
def address(trained_model: Path) -> Iterator[str]:
    """Where a server listens, started as `make app` starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "app.server", "--port", str(port), "--model", trained_model],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    assert "Draw at" in server.stdout.readline()
    yield f"http://127.0.0.1:{port}/"
    server.terminate()
    server.wait(timeout=20)


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    """The page in a browser; every request it made must have stayed on this machine."""
    if BROWSER is None:
        pytest.skip("no browser here: install chromium to run this test")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=QUIET)
        page = browser.new_page()
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        yield page
        browser.close()
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


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"no picture", 422, "not a picture"),
        (b"", 422, "picture"),
    ],
)
def test_what_is_no_picture_is_refused(
    address: str, body: bytes, status: int, message: str
) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(address, body)

    assert refused.value.code == status
    assert re.search(message, refused.value.read().decode(), re.IGNORECASE)


def test_an_upload_over_the_limit_is_refused_before_it_comes(address: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=20)
    connection.putrequest("POST", "/digit")
    connection.putheader("Content-Length", "32000001")
    connection.endheaders()

    assert connection.getresponse().status == 413
    connection.close()


def test_a_picture_is_answered(address: str) -> None:
    file = io.BytesIO()
    one().save(file, "PNG")

    assert b"probabilities" in post(address, file.getvalue())


def post(address: str, body: bytes) -> Any:
    request = urllib.request.Request(f"{address}digit", data=body)  # noqa: S310
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
        return answer.read()
