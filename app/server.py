"""Web page that predicts digits while they are drawn, or from a picture."""

import argparse
import errno
import io
import ipaddress
import logging
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
from app.grayscale import read_grayscale
from app.prediction_format import Prediction, picture_prediction
from app.recognition import digit_probabilities
from app.segmentation import find_rows
from stages.common import command_line
from stages.common.errors import UserError, printable
from stages.data.arrays import SIDE
from stages.training.model_file import load_network
from stages.training.prediction import predictor
from stages.training.threads import set_threads

MAX_UPLOAD_BYTES = 32_000_000  # photos of phones have 2 to 15 million
# Larger pictures are read one at a time: one may take seconds and hundreds of megabytes.
MAX_PARALLEL_PIXELS = 4_000_000
THREADS = 8
MAX_CONNECTIONS = 500
# An idle connection is closed after this time, since it counts as one of MAX_CONNECTIONS.
IDLE_TIMEOUT_S = 10
# A smaller part of a request does not end the idle time. Parts of real uploads are larger.
MIN_PART_BYTES = 500
# The browser loads nothing from other hosts, and other sites cannot show the page in a frame.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def create_app(network: Any, scaling: Any, host: str) -> Flask:
    """Creates the web application.

    Args:
        network: float32 (n, 28, 28) -> (n, 10).
        scaling: of the network's input; `load_network` returns both.
        host: address or name that the server listens on.
    """
    app = Flask(__name__, template_folder="page", static_folder="page", static_url_path="/static")
    large_picture = Lock()
    predict = predictor(network)
    predict(scaling(np.zeros((1, SIDE, SIDE), np.uint8)))  # compile before the first request

    @app.before_request
    def refuse_other_sites() -> None:
        """Refuses requests that a web site of somebody else makes a browser send.

        Such a site cannot read the answers unless its own host name resolves to this machine (DNS
        rebinding). So only addresses, localhost and the name given as host are accepted.
        """
        host_header = request.headers.get("Host", "")
        origin = request.headers.get("Origin", f"http://{host_header}")
        try:
            name, origin_host = urlsplit(f"//{host_header}").hostname or "", urlsplit(origin).netloc
        except ValueError:  # such as a single [
            abort(400)
        if not (name in ("localhost", host.lower()) or is_address(name)):
            abort(403, f"make app HOST={name} would serve this name")
        if origin_host != host_header:
            abort(403, "the request comes from another site")

    @app.get("/")
    def index() -> str:
        return render_template("index.html", max_bytes=MAX_UPLOAD_BYTES)

    @app.post("/digit")
    def predict_picture() -> tuple[Prediction | dict[str, str], int]:
        """Predicts the digits in a picture file, the body of the request.

        The answer is the JSON of `python -m app.predict --json`, with the image of each digit.
        """
        content = request.get_data()
        try:
            with large_picture if is_large(content) else nullcontext():
                grey = read_grayscale(io.BytesIO(content))
                rows = find_rows(grey)
        except UserError as problem:
            return {"error": str(problem)}, 422
        images = np.stack([digit.image for row in rows for digit in row])  # (n, 28, 28)
        prediction = picture_prediction(
            rows, grey.shape, digit_probabilities(images, predict, scaling)
        )
        digits = [digit for row in prediction["rows"] for digit in row["digits"]]
        for digit, image in zip(digits, images, strict=True):
            digit["image"] = image.ravel().tolist()
        return prediction, 200

    @app.after_request
    def add_security_headers(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
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


def is_large(content: bytes) -> bool:
    """Whether a picture file has more than MAX_PARALLEL_PIXELS, by its header."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.width * image.height > MAX_PARALLEL_PIXELS
    except Exception:  # a damaged or much too large file, which read_grayscale refuses at once
        return False


class IdleTimeoutChannel(HTTPChannel):  # type: ignore[misc]
    """A connection of waitress that counts as idle while a request arrives byte by byte.

    Otherwise a client could keep its connections open for ever (a Slowloris attack).
    """

    last_activity: float

    def handle_read(self) -> None:
        request_has_begun = self.request is not None
        last_activity, self.received_bytes = self.last_activity, 0
        super().handle_read()
        if request_has_begun and self.received_bytes < MIN_PART_BYTES:
            self.last_activity = last_activity

    def received(self, data: bytes) -> Any:
        self.received_bytes = len(data)
        return super().received(data)


def start_message(host: str, port: int) -> str:
    """Tells where the page is and who can use it."""

    def url(host: str) -> str:
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/"

    urls = url(host)
    if host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback):
        return f"Draw at {urls} (Ctrl-C ends it; make app HOST=0.0.0.0 lets a phone in)"
    if is_address(host) and ipaddress.ip_address(host).is_unspecified:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        addresses = [
            ipaddress.ip_address(address.address)
            for interface in psutil.net_if_addrs().values()
            for address in interface
            if address.family is family
        ]
        reachable = [each for each in addresses if not (each.is_loopback or each.is_link_local)]
        urls = " or ".join(url(str(address)) for address in reachable) or urls
    return f"Draw at {urls} (Ctrl-C ends it). Whoever reaches this machine can use the page."


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m app.server", description=__doc__)
    parser.add_argument(
        "--host", default="127.0.0.1", help="0.0.0.0 serves other devices too, such as a phone"
    )
    parser.add_argument("--port", default=8000, type=int)
    parser.add_argument("--model", type=Path, default=MODEL, help="default: %(default)s")
    return parser.parse_args()


def create_server(app: Flask, host: str, port: int) -> Any:
    """Creates a waitress server that listens on a port.

    Raises:
        UserError: the port is not free, or the address is not one of this machine.
    """
    TcpWSGIServer.channel_class = IdleTimeoutChannel
    try:
        return waitress.create_server(
            app,
            host=host,
            port=port,
            threads=THREADS,
            max_request_body_size=MAX_UPLOAD_BYTES,
            # Uploads stay in memory. waitress discards the rest of one that is too large.
            inbuf_overflow=2 * MAX_UPLOAD_BYTES,
            connection_limit=MAX_CONNECTIONS,
            channel_timeout=IDLE_TIMEOUT_S,
            cleanup_interval=1,
            asyncore_use_poll=True,
        )
    except (OSError, OverflowError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        is_taken = getattr(problem, "errno", None) in (errno.EADDRINUSE, errno.EACCES)
        advice = "; make app PORT=8001 takes another port" if is_taken else ""
        raise UserError(f"{host}, port {port}: {reason}{advice}") from None


def main() -> None:
    arguments = parse_arguments()
    arguments.host = arguments.host.strip("[]").replace("*", "0.0.0.0")  # noqa: S104
    if not arguments.host:
        raise UserError("--host is empty; expected an address such as 127.0.0.1 or 0.0.0.0")
    if not 0 < arguments.port < 2**16:
        raise UserError(f"--port is {arguments.port}; expected an integer from 1 to 65535")
    # Each movement of the pen sends a request, so waiting ones are normal.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    # read_grayscale checks the size, but catch_warnings works in one thread only.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    set_threads()
    app = create_app(*load_network(arguments.model), arguments.host)
    server = create_server(app, arguments.host, arguments.port)
    print(printable(start_message(arguments.host, arguments.port)), flush=True)
    server.run()


if __name__ == "__main__":
    command_line.run(main)
