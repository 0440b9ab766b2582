"""Stage download: the data set, as uint8 arrays in data/raw/."""

import json
from pathlib import Path

from stages.parts.arrays import save_arrays
from stages.parts.bad_input import explained
from stages.parts.datasets import MNIST, decode_idx, describe, embedded_mnist_5k
from stages.parts.mirrors import fetch, mirrors
from stages.parts.parameters import read_parameters
from stages.parts.replacing import replacing

RAW = Path("data/raw")
METRICS = Path("metrics/dataset.json")


def main() -> None:
    parameters = read_parameters()
    dataset = parameters.download.dataset

    if dataset == "mnist":
        contents = fetch(list(MNIST.values()), mirrors())
        arrays = {name: decode_idx(content) for name, content in zip(MNIST, contents, strict=True)}
    else:
        arrays = embedded_mnist_5k()

    save_arrays(RAW, arrays)
    with replacing(METRICS) as partial:
        partial.write_text(json.dumps(describe(dataset, arrays), indent=2) + "\n")
    print(
        f"{dataset}: {len(arrays['x_train']):,} images to train, {len(arrays['x_test']):,} to test"
    )


if __name__ == "__main__":
    with explained():
        main()
