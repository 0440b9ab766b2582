"""A page on this machine that reads a digit while it is drawn, or from a picture."""

import argparse
import errno
import io
import ipaddress
import logging
import signal
import socket
import warnings
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
import waitress
from flask import Flask, Response, abort, render_template, request
from PIL import Image
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer

from app import MODEL
from app.answers import answer
from app.digits import digits
from app.grey import read_grey
from stages.data.arrays import SIDE
from stages.edges.bad_input import ENDING, BadInput, explained, heeded, printable
from stages.training.network import load_network
from stages.training.prediction import predictor
from stages.training.repeatable import set_threads

MAX_BYTES = 32_000_000  # a phone's photo has 2 to 15 million
# Of pictures with more pixels one at a time is read: the largest take seconds and much memory.
MODEST = 4_000_000
THREADS = 8
# Whoever opens a connection and says nothing loses it after so many seconds; until then it counts.
SILENCE = 10
CONNECTIONS = 500
PACKET = 500  # bytes: the least that comes at a time where an upload is on its way
# The browser itself refuses whatever would go elsewhere, and to show the page inside another.
POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def page(network: Any, scaling: Any, host: str) -> Flask:
    """The page, and the address to which it sends pictures.

    Args:
        network: float32 (n, 28, 28) -> (n, 10).
        scaling: what the network was trained with, as `load_network` gives both.
        host: the address or name that is listened at.
    """
    app = Flask(__name__, template_folder="page", static_folder="page", static_url_path="/static")
    large = Lock()
    predict = predictor(network)
    predict(scaling(np.zeros((1, SIDE, SIDE), np.uint8)))  # compiled now, not while one waits

    @app.before_request
    def refuse_strangers() -> None:
        """Refuses what another site has a browser of this network send, which could read answers.

        Such a site may have its own name lead here, but cannot call itself by an address.
        """
        asked = request.headers.get("Host", "")
        origin = request.headers.get("Origin", f"http://{asked}")
        try:
            name, asking = urlsplit(f"//{asked}").hostname or "", urlsplit(origin).netloc
        except ValueError:  # such as a [ alone
            abort(400)
        if not (name in ("localhost", host.lower()) or is_address(name)):
            abort(403, f"make app HOST={name} would serve this name")
        if asking != asked:
            abort(403, "another site asks")

    @app.get("/")
    def draw() -> str:
        return render_template("index.html", max_bytes=MAX_BYTES)

    @app.post("/digit")
    def digit() -> tuple[dict[str, Any], int]:
        """From the bytes of a picture file to its digits, each with its 784 pixels."""
        picture = request.get_data()
        try:
            with large if is_large(picture) else nullcontext():
                grey = read_grey(io.BytesIO(picture))
                found = digits(grey)
        except BadInput as problem:
            return {"error": str(problem)}, 422
        images = np.stack([each.image for each in found])  # (n, 28, 28)
        result = answer(found, grey.shape, list(predict(scaling(images))))
        for each, image in zip(result["digits"], images, strict=True):
            each["image"] = image.ravel().tolist()
        return result, 200

    @app.after_request
    def keep_here(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        return response

    return app


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_large(picture: bytes) -> bool:
    """Whether the header of a picture file announces more pixels than are MODEST."""
    try:
        with Image.open(io.BytesIO(picture)) as image:
            return image.width * image.height > MODEST
    except Exception:  # what is no picture, or too large a one, is refused at once
        return False


class Connection(HTTPChannel):  # type: ignore[misc]
    """One to which a request that drips in byte by byte is silence, as none at all is."""

    last_activity: float

    def handle_read(self) -> None:
        begun, before, self.heard = self.request is not None, self.last_activity, 0
        super().handle_read()
        if begun and self.heard < PACKET:
            self.last_activity = before

    def received(self, data: bytes) -> Any:
        self.heard = len(data)
        return super().received(data)


def where(host: str, port: int) -> str:
    """Says where the page is, and to whom."""

    def url(host: str) -> str:
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/"

    address = url(host)
    if host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback):
        return f"Draw at {address} (Ctrl-C ends it; make app HOST=0.0.0.0 lets a phone in)"
    if is_address(host) and ipaddress.ip_address(host).is_unspecified:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        own = [
            ipaddress.ip_address(each.address)
            for addresses in psutil.net_if_addrs().values()
            for each in addresses
            if each.family is family
        ]
        reachable = [each for each in own if not (each.is_loopback or each.is_link_local)]
        address = " or ".join(url(str(each)) for each in reachable) or address
    return f"Draw at {address} (Ctrl-C ends it). Whoever reaches this machine can use the page."


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m app.server", description=__doc__)
    parser.add_argument(
        "--host", default="127.0.0.1", help="0.0.0.0 lets others in, such as a phone"
    )
    parser.add_argument("--port", default=8000, type=int)
    parser.add_argument("--model", type=Path, default=MODEL, help="by default %(default)s")
    arguments = parser.parse_args()
    if not 0 < arguments.port < 2**16:
        raise BadInput(f"port {arguments.port}: it must be a whole number from 1 to 65535")

    # Nothing is half-written here, and waitress would swallow what `explained` raises for them.
    for number in heeded(ENDING):
        signal.signal(number, signal.SIG_DFL)
    # While somebody draws, questions queue as a matter of course.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # we judge about them
    set_threads()
    app = page(*load_network(arguments.model), arguments.host)
    TcpWSGIServer.channel_class = Connection
    try:
        server = waitress.create_server(
            app,
            host=arguments.host,
            port=arguments.port,
            threads=THREADS,
            max_request_body_size=MAX_BYTES,
            inbuf_overflow=2
            * MAX_BYTES,  # no upload is put on the disk, one that is too large neither
            connection_limit=CONNECTIONS,
            channel_timeout=SILENCE,
            cleanup_interval=1,
            asyncore_use_poll=True,
        )
    except (OSError, OverflowError, ValueError) as problem:
        place = f"{arguments.host}, port {arguments.port}"
        reason = getattr(problem, "strerror", None) or problem
        taken = getattr(problem, "errno", None) in (errno.EADDRINUSE, errno.EACCES)
        more = "; make app PORT=8001 takes another port" if taken else ""
        raise BadInput(f"{place}: {reason}{more}") from None
    print(printable(where(arguments.host, arguments.port)), flush=True)
    server.run()


if __name__ == "__main__":
    with explained():
        main()
