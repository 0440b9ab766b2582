"""Stage normalize: scales images to float32, and splits off validation images."""

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from stages.common import command_line
from stages.common.params import Section, check_range, read_section
from stages.data.arrays import load_classes, load_split, save_arrays
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
    x_train, y_train = x[~validation], y[~validation]
    scaling = Scaling.fit(normalize.scaling, x_train)

    save_arrays(
        NORMALIZED,
        {
            "classes": np.array(classes),  # (c,)
            "scaling": np.array(scaling),  # (2,): offset and divisor
            "x_train": scaling(x_train),
            "y_train": y_train,
            "x_validation": scaling(x[validation]),
            "y_validation": y[validation],
            "x_test": scaling(x_test),
            "y_test": y_test,
        },
    )
    captions = [classes[label] for label in y_train[:25]]
    save(draw_digits(x_train[:25], captions, "First training images"), SAMPLES)
    print(
        f"{len(y_train):,} training, {validation.sum():,} validation, {len(y_test):,} test images"
    )


if __name__ == "__main__":
    command_line.run(main, __doc__)
