"""Stage download: the data set, as uint8 arrays in data/raw/."""

import json
from pathlib import Path

from stages.data.arrays import save_arrays
from stages.data.datasets import MNIST, decode_idx, describe, embedded_mnist_5k
from stages.data.mirrors import fetch, mirrors
from stages.edges.bad_input import explained
from stages.edges.parameters import read_parameters
from stages.edges.replacing import replacing

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
