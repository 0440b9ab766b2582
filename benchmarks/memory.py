"""Time and peak memory of each stage with images: on MNIST, and on MNIST repeated ten times.

    MNIST_MIRROR=/path/to/mnist python -m benchmarks.memory

It runs the code and parameters of this directory, but only two epochs.
"""

import gzip
import hashlib
import sys
import tempfile
from itertools import chain
from pathlib import Path

import numpy as np

from benchmarks.common import Cost, measure, print_table
from benchmarks.stage_runs import Sections, copy_code, merge, write_params
from stages.common import command_line
from stages.common.params import PARAMS, read_yaml
from stages.data.arrays import parts
from stages.data.datasets import MNIST, PinnedFile, UInt8
from stages.data.idx import map_idx
from stages.data.mirrors import download_files, mirrors

STAGES = ("download", "normalize", "train", "evaluate")
REPETITIONS = (1, 10)
EPOCHS = 2
ENTRY = """
DATASETS["repeated"] = DATASETS["mnist"]._replace(
    training_images={training_images}, files={files}, mirrors=({mirror!r},)
)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        mnist = Path(temporary) / "mnist"
        mnist.mkdir()
        paths = download_files("mnist", list(MNIST.values()), mirrors("mnist"), mnist)
        costs = []
        for repetitions in REPETITIONS:
            directory = Path(temporary) / f"{repetitions}"
            copy_code(directory)
            files = {
                name: write_repeated(map_idx(path), repetitions, directory / f"{path.name}.gz")
                for name, path in zip(MNIST, paths, strict=True)
            }
            training_images = len(map_idx(paths[0])) * repetitions
            with (directory / "stages/data/datasets.py").open("a", encoding="utf-8") as code:
                code.write(
                    ENTRY.format(
                        training_images=training_images, files=files, mirror=str(directory)
                    )
                )
            changes: Sections = {"download": {"dataset": "repeated"}, "train": {"epochs": EPOCHS}}
            write_params(directory, merge(read_yaml(PARAMS), changes))
            costs.append(
                [measure(sys.executable, "-m", f"stages.{s}", cwd=directory) for s in STAGES]
            )

    def row(stage: str, once: Cost, often: Cost) -> tuple[str, ...]:
        return (
            stage,
            *(f"{seconds:.1f}" for seconds in (once.seconds, often.seconds)),
            f"{often.seconds / once.seconds:.1f}",
            *(f"{megabytes:.0f}" for megabytes in (once.megabytes, often.megabytes)),
            f"{often.megabytes / once.megabytes:.1f}",
        )

    times = REPETITIONS[1]
    print_table(
        ("", "s", f"s, {times}×", "ratio", "peak memory, MB", f"MB, {times}×", "ratio"),
        map(row, STAGES, *costs),
    )


def write_repeated(items: UInt8, repetitions: int, path: Path) -> PinnedFile:
    """Writes a gzipped IDX file of items, (n, …), repeated in order."""
    shape = (len(items) * repetitions, *items.shape[1:])
    header = bytes([0, 0, 8, items.ndim]) + np.array(shape, ">u4").tobytes()
    sha256, size = hashlib.sha256(), 0
    with gzip.open(path, "wb", compresslevel=1) as file:
        # In parts: a child process counts the memory that its parent has when it starts it.
        repeated = (part.tobytes() for _ in range(repetitions) for part in parts(items))
        for content in chain([header], repeated):
            file.write(content)
            sha256.update(content)
            size += len(content)
    return PinnedFile(path.stem, size, sha256.hexdigest())


if __name__ == "__main__":
    command_line.run(main, __doc__)
