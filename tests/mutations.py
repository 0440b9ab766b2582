"""Mutated inputs of every kind: `python -m tests.mutations KIND COUNT SEED FOLDER`.

Each input is read as the project reads it, in this process. What is refused must be refused by the
exception that ends a command with one line; any other one ends this process with its traceback.
"""

import contextlib
import hashlib
import io
import json
import os
import random
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from stages.edges.bad_input import BadInput
from tests.project import ROOT

# What no text of these files should hold, and what programs are known to stumble over.
TOKENS = [
    *(
        b"\0",
        b"\xff",
        b"\x1b[2J",
        b"\n",
        b"\r",
        b"\t",
        b":",
        b"- ",
        b"[",
        b"]",
        b"{",
        b"}",
        b"*a",
        b"&a ",
    ),
    *(
        b"nan",
        b"-1",
        b"1e999",
        b"9" * 5_000,
        b"0x",
        b"!!binary ",
        b"null",
        b"true",
        b"''",
        b'"',
        b",",
    ),
    *(b"2001-99-99", b"<<: ", b"---\n", "\u202e".encode(), b"[" * 2_000, b"..", b"/", b"=", b"%"),
]


def mutated(content: bytes, chance: random.Random) -> bytes:
    """The content with one to four slips: bits, cuts, repeats, insertions of bytes or tokens."""
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(content) + 1)
        until = min(len(content), at + int(chance.expovariate(1 / 20)))
        match chance.randrange(7):
            case 0 if at < len(content):
                flipped = bytes([content[at] ^ 1 << chance.randrange(8)])
                content = content[:at] + flipped + content[at + 1 :]
            case 1:
                content = content[:at] + content[until:]
            case 2:
                content = content[:until] + content[at:]
            case 3:
                content = content[:at] + chance.randbytes(until - at) + content[until:]
            case 4 | 5:
                content = content[:at] + chance.choice(TOKENS) + content[at:]
            case 6 if chance.random() < 0.3:
                content = content[:at]
    return content


def pictures(chance: random.Random, _: Path) -> Callable[[], None]:
    from app.digits import digits
    from app.grey import read_grey

    files = [path.read_bytes() for path in sorted((ROOT / "docs/pictures").iterdir())]
    picture = Image.open(ROOT / "docs/three.png")
    for kind in ("GIF", "TIFF", "BMP", "WEBP", "PPM", "TGA", "ICO", "JPEG2000", "DDS"):
        file = io.BytesIO()
        picture.convert("RGB").resize((64, 64)).save(file, kind)
        files.append(file.getvalue())
    return lambda: used(digits(read_grey(io.BytesIO(mutated(chance.choice(files), chance)))))


def models(chance: random.Random, folder: Path) -> Callable[[], None]:
    import numpy as np

    from stages.training.network import load_network

    content = (folder / "handwritten_digit.h5").read_bytes()
    path = folder / "mutated.h5"
    images = np.zeros((1, 28, 28), np.uint8)

    def read() -> None:
        path.write_bytes(mutated(content, chance))
        network, scaling = load_network(path)
        used(network(scaling(images)))

    return read


def checkpoints(chance: random.Random, folder: Path) -> Callable[[], None]:
    import numpy as np

    from stages.training.checkpoint import Checkpoint, State

    checkpoint = Checkpoint(folder / "checkpoint.npz", {"code": "1"})
    variables = [np.zeros((9, 9), np.float32)] * 5
    checkpoint.save(State(variables, [{"loss": 0.5, "val_loss": 0.5}] * 3))
    content = checkpoint.path.read_bytes()

    def read() -> None:
        checkpoint.path.write_bytes(mutated(content, chance))
        with contextlib.redirect_stdout(io.StringIO()):
            state = checkpoint.load(variables, epochs=3)
        if state is None:
            raise BadInput("it starts afresh")

    return read


def params(chance: random.Random, folder: Path) -> Callable[[], None]:
    from tools.parameters import read_parameters

    return texts(chance, folder / "params.yaml", lambda path: used(read_parameters(path)))


def study(chance: random.Random, folder: Path) -> Callable[[], None]:
    from experiments.grid import read_study

    return texts(chance, folder / "study.yaml", lambda path: used(read_study(path, {})))


def texts(chance: random.Random, path: Path, reads: Callable[[Path], None]) -> Callable[[], None]:
    content = (ROOT / path.name).read_bytes()

    def read() -> None:
        path.write_bytes(mutated(content, chance))
        reads(path)

    return read


def lock(chance: random.Random, folder: Path) -> Callable[[], None]:
    """The workspace's dvc.lock, and what make compare shows of it."""
    content = (ROOT / "dvc.lock").read_bytes()
    compare = comparison(folder)

    def read() -> None:
        Path("dvc.lock").write_bytes(mutated(content, chance))
        compare()

    return read


def predictions(chance: random.Random, folder: Path) -> Callable[[], None]:
    """The workspace's predictions or metrics, with the lock that belongs to them."""
    lock = (ROOT / "dvc.lock").read_text()
    compare = comparison(folder)

    def read() -> None:
        for path in ("plots/predictions.csv", "metrics/evaluate.json"):
            shutil.copy(ROOT / path, path)
        path = chance.choice(["plots/predictions.csv", "metrics/evaluate.json"])
        content = (ROOT / path).read_bytes()[:2_000]
        new = mutated(content, chance)
        Path(path).write_bytes(new)
        md5 = hashlib.md5(new, usedforsecurity=False).hexdigest()
        told = re.sub(rf"({path}\n *hash: md5\n *md5: )\w+", rf"\g<1>{md5}", lock)
        Path("dvc.lock").write_text(told)
        compare()

    return read


def comparison(folder: Path) -> Callable[[], None]:
    from experiments.compare import main

    for name in (".dvc", "plots", "metrics"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("cache", "tmp"))
    shutil.copy(ROOT / "dvc.yaml", folder)
    os.chdir(folder)
    sys.argv[1:] = ["workspace", "workspace"]

    def compare() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            main()

    return compare


def used(_: object) -> None:
    """Nothing more is done with what could be read."""


def main() -> None:
    kind, count, seed, folder = sys.argv[1:]
    read = globals()[kind](random.Random(f"{kind} {seed}"), Path(folder))  # noqa: S311
    refused, slowest = 0, 0.0
    for _ in range(int(count)):
        started = time.process_time()
        try:
            read()
        except (BadInput, OSError):
            refused += 1
        slowest = max(slowest, time.process_time() - started)
    # Not getrusage, which begins with the memory of the process that started this one.
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(json.dumps({"refused": refused, "slowest": slowest, "peak_mb": int(peak) / 1_000}))


if __name__ == "__main__":
    main()
