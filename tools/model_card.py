"""Writes docs/model-card.md from the results beside dvc.lock; `make repro` does it at its end.

Source: the headings are those of M. Mitchell et al., "Model cards for model reporting",
FAT* 2019, arXiv:1810.03993.
"""

import json
from pathlib import Path

import pandas as pd

from experiments.recipes import LOCK, PREDICTIONS, SCORES, locked_parameters, locked_stages
from stages.edges.bad_input import explained, no_arguments
from stages.edges.parameters import shown
from stages.edges.replacing import replacing

CARD = Path("docs/model-card.md")


def main() -> None:
    with replacing(CARD) as partial:
        partial.write_text(card(), encoding="utf-8", newline="\n")


def card() -> str:
    """The card of the results in this folder, in Markdown."""
    lock = Path(LOCK).read_text(encoding="utf-8")
    parameters = {
        key: shown(value)
        for stage in locked_stages(lock).values()
        for key, value in locked_parameters(stage).items()
    }
    scores = json.loads(Path(SCORES).read_text(encoding="utf-8"))
    return page(parameters, scores, pd.read_csv(PREDICTIONS, dtype=str))


def page(parameters: dict[str, str], scores: dict[str, float], predictions: pd.DataFrame) -> str:
    """The card in Markdown.

    Args:
        parameters: that the network was made with, by name, such as train.seed, as in YAML.
        scores: of metrics/evaluate.json; errors in percent, the calibration error 0 to 1.
        predictions: a row for each test image: actual and predicted class.
    """
    wrong = predictions[predictions["actual"] != predictions["predicted"]]
    rows = []
    for name, images in predictions["actual"].value_counts().sort_index().items():
        taken_for = wrong.loc[wrong["actual"] == name, "predicted"].value_counts().sort_index()
        often = taken_for.idxmax() if len(taken_for) else "–"
        mistakes = int(taken_for.sum())
        rows.append(f"| {name} | {images:,} | {mistakes:,} | {mistakes / images:.2%} | {often} |")
    made_with = ", ".join(
        f"`{key}` {value}"
        for key, value in parameters.items()
        if not key.startswith(("download.", "evaluate."))
    )
    return f"""# Model card

Written by `make repro` from `dvc.lock`, `metrics/` and `plots/`.

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

On {len(predictions):,} test images: error {scores["baseline_error"]:.2f}%, \
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
