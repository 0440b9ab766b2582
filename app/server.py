"""Web page that predicts digits while they are drawn, or from a picture."""

import argparse
import errno
import ipaddress
import logging
import socket
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Any, BinaryIO, ClassVar
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import numpy as np
import psutil
import waitress
from flask import Flask, Response, abort, jsonify, render_template, request
from PIL import Image
from waitress.buffers import OverflowableBuffer
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import TcpWSGIServer
from waitress.utilities import Error

from app import CLASSES, IMAGE_SHAPE, MODEL
from app.grayscale import read_grayscale
from app.prediction_format import Prediction, picture_prediction
from app.recognition import digit_probabilities
from app.segmentation import digit_images, find_rows
from stages.common import command_line
from stages.common.errors import UserError, printable
from stages.training.model_file import load_network
from stages.training.prediction import predictor
from stages.training.threads import set_threads

MAX_UPLOAD_BYTES = 32_000_000  # photos of phones have 2 to 15 million
# Of all uploads that are being received or read. The network needs another 400 MB.
MAX_BYTES_IN_FLIGHT = 256_000_000
# Larger pictures, unlike drawings on the page, are read one at a time: one may take a second and
# hundreds of megabytes.
MAX_PARALLEL_PIXELS = 500_000
THREADS = 8
MAX_LARGE_PICTURES = THREADS // 2  # being read or waiting; the other threads serve small ones
RETRY_AFTER_S = 2
MAX_CONNECTIONS = 500
# An idle connection is closed after this time, since it counts as one of MAX_CONNECTIONS.
IDLE_TIMEOUT_S = 10
# A smaller part of a request does not end the idle time. Parts of real uploads are larger.
MIN_PART_BYTES = 500
# The browser loads nothing from other hosts, and other sites cannot show the page in a frame.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def create_app(network: Any, scaling: Any, names: Collection[str]) -> Flask:
    """Creates the web application.

    Args:
        network: float32 (n, 28, 28) -> (n, 10).
        scaling: of the network's input; `load_network` returns both.
        names: host names that the page is served as, beside localhost and addresses.
    """
    app = Flask(__name__, template_folder="page", static_folder="page", static_url_path="/static")
    allowed_names = {name.lower() for name in names}
    large_pictures, reading_large = BoundedSemaphore(MAX_LARGE_PICTURES), Lock()
    predict = predictor(network)
    # Compile before the first request.
    digit_probabilities(np.zeros((1, *IMAGE_SHAPE), np.uint8), predict, scaling)

    @contextmanager
    def turn(file: BinaryIO) -> Iterator[None]:
        """Waits until a picture may be read; refuses it if too many large ones wait."""
        if not is_large(file):
            yield
            return
        if not large_pictures.acquire(blocking=False):
            abort(busy())
        try:
            with reading_large:
                yield
        finally:
            large_pictures.release()

    @app.before_request
    def refuse_other_sites() -> None:
        """Refuses requests that a web site of somebody else makes a browser send.

        Such a site cannot read the answers unless its own host name resolves to this machine (DNS
        rebinding). So only addresses, localhost and the given names are accepted. A proxy may
        replace the Host header, but not the Origin header, by the server's address.
        """
        host_header = request.headers.get("Host", "")
        origin = request.headers.get("Origin", f"http://{host_header}")
        try:
            name, origin_parts = urlsplit(f"//{host_header}").hostname or "", urlsplit(origin)
            origin_name = origin_parts.hostname
        except ValueError:  # such as a single [
            abort(400)
        if not (name == "localhost" or name in allowed_names or is_address(name)):
            abort(403, f"make app NAMES={name} would serve this name")
        if origin_parts.netloc != host_header and origin_name not in allowed_names:
            abort(403, "the request comes from another site")

    @app.get("/")
    def index() -> str:
        return render_template("index.html", max_bytes=MAX_UPLOAD_BYTES)

    @app.post("/digit")
    def predict_picture() -> tuple[Prediction | dict[str, str], int]:
        """Predicts the digits in a picture file, the body of the request.

        The answer is the JSON of `python -m app.predict --json`, with the image of each digit.
        """
        file = request.environ["wsgi.input"]  # in memory; request.data would be a copy
        try:
            with turn(file):
                grey = read_grayscale(file)
                rows = find_rows(grey)
        except UserError as problem:
            return {"error": str(problem)}, 422
        images = digit_images(rows)
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


def is_large(file: BinaryIO) -> bool:
    """Whether a picture file has more than MAX_PARALLEL_PIXELS, by its header."""
    try:
        image = Image.open(file)  # closing it would close the file
    except Exception:  # a damaged or much too large file, which read_grayscale refuses at once
        return False
    return image.width * image.height > MAX_PARALLEL_PIXELS


def busy() -> Response:
    response = jsonify(error="the server is busy; try again in a few seconds")
    response.status_code, response.headers["Retry-After"] = 503, str(RETRY_AFTER_S)
    return response


class BusyError(Error):  # type: ignore[misc]
    """Answer of waitress to a request that it discards."""

    code = 503
    reason = "Service Unavailable"

    def to_response(self, ident: str | None = None) -> tuple[str, list[tuple[str, str]], bytes]:
        status, headers, body = super().to_response(ident)
        return status, [*headers, ("Retry-After", str(RETRY_AFTER_S))], body


class DiscardingBuffer(OverflowableBuffer):  # type: ignore[misc]
    """Body of a request that is refused. It is received, so that the client reads the answer."""

    def append(self, data: bytes) -> None:
        pass


class BoundedRequestParser(HTTPRequestParser):  # type: ignore[misc]
    """A request of waitress whose body counts towards MAX_BYTES_IN_FLIGHT until it is closed."""

    in_flight: ClassVar["WeakKeyDictionary[BoundedRequestParser, int]"] = WeakKeyDictionary()
    lock: ClassVar[Any] = Lock()

    def received(self, data: bytes) -> int:
        had_headers = self.headers_finished
        consumed: int = super().received(data)
        if self.headers_finished and not had_headers and not self.completed:
            size = MAX_UPLOAD_BYTES if self.chunked else self.content_length
            with self.lock:
                # An upload may take half of what is left, so that small ones always find a place.
                if 2 * size <= MAX_BYTES_IN_FLIGHT - sum(self.in_flight.values()):
                    self.in_flight[self] = size
                    return consumed
            self.error = BusyError("too many uploads at once; try again in a few seconds")
            self.body_rcv.buf = DiscardingBuffer(self.adj.inbuf_overflow)
        return consumed

    def close(self) -> None:
        super().close()
        with self.lock:
            self.in_flight.pop(self, None)


class BoundedChannel(HTTPChannel):  # type: ignore[misc]
    """A connection of waitress that counts as idle while a request arrives byte by byte.

    Otherwise a client could keep its connections open for ever (a Slowloris attack).
    """

    parser_class = BoundedRequestParser
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


def start_message(addresses: Collection[tuple[str, int]]) -> str:
    """Tells where the page is and who can use it.

    Args:
        addresses: at which the server listens, with their ports.
    """
    urls = []
    is_public = False
    for host, port in addresses:
        address = ipaddress.ip_address(host)
        is_public |= not address.is_loopback
        reachable = reachable_addresses(address.version) if address.is_unspecified else []
        names = [f"[{each}]" if ":" in each else each for each in reachable or [host]]
        urls += [f"http://{name}:{port}/" for name in names]
    message = f"Draw at {' or '.join(urls)} (Ctrl-C ends it"
    if is_public:
        return f"{message}). Whoever reaches this machine can use the page."
    return f"{message}; make app HOST=0.0.0.0 lets a phone in)"


def reachable_addresses(version: int) -> list[str]:
    """IP addresses of this machine that others reach."""
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    addresses = [
        ipaddress.ip_address(address.address)
        for interface in psutil.net_if_addrs().values()
        for address in interface
        if address.family is family
    ]
    return [str(each) for each in addresses if not (each.is_loopback or each.is_link_local)]


def listening_addresses(server: Any) -> list[tuple[str, int]]:
    """Addresses and ports of a waitress server: several if the host name has several addresses."""
    single = (
        [(server.effective_host, server.effective_port)]
        if hasattr(server, "effective_host")
        else []
    )
    return single or list(server.effective_listen)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m app.server", description=__doc__)
    parser.add_argument(
        "--host", default="127.0.0.1", help="0.0.0.0 serves other devices too, such as a phone"
    )
    parser.add_argument("--port", default=8000, type=int)
    parser.add_argument(
        "--names", nargs="*", default=[], help="host names of the page, such as that of a proxy"
    )
    parser.add_argument("--model", type=Path, default=MODEL, help="default: %(default)s")
    return parser.parse_args()


def create_server(app: Flask, host: str, port: int) -> Any:
    """Creates a waitress server that listens on a port.

    Raises:
        UserError: the port is not free, or the address is not one of this machine.
    """
    TcpWSGIServer.channel_class = BoundedChannel
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
    network, scaling = load_network(arguments.model, IMAGE_SHAPE, CLASSES)
    app = create_app(network, scaling, [arguments.host, *arguments.names])
    server = create_server(app, arguments.host, arguments.port)
    print(printable(start_message(listening_addresses(server))), flush=True)
    server.run()


if __name__ == "__main__":
    command_line.run(main)
