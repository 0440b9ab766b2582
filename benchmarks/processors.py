"""Whether the pipeline gives the same files on other x86-64 processors, without having them.

    python -m benchmarks.processors

The real stages: one epoch of the tutorial's network on mnist-5k, as it is and on warped digits, and
its evaluation, on this processor and on emulated ones: a Haswell of 2013, the least that is
promised, and an AMD of 2019. It needs qemu-x86_64, which Debian has in qemu-user. The exit status
says whether the files differ.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from stages.edges.bad_input import explained

ROOT = Path(__file__).parent.parent
PARAMETERS = Path("params.yaml")
MODEL = Path("models/handwritten_digit.h5")
RESULTS = ("metrics", "plots")
Sections = dict[str, dict[str, Any]]
# An epoch of each, on the embedded digits, whatever params.yaml says.
TUTORIAL: Sections = {
    "download": {"dataset": "mnist-5k"},
    "normalize": {"scaling": "unit", "validation": 0},
    "model": {"hidden_units": [512, 256, 128]},
    "train": {
        **{"epochs": 1, "batch_size": 32, "learning_rate": 0.001, "schedule": "constant"},
        "seed": 42,
    },
    "warp": dict.fromkeys(("rotation", "scale", "shear", "shift", "elastic_amplitude"), 0),
}
WARPED: Sections = {
    "train": {"schedule": "cosine"},
    "warp": {
        **{"rotation": 10, "scale": 0.1, "shear": 10, "shift": 1},
        **{"elastic_amplitude": 1, "elastic_smoothness": 5},
    },
}
AS_IT_IS: dict[str, Sections] = {"the tutorial's training": {}}
TRAININGS = AS_IT_IS | {"on warped digits, the rate falling": WARPED}
EMULATED = ("Haswell", "EPYC-Rome")


def prepare(folder: Path) -> None:
    """Makes a folder of the project in which a training can start, on this processor."""
    copy_code(folder)
    change(folder, yaml.safe_load((ROOT / PARAMETERS).read_text(encoding="utf-8")), TUTORIAL)
    for stage in ("download", "normalize"):
        python(folder, [sys.executable], "-m", f"stages.{stage}")


def copy_code(folder: Path) -> None:
    """Copies there what a training is made from, but for data and parameters."""
    shutil.copytree(ROOT / "stages", folder / "stages")
    shutil.copy(ROOT / "requirements.txt", folder)


def change(folder: Path, parameters: Sections, changes: Sections) -> None:
    """Writes a params.yaml there, with changes."""
    text = yaml.safe_dump(merged(parameters, changes))
    (folder / PARAMETERS).write_text(text, encoding="utf-8")


def merged(parameters: Sections, changes: Sections) -> Sections:
    """Parameters by section, with changes."""
    sections = parameters.keys() | changes.keys()
    return {name: parameters.get(name, {}) | changes.get(name, {}) for name in sections}


def python(folder: Path, command: Sequence[str], *arguments: str) -> str:
    """What a Python prints there on its standard output."""
    # What it says besides is of interest where it fails: an emulator warns at every thread.
    run = subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True)
    if run.returncode:
        sys.exit("\n".join(run.stderr.splitlines()[-20:]))
    return run.stdout


def made(folder: Path, command: Sequence[str]) -> str:
    """The MD5 of the model that this Python trains there, and of all metrics, tables and plots."""
    for stage in ("train", "evaluate"):
        python(folder, command, "-m", f"stages.{stage}")
    results = [path for name in RESULTS for path in (folder / name).rglob("*") if path.is_file()]
    return ", ".join(md5(files) for files in ([folder / MODEL], sorted(results)))


def md5(files: Iterable[Path]) -> str:
    """Of the content of files, one after the other."""
    return hashlib.md5(b"".join(path.read_bytes() for path in files)).hexdigest()  # noqa: S324


def emulated(processor: str) -> list[str]:
    """The command of this Python on another x86-64 processor."""
    # The interpreter behind the virtual environment's link, which qemu would not find.
    interpreter = os.path.realpath(sys.executable)
    path = os.pathsep.join(path for path in sys.path if path.endswith("-packages"))
    return ["qemu-x86_64", "-cpu", processor, "-E", f"PYTHONPATH={path}", interpreter]


def table(ways: Mapping[str, Sequence[str]], trainings: Mapping[str, Sections] = TRAININGS) -> bool:
    """Trains and evaluates in each of the ways and prints the MD5s; whether they differ."""
    rows = set()
    print(f"| processor | {' | '.join(f'{name}: model, results' for name in trainings)} |")
    print(f"| ---{' | ---' * len(trainings)} |", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(folder)
        tutorial = yaml.safe_load((folder / PARAMETERS).read_text(encoding="utf-8"))
        for name, command in ways.items():
            digests = []
            for changes in trainings.values():
                change(folder, tutorial, changes)
                digests.append(made(folder, command))
            row = " | ".join(digests)
            rows.add(row)
            print(f"| {name} | {row} |", flush=True)
    return len(rows) > 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("processors", nargs="*", default=EMULATED, help="as qemu-x86_64 -cpu help")
    parser.add_argument("--tutorial", action="store_true", help="the tutorial's training alone")
    options = parser.parse_args()
    if not shutil.which("qemu-x86_64"):
        sys.exit("qemu-x86_64 is missing; Debian has it in the package qemu-user")
    ways = {"this one": [sys.executable]} | {name: emulated(name) for name in options.processors}
    raise SystemExit(table(ways, AS_IT_IS if options.tutorial else TRAININGS))


if __name__ == "__main__":
    with explained():
        main()
