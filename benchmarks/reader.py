"""How well the better reader reads, how long it trains, and what more time gives.

    python -m benchmarks.reader tutorial reader longer wide [--seeds 1 2 3]

Each training is `python -m stages.train` on all training images of data/normalized (dvc repro), in
a folder of its own. The settings were chosen on 10,000 images held out of those; the test images
are read once here, by each seed's network after its last epoch. People's own digits are in
../shared/digits, and are left out where that folder is missing.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from benchmarks.own_digits import own, readings
from benchmarks.processors import MODEL, ROOT, Sections, change, copy_code, merged, python
from stages.edges.bad_input import explained
from stages.edges.parameters import PARAMETERS
from stages.training.network import load_network
from stages.training.repeatable import set_threads
from tools.reader import read_settings

LONGER: Sections = {
    "train": {"epochs": 300},
    "warp": {"rotation": 12, "scale": 0.12, "shear": 10, "elastic_amplitude": 1.1},
}
WIDE: Sections = {
    "model": {"hidden_units": [2048, 1024, 512]},
    "train": {"epochs": 100, "batch_size": 128},
}


class Outcome(NamedTuple):
    minutes: float
    error: float  # % of the test images
    own: float  # % of people's own digits that are read right


def main() -> None:
    reader = read_settings()
    kinds: dict[str, Sections] = {
        "tutorial": {},
        "reader": reader,
        "longer": merged(reader, LONGER),
        "wide": merged(reader, WIDE),
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="+", choices=kinds)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    options = parser.parse_args()

    set_threads()
    print("| | layers | epochs | minutes | test error, % | own digits right, % | seeds |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    tutorial = yaml.safe_load((ROOT / PARAMETERS).read_text(encoding="utf-8"))
    for kind in options.kinds:
        parameters = merged(tutorial, kinds[kind])
        outcomes = [outcome(parameters, seed) for seed in options.seeds]
        minutes, errors, right = (np.array(column) for column in zip(*outcomes, strict=True))
        layers = "-".join(map(str, parameters["model"]["hidden_units"]))
        print(
            f"| {kind} | {layers} | {parameters['train']['epochs']} | {minutes.mean():.1f} | "
            f"{spread(errors, 2)} | {spread(right, 1)} | {len(options.seeds)} |",
            flush=True,
        )


def outcome(parameters: Sections, seed: int) -> Outcome:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        copy_code(folder)
        (folder / "data").symlink_to(ROOT / "data")
        change(folder, parameters, {"train": {"seed": seed}})
        began = time.perf_counter()
        python(folder, [sys.executable], "-m", "stages.train")
        minutes = (time.perf_counter() - began) / 60
        python(folder, [sys.executable], "-m", "stages.evaluate")
        scores = json.loads((folder / "metrics/evaluate.json").read_text())
        network, scaling = load_network(folder / MODEL)
    pictures = list(own())
    right = np.nan
    if pictures:
        result = readings("people's own digits", pictures, network, scaling)
        right = 100 * np.equal(result.read(), result.numbers).mean()
    return Outcome(minutes, scores["baseline_error"], right)


def spread(values: Any, digits: int) -> str:
    """The mean and its standard error."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    error = values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.{digits}f} ± {error:.{digits}f}"


if __name__ == "__main__":
    with explained():
        main()
