"""Stage card: writes the model card, docs/model-card.md.

Source of the headings: M. Mitchell et al., "Model cards for model reporting", FAT* 2019,
arXiv:1810.03993.
"""

import csv
import json
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from stages.common import command_line
from stages.common.atomic_write import atomic_write
from stages.common.lockfile import parameters_of_one_run
from stages.common.params import as_yaml
from stages.data.arrays import load_classes, load_image_shape
from stages.data.datasets import DATASETS

NORMALIZED = Path("data/normalized")
SCORES = Path("metrics/evaluate.json")
PREDICTIONS = Path("plots/predictions.csv")
CARD = Path("docs/model-card.md")
STAGES = ("download", "normalize", "train", "evaluate")  # whose parameters card has in dvc.yaml


def main() -> None:
    # params.yaml may have others: with `dvc repro --single-item card`, or if train is frozen.
    parameters = {name: as_yaml(value) for name, value in parameters_of_one_run(STAGES).items()}
    scores = json.loads(SCORES.read_text(encoding="utf-8"))
    with PREDICTIONS.open(encoding="utf-8", newline="") as file:
        confusion = Counter((row["actual"], row["predicted"]) for row in csv.DictReader(file))
    text = markdown(
        parameters, scores, confusion, load_image_shape(NORMALIZED), load_classes(NORMALIZED)
    )
    with atomic_write(CARD) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def markdown(
    parameters: dict[str, str],
    scores: dict[str, float],
    confusion: Counter[tuple[str, str]],
    image_shape: tuple[int, ...],
    classes: Sequence[str],
) -> str:
    """The model card in Markdown.

    Args:
        parameters: name, such as train.seed, to value as YAML.
        scores: content of metrics/evaluate.json; errors in percent, calibration error 0 to 1.
        confusion: number of test images by actual and predicted class.
        image_shape: (h, w) or (h, w, channels).
        classes: their names; the table has those with test images.
    """
    rows = []
    cells = {name: name.replace("|", r"\|") for name in classes} | {"–": "–"}
    for name in classes:
        counts = {predicted: n for (actual, predicted), n in confusion.items() if actual == name}
        total, correct = sum(counts.values()), counts.pop(name, 0)
        if not total:
            continue
        # Of equally frequent mistakes, the first in the order of the classes.
        most_frequent = max(sorted(counts, key=classes.index), key=counts.__getitem__, default="–")
        mistakes = total - correct
        rows.append(
            f"| {cells[name]} | {total:,} | {mistakes:,} | {mistakes / total:.2%} "
            f"| {cells[most_frequent]} |"
        )
    settings = ", ".join(
        f"`{key}` {value}"
        for key, value in parameters.items()
        if not key.startswith(("download.", "evaluate."))
    )
    dataset = parameters["download.dataset"]
    origin = f"Trained and tested on the data set `{dataset}`. {DATASETS[dataset].origin}"
    height, width, *channels = image_shape
    size = f"{height}×{width} pixels" + "".join(f" in {count} channels" for count in channels)
    return f"""# Model card

Written by the stage `card` from `dvc.lock`, `metrics/` and `plots/`.

## The model

`models/handwritten_digit.h5`, a Keras network from an image of {size} to the probabilities of
{len(classes)} classes. [Use the model elsewhere](model.md) says how to load it and what its input
must be.

It was made with {settings}.

## Intended use

To classify a single image, and to show how a network is trained, measured and reproduced. It must
not be used where a wrong class does harm: cheques, doses, addresses.

## Data

{textwrap.fill(origin, 100)}
`stages/data/datasets.py` defines it.

## Results

On {confusion.total():,} test images: error {scores["baseline_error"]:.2f}%, \
{100 * float(parameters["evaluate.confidence"]):g}% interval \
{scores["baseline_error_low"]:.2f}–{scores["baseline_error_high"]:.2f}.
The interval covers the choice of the test images only. Training with another seed changes the
error, too.
The expected calibration error is {scores["expected_calibration_error"]:.2%}.

| class | test images | mistakes | error | most frequent mistake |
| --- | ---: | ---: | ---: | --- |
{chr(10).join(rows)}

## Limits

It gives one of its {len(classes)} classes for any input, often with a high probability. The error
above is valid for images like the test images.
"""


if __name__ == "__main__":
    command_line.run(main, __doc__)
