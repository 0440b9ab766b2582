"""The model's card: what it is, what it was trained on, how good it is, what it is not for.

Source: M. Mitchell et al., "Model cards for model reporting", FAT* 2019, arXiv:1810.03993.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def model_card(
    layers: Sequence[str],
    parameters: int,
    scores: Mapping[str, float],
    confidence: float,
    counts: npt.NDArray[Any],
    classes: Sequence[str],
) -> str:
    """The card in Markdown.

    Args:
        layers: of the network, in words.
        parameters: how many it has.
        scores: of `scores.scores`, in percent where they are errors.
        confidence: of the interval for the error, such as 0.95.
        counts: whole numbers of shape (classes, classes); [i, j] test images of the class i were
            taken for a j.
        classes: their names.
    """
    images = counts.sum(axis=1)
    mistakes = images - np.diag(counts)
    rows = []
    for place, name in enumerate(classes):
        others = counts[place].copy()
        others[place] = 0
        taken_for = classes[int(others.argmax())] if others.any() else "–"
        share = f"{100 * mistakes[place] / images[place]:.2f}%" if images[place] else "–"
        rows.append(f"| {name} | {images[place]:,} | {mistakes[place]:,} | {share} | {taken_for} |")
    error, low, high = (scores[f"baseline_error{end}"] for end in ("", "_low", "_high"))
    return f"""# Model card

Written by the stage `evaluate`; the numbers are those of `metrics/` and `plots/`.

**What it is.** A network of {parameters:,} parameters, {", ".join(layers)}, in
`models/handwritten_digit.h5`. It takes images of 28×28 pixels, ink bright on dark, scaled as the
attributes `pixel_offset` and `pixel_divisor` of the file say, and gives a probability for each of
{len(classes)} classes.

**What it was trained on.** The training images of the data set that `params.yaml` names, as
`dvc.lock` pins it; by default MNIST: digits that employees and students in the USA wrote around
1990, centred and scaled by its makers.

**How good it is.** Error on {images.sum():,} test images: {error:.2f}%, {100 * confidence:g}% \
interval {low:.2f}–{high:.2f}%.
That is one training; others differ by their seed, as the README says. Its probabilities are off by
{100 * scores["expected_calibration_error"]:.2f} points on average (expected calibration error).

| class | test images | mistakes | error | most often taken for |
| --- | ---: | ---: | ---: | --- |
{chr(10).join(rows)}

**What it is not for.** Anything where a wrong digit costs something: cheques, doses, addresses. It
knows these classes alone, and calls whatever else it sees one of them, often surely. Digits written
in other ways than MNIST's writers did, such as a 1 with a long upstroke, are read worse.
"""
