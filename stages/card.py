"""Stage card: the model card, which says what the network is, is for, and how often it errs.

Source: the headings are those of M. Mitchell et al., "Model cards for model reporting",
FAT* 2019, arXiv:1810.03993.
"""

import csv
import json
from collections import Counter
from pathlib import Path

from stages.edges.bad_input import explained, no_arguments
from stages.edges.parameters import PARAMETERS, flat, read_yaml, shown
from stages.edges.replacing import replacing

SCORES = Path("metrics/evaluate.json")
PREDICTIONS = Path("plots/predictions.csv")
CARD = Path("docs/model-card.md")


def main() -> None:
    # All sections, which the stages before have checked.
    parameters = {name: shown(value) for name, value in flat(read_yaml(PARAMETERS)).items()}
    scores = json.loads(SCORES.read_text(encoding="utf-8"))
    with PREDICTIONS.open(encoding="utf-8", newline="") as file:
        images = Counter((row["actual"], row["predicted"]) for row in csv.DictReader(file))
    with replacing(CARD) as partial:
        partial.write_text(page(parameters, scores, images), encoding="utf-8", newline="\n")


def page(
    parameters: dict[str, str], scores: dict[str, float], images: Counter[tuple[str, str]]
) -> str:
    """The card in Markdown.

    Args:
        parameters: that the network was made with, by name, such as train.seed, as in YAML.
        scores: of metrics/evaluate.json; errors in percent, the calibration error 0 to 1.
        images: how many test images there are of an actual and a predicted class.
    """
    rows = []
    for name in sorted({actual for actual, _ in images}):
        of_class = {predicted: n for (actual, predicted), n in images.items() if actual == name}
        total, right = sum(of_class.values()), of_class.pop(name, 0)
        # Of two that are mistaken for it as often, the first.
        often = max(sorted(of_class), key=of_class.__getitem__, default="–")
        mistakes = total - right
        rows.append(f"| {name} | {total:,} | {mistakes:,} | {mistakes / total:.2%} | {often} |")
    made_with = ", ".join(
        f"`{key}` {value}"
        for key, value in parameters.items()
        if not key.startswith(("download.", "evaluate."))
    )
    return f"""# Model card

Written by the stage `card` from `params.yaml`, `metrics/` and `plots/`.

## The model

`models/handwritten_digit.h5`, a multilayer perceptron in Keras: an image of 28×28 pixels in, a
probability for each of ten classes out. How to load it, here and elsewhere, and what its input must
be: [reading pictures](reading-pictures.md).

It was made with {made_with}.

## Intended use

To read one handwritten digit, and to show how a network is trained, measured and reproduced. Not
for anything where a wrong digit costs something: cheques, doses, addresses.

## Data

Trained and tested on the data set `{parameters["download.dataset"]}`, whose content is pinned in
`stages/data/datasets.py`. MNIST's digits were written in the USA around 1990, by employees of the
Census Bureau and by pupils, and were centred and scaled by its makers; in `mnist`, training and
test images are by different writers.

## Results

On {images.total():,} test images: error {scores["baseline_error"]:.2f}%, \
{100 * float(parameters["evaluate.confidence"]):g}% interval \
{scores["baseline_error_low"]:.2f}–{scores["baseline_error_high"]:.2f}.
The interval is about this one network; those of other seeds differ by more than most changes do.
Its probabilities are off by {100 * scores["expected_calibration_error"]:.2f} points on average.

| class | test images | misread | error | most often as |
| --- | ---: | ---: | ---: | --- |
{chr(10).join(rows)}

## Limits

It knows its ten classes alone, and calls whatever it sees one of them, often surely. The error
above is that on images made as its training images were; on drawings and photographs
`python -m benchmarks.own_digits` measures another.
"""


if __name__ == "__main__":
    with explained():
        no_arguments(__doc__)
        main()
