"""Stage download: the data set, as uint8 arrays in data/raw/."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from stages.data.arrays import save_arrays
from stages.data.datasets import MNIST, TRAINING_IMAGES, decode_idx, embedded_mnist_5k
from stages.data.mirrors import fetch, mirrors
from stages.edges.bad_input import explained, no_arguments
from stages.edges.parameters import Section, read_section

RAW = Path("data/raw")


def known(dataset: str) -> str:
    if dataset not in TRAINING_IMAGES:
        raise ValueError("no such data set")
    return dataset


class Download(Section):
    dataset: Annotated[str, AfterValidator(known)] = Field(description=" or ".join(TRAINING_IMAGES))


def main() -> None:
    dataset = read_section(Download).dataset

    if dataset == "mnist":
        contents = fetch(list(MNIST.values()), mirrors())
        arrays = {name: decode_idx(content) for name, content in zip(MNIST, contents, strict=True)}
    else:
        arrays = embedded_mnist_5k()

    save_arrays(RAW, arrays)
    print(
        f"{dataset}: {len(arrays['x_train']):,} images to train, {len(arrays['x_test']):,} to test"
    )


if __name__ == "__main__":
    with explained():
        no_arguments(__doc__)
        main()
