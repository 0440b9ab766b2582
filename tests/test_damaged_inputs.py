"""Damaged input files of every kind: none gives a traceback, or takes much time or memory.

`pytest -m long tests/test_damaged_inputs.py` reads fifteen times as many of them.
"""

import hashlib
import io
import random
import re
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.common.errors import UserError
from tests.project import ROOT

# Text that breaks formats: control characters, syntax of YAML, JSON and CSV, unusual numbers.
TOKENS = [
    *(b"\0", b"\xff", b"\x1b[2J", b"\n", b"\r", b"\t", "\u202e".encode(), b"..", b"/", b"%", b"="),
    *(b":", b"- ", b"[", b"]", b"{", b"}", b",", b"''", b'"', b"*a", b"&a ", b"<<: ", b"---\n"),
    *(b"nan", b"-1", b"1e999", b"0x", b"null", b"true", b"2001-99-99", b"!!binary "),
    *(b"9" * 5_000, b"[" * 2_000),
]
Read = Callable[[bytes], object]


def mutated(content: bytes, chance: random.Random) -> bytes:
    """The content after one to four changes: a bit, a cut, a repeat, random bytes, or a token."""
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


# Each of these functions returns valid files of one kind, and the project's function that reads
# them. They run in an empty directory.


def picture(file_format: str) -> tuple[list[bytes], Read]:
    from app.grayscale import read_grayscale
    from app.segmentation import find_digits

    file = io.BytesIO()
    digits = Image.open(ROOT / "docs/three.png").convert("RGB").resize((64, 64))
    digits.save(file, file_format)
    return [file.getvalue()], lambda content: find_digits(read_grayscale(io.BytesIO(content)))


def models() -> tuple[list[bytes], Read]:
    from stages.data.scaling import Scaling
    from stages.training.build_network import build_network
    from stages.training.model_file import load_network, save_network

    path = Path("model.h5")
    images = np.zeros((1, 28, 28), np.uint8)
    network = build_network([8], 1, (28, 28), 10)
    network.compile("adam", "sparse_categorical_crossentropy")
    save_network(network, ["accuracy"], Scaling(0.0, 255.0), path)

    def read(content: bytes) -> None:
        path.write_bytes(content)
        network, scaling = load_network(path, (28, 28), 10)
        network(scaling(images))

    return [path.read_bytes()], read


def checkpoints() -> tuple[list[bytes], Read]:
    from stages.training.checkpoint import Checkpoint, State

    checkpoint = Checkpoint(Path("checkpoint.npz"), {"code": "1"})
    variables = [np.zeros((9, 9), np.float32)] * 5
    history = [{"loss": 0.5, "val_loss": 0.5}] * 3
    callbacks = [{"wait": 3, "best_weights": [np.ones(9)]}]
    checkpoint.save(State(variables, history, ["0"] * 3, callbacks, False))

    def read(content: bytes) -> None:
        checkpoint.path.write_bytes(content)
        if checkpoint.load(variables, epochs=3) is None:
            raise UserError("ignored")

    return [checkpoint.path.read_bytes()], read


def parameters() -> tuple[list[bytes], Read]:
    from experiments.check_params import read_params

    return yaml_file("params.yaml", read_params)


def study() -> tuple[list[bytes], Read]:
    from experiments.study.grid import STUDY, read_study

    return yaml_file("study.yaml", lambda: read_study(STUDY, {}))


def yaml_file(name: str, read_file: Callable[[], object]) -> tuple[list[bytes], Read]:
    def read(content: bytes) -> None:
        Path(name).write_bytes(content)
        read_file()

    return [(ROOT / name).read_bytes()], read


def results(path: str, size: int | None = None) -> tuple[list[bytes], Read]:
    """The first `size` bytes of a result of the workspace, which `make compare` reads."""
    from experiments.compare.__main__ import main

    for name in (".dvc", "plots", "metrics"):
        shutil.copytree(ROOT / name, name, ignore=shutil.ignore_patterns("cache", "tmp"))
    for name in ("dvc.yaml", "dvc.lock"):
        shutil.copy(ROOT / name, name)
    lock = Path("dvc.lock").read_text()

    def read(content: bytes) -> None:
        # With the file's checksum in dvc.lock: otherwise compare would not read the file.
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        changed = re.sub(rf"({path}\n *hash: md5\n *md5: )\w+", rf"\g<1>{md5}", lock)
        Path("dvc.lock").write_text(changed)
        Path(path).write_bytes(content)
        main()

    return [Path(path).read_bytes()[:size]], read


PICTURE_FORMATS = [
    *("BMP", "DDS", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "SGI", "TGA", "TIFF"),
    "WEBP",
]
# For each kind, its function and the number of damaged files in the quick test.
KINDS: dict[str, tuple[Callable[[], tuple[list[bytes], Read]], int]] = {
    **{name: (partial(picture, name), 40) for name in PICTURE_FORMATS},
    "models": (models, 10),
    "checkpoints": (checkpoints, 40),
    "parameters": (parameters, 40),
    "study": (study, 40),
    "lock": (partial(results, "dvc.lock"), 6),
    "predictions": (partial(results, "plots/predictions.csv", 2_000), 6),
    "scores": (partial(results, "metrics/evaluate.json"), 6),
}


@pytest.mark.parametrize("times", [1, pytest.param(15, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_give_no_traceback(
    kind: str, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["compare", "workspace", "workspace"])
    make, count = KINDS[kind]
    files, read = make()
    chance = random.Random(f"{kind} {times}")  # noqa: S311
    reset_peak_memory()
    before = memory_mb("VmRSS")
    refused = 0
    for _ in range(count * times):
        content = mutated(chance.choice(files), chance)
        started = time.process_time()
        try:
            read(content)
        except (UserError, OSError):  # command_line.run prints these as one line
            refused += 1
        assert time.process_time() - started < 10
    print(f"{count * times} {kind}: {refused} refused, {memory_mb('VmHWM') - before:.0f} MB")
    assert refused
    assert memory_mb("VmHWM") - before < 1_000


def reset_peak_memory() -> None:
    """Resets VmHWM, the peak memory of this process, to its current memory."""
    Path("/proc/self/clear_refs").write_text("5")


def memory_mb(name: str) -> float:
    (kb,) = re.findall(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kb) / 1_000
