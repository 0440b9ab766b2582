"""A page on this machine that reads a digit while it is drawn, or from a picture."""

import argparse
import io
import logging
import signal
from pathlib import Path
from typing import Any

import numpy as np
import waitress
from flask import Flask, Response, render_template, request

from app.grey import read_grey
from app.ink import mnist_image
from stages.edges.bad_input import BadInput, explained
from stages.training.network import load_network
from stages.training.repeatable import set_threads

MODEL = Path("models/handwritten_digit.h5")
MAX_BYTES = 32_000_000  # a phone's photo has 2 to 15 million


def page(network: Any, scaling: Any) -> Flask:
    """The page, and the address to which it sends pictures.

    Args:
        network: float32 (n, 28, 28) -> (n, 10).
        scaling: what the network was trained with, as `load_network` gives both.
    """
    app = Flask(__name__, template_folder="page", static_folder="page", static_url_path="/static")

    @app.get("/")
    def draw() -> str:
        return render_template("index.html", max_bytes=MAX_BYTES)

    @app.post("/digit")
    def digit() -> tuple[dict[str, Any], int]:
        """From the bytes of a picture file to ten probabilities and 784 pixels."""
        try:
            image = mnist_image(read_grey(io.BytesIO(request.get_data())))
        except BadInput as problem:
            return {"error": str(problem)}, 422
        probabilities = np.asarray(network(scaling(image[None])))[0]  # (10,)
        return {"probabilities": probabilities.tolist(), "image": image.ravel().tolist()}, 200

    @app.after_request
    def keep_here(response: Response) -> Response:
        # The browser itself refuses whatever would go elsewhere.
        response.headers["Content-Security-Policy"] = "default-src 'self'"
        response.headers["Cache-Control"] = "no-store"
        return response

    return app


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m app.server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets others in")
    parser.add_argument("--port", default=8000, type=int)
    parser.add_argument("--model", type=Path, default=MODEL, help="by default %(default)s")
    arguments = parser.parse_args()
    if not 0 < arguments.port < 2**16:
        raise BadInput(f"port {arguments.port}: it must be a whole number from 1 to 65535")

    # Nothing is half-written here, and waitress would swallow what `explained` raises for it.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # While somebody draws, questions queue as a matter of course.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    set_threads(1)
    app = page(*load_network(arguments.model))
    try:
        # One thread: one picture at a time is held in memory.
        server = waitress.create_server(
            app,
            host=arguments.host,
            port=arguments.port,
            threads=1,
            max_request_body_size=MAX_BYTES,
        )
    except (OSError, OverflowError, ValueError) as problem:
        where = f"{arguments.host}, port {arguments.port}"
        reason = getattr(problem, "strerror", None) or problem
        raise BadInput(f"{where}: {reason}; make app PORT=8001 takes another port") from None
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    print(f"Draw at http://{host}:{arguments.port}/ (Ctrl-C ends it)", flush=True)
    server.run()


if __name__ == "__main__":
    with explained():
        main()
