"""Stage normalize: scales images to float32, and splits off validation images."""

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from stages.common import command_line
from stages.common.params import Section, check_range, raise_if_any, read_section
from stages.data.arrays import Array, Parts, load_classes, load_split, parts, save_arrays
from stages.data.scaling import Scaling
from stages.data.splits import stratified_mask
from stages.evaluation.plots import draw_digits, save

RAW = Path("data/raw")
NORMALIZED = Path("data/normalized")
SAMPLES = Path("plots/samples.png")


class Normalize(Section):
    scaling: Literal["unit", "standard"] = Field(description="unit or standard")
    validation: int = Field(
        ge=0, description="an integer from 0, less than the number of training images"
    )


def main() -> None:
    normalize = read_section(Normalize)
    x, y = load_split(RAW, "train", "uint8")  # (n, h, w, …), (n,)
    x_test, y_test = load_split(RAW, "test", "uint8")
    classes = load_classes(RAW)

    check_range("normalize.validation", normalize.validation, 0, len(y) - 1)
    validation = stratified_mask(y, normalize.validation)
    training = ~validation
    scaling = Scaling.fit(normalize.scaling, parts(x, training))
    if not scaling.divisor:
        problem = "normalize.scaling is standard, but all training pixels are equal; expected unit"
        raise_if_any([problem])

    def scaled(images: Array, selected: npt.NDArray[np.bool_]) -> Parts:
        shape = (int(selected.sum()), *images.shape[1:])
        return Parts(shape, np.float32, (scaling(part) for part in parts(images, selected)))

    save_arrays(
        NORMALIZED,
        {
            "classes": np.array(classes),  # (c,)
            "scaling": np.array(scaling),  # (2,): offset and divisor
            "x_train": scaled(x, training),
            "y_train": y[training],
            "x_validation": scaled(x, validation),
            "y_validation": y[validation],
            "x_test": scaled(x_test, np.ones(len(x_test), bool)),
            "y_test": y_test,
        },
    )
    first = np.flatnonzero(training)[:25]
    captions = [classes[label] for label in y[first]]
    save(draw_digits(x[first], captions, "First training images"), SAMPLES)
    print(
        f"{training.sum():,} training, {validation.sum():,} validation, {len(y_test):,} test images"
    )


if __name__ == "__main__":
    command_line.run(main, __doc__)
