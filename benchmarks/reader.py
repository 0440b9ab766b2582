"""Test error, accuracy on people's own digits, and training time of four settings.

    python -m benchmarks.reader tutorial reader longer wide [--seeds 1 2 3]

Each training is `python -m stages.train` on all training images of data/normalized, in a temporary
directory. docs/augmentation.md says how the settings were chosen. People's own digits are in
../shared/digits and are left out if this directory is missing.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from app import CLASSES, IMAGE_SHAPE
from benchmarks.common import ROOT, mean_and_error, print_table
from benchmarks.labelled_pictures import peoples_digits, recognize
from benchmarks.stage_runs import MODEL, Sections, copy_code, merge, run_stage, write_params
from experiments.reader import SETTINGS
from stages.common import command_line
from stages.common.params import PARAMS, read_yaml
from stages.training.model_file import load_network
from stages.training.threads import set_threads

LONGER: Sections = {
    "train": {"epochs": 300},
    "augmentation": {"rotation": 12, "scale": 0.12, "shear": 10, "elastic_amplitude": 1.1},
}
WIDE: Sections = {
    "model": {"hidden_units": [2048, 1024, 512]},
    "train": {"epochs": 100, "batch_size": 128},
}


class Result(NamedTuple):
    minutes: float
    test_error: float  # %
    own_digits: float  # % of people's own digits that are correct; NaN without pictures


def main() -> None:
    reader: Sections = read_yaml(ROOT / SETTINGS)
    settings: dict[str, Sections] = {
        "tutorial": {},
        "reader": reader,
        "longer": merge(reader, LONGER),
        "wide": merge(reader, WIDE),
    }
    parser = argparse.ArgumentParser("python -m benchmarks.reader", description=__doc__)
    parser.add_argument("settings", nargs="+", choices=settings)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    arguments = parser.parse_args()
    set_threads()
    params: Sections = read_yaml(ROOT / PARAMS)

    def rows() -> Iterator[list[str]]:
        for name in arguments.settings:
            sections = merge(params, settings[name])
            results = [train(sections, seed) for seed in arguments.seeds]
            yield [
                name,
                "-".join(map(str, sections["model"]["hidden_units"])),
                str(sections["train"]["epochs"]),
                f"{np.mean([result.minutes for result in results]):.1f}",
                mean_and_error([result.test_error for result in results], 2),
                mean_and_error([result.own_digits for result in results], 1),
                str(len(results)),
            ]

    print_table(
        ["", "layers", "epochs", "minutes", "test error, %", "own digits correct, %", "seeds"],
        rows(),
    )


def train(sections: Sections, seed: int) -> Result:
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        copy_code(directory)
        (directory / "data").symlink_to(ROOT / "data")
        write_params(directory, merge(sections, {"train": {"seed": seed}}))
        start = time.perf_counter()
        run_stage(directory, "train")
        minutes = (time.perf_counter() - start) / 60
        run_stage(directory, "evaluate")
        metrics = json.loads((directory / "metrics/evaluate.json").read_text(encoding="utf-8"))
        network, scaling = load_network(directory / MODEL, IMAGE_SHAPE, CLASSES)
    pictures = list(peoples_digits())
    correct = float("nan")
    if pictures:
        results = recognize("people's own digits", pictures, network, scaling)
        correct = float(100 * np.mean([result.is_correct() for result in results]))
    return Result(minutes, metrics["baseline_error"], correct)


if __name__ == "__main__":
    command_line.run(main)
