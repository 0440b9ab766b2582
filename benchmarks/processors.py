"""Digests of the pipeline's results on this x86-64 processor and on emulated ones.

    python -m benchmarks.processors

It trains on mnist-5k for one epoch, as in the tutorial and with augmentation, and evaluates. The
emulated processors are a Haswell of 2013, the oldest supported one, and an AMD EPYC of 2019. It
needs qemu-x86_64 (on Debian, in the package qemu-user). The exit status is 1 if results differ.
"""

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.common import ROOT, print_table
from benchmarks.stage_runs import MODEL, Sections, copy_code, merge, run_stage, write_params
from stages.common import command_line
from stages.common.errors import UserError
from stages.common.params import PARAMS, read_yaml

RESULTS = (Path("metrics"), Path("plots"))
# All parameters that influence the results.
TUTORIAL_PARAMS: Sections = {
    "download": {"dataset": "mnist-5k"},
    "normalize": {"scaling": "unit", "validation": 0},
    "model": {"hidden_units": [512, 256, 128]},
    "train": {
        "epochs": 1,
        "batch_size": 32,
        "learning_rate": 0.001,
        "schedule": "constant",
        "seed": 42,
    },
    "augmentation": {
        "rotation": 0,
        "scale": 0,
        "shear": 0,
        "shift": 0,
        "elastic_amplitude": 0,
        "elastic_smoothness": 5,
    },
}
AUGMENTED: Sections = {
    "train": {"schedule": "cosine"},
    "augmentation": {
        "rotation": 10,
        "scale": 0.1,
        "shear": 10,
        "shift": 1,
        "elastic_amplitude": 1,
        "elastic_smoothness": 5,
    },
}
# Parameters that differ from TUTORIAL_PARAMS, by name of the training.
TRAININGS: dict[str, Sections] = {
    "the tutorial's training": {},
    "with augmentation and cosine schedule": AUGMENTED,
}
EMULATED = ("Haswell", "EPYC-Rome")


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.processors", description=__doc__)
    parser.add_argument("processors", nargs="*", default=EMULATED, help="see qemu-x86_64 -cpu help")
    parser.add_argument("--tutorial", action="store_true", help="only the tutorial's training")
    arguments = parser.parse_args()
    if not shutil.which("qemu-x86_64"):
        raise UserError("qemu-x86_64 is missing; apt install qemu-user installs it")
    commands = {name: emulator_command(name) for name in arguments.processors}
    trainings = dict(list(TRAININGS.items())[:1]) if arguments.tutorial else TRAININGS
    sys.exit(not compare_processors(commands, trainings))


def emulator_command(processor: str) -> list[str]:
    """The command that starts this Python on another x86-64 processor."""
    # qemu does not resolve the virtual environment's link to the interpreter.
    interpreter = os.path.realpath(sys.executable)
    path = os.pathsep.join(path for path in sys.path if path.endswith("-packages"))
    return ["qemu-x86_64", "-cpu", processor, "-E", f"PYTHONPATH={path}", interpreter]


def compare_processors(
    commands: Mapping[str, Sequence[str]], trainings: Mapping[str, Sections] = TRAININGS
) -> bool:
    """Prints the digests of each processor, this one first.

    Args:
        commands: that start Python on an emulated processor, by its name.
        trainings: changes of TUTORIAL_PARAMS by name.

    Returns:
        Whether all processors have the same digests.
    """
    digests = set()

    def rows(directory: Path) -> Iterator[list[str]]:
        for processor, python in {"this one": [sys.executable], **commands}.items():
            row = [train_and_digest(directory, python, each) for each in trainings.values()]
            digests.add(tuple(row))
            yield [processor, *row]

    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        copy_code(directory)
        write_params(directory, merge(read_yaml(ROOT / PARAMS), TUTORIAL_PARAMS))
        for stage in ("download", "normalize"):
            run_stage(directory, stage)
        header = [f"{name}: model, results" for name in trainings]
        print_table(["processor", *header], rows(directory))
    return len(digests) == 1


def train_and_digest(directory: Path, python: Sequence[str], changes: Sections) -> str:
    """The MD5 of the model, and the one of all metrics and plots."""
    write_params(directory, merge(merge(read_yaml(ROOT / PARAMS), TUTORIAL_PARAMS), changes))
    for stage in ("train", "evaluate"):
        run_stage(directory, stage, python)
    results = [path for name in RESULTS for path in (directory / name).rglob("*") if path.is_file()]
    return f"{md5([directory / MODEL])}, {md5(sorted(results))}"


def md5(files: Iterable[Path]) -> str:
    """MD5 of the concatenated files."""
    return hashlib.md5(b"".join(path.read_bytes() for path in files)).hexdigest()  # noqa: S324


if __name__ == "__main__":
    command_line.run(main)
