"""Stage normalize: images as scaled float32, split into training, validation and test."""

from pathlib import Path

import numpy as np

from stages.data.arrays import load_split, save_arrays
from stages.data.scaling import Scaling
from stages.data.splitting import held_out
from stages.edges.bad_input import BadInput, explained
from stages.edges.parameters import read_parameters
from stages.results.pictures import digits, save

RAW = Path("data/raw")
NORMALIZED = Path("data/normalized")
SAMPLES = Path("plots/samples.png")


def main() -> None:
    parameters = read_parameters()
    x, y = load_split(RAW, "train", "uint8")  # (n, 28, 28), (n,)
    x_test, y_test = load_split(RAW, "test", "uint8")

    if parameters.normalize.validation >= len(y):
        raise BadInput(f"{RAW} holds another data set than params.yaml names; run dvc repro")
    validation = held_out(y, parameters.normalize.validation)
    x_train, y_train = x[~validation], y[~validation]
    scaling = Scaling.fit(parameters.normalize.scaling, x_train)

    save_arrays(
        NORMALIZED,
        {
            "scaling": np.array(scaling),  # (2,): offset and divisor
            "x_train": scaling(x_train),
            "y_train": y_train,
            "x_validation": scaling(x[validation]),
            "y_validation": y[validation],
            "x_test": scaling(x_test),
            "y_test": y_test,
        },
    )
    first = digits(x_train[:25], [str(label) for label in y_train[:25]], "First training digits")
    save(first, SAMPLES)
    print(
        f"{len(y_train):,} images to train, {validation.sum():,} held out, {len(y_test):,} to test"
    )


if __name__ == "__main__":
    with explained():
        main()
