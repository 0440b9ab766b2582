"""Stage download: the data set, as uint8 arrays in data/raw/."""

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field

from stages.data.arrays import save_arrays
from stages.data.datasets import DATASETS, decode_idx, embedded_mnist_5k
from stages.data.mirrors import fetch, mirrors
from stages.edges.bad_input import explained, no_arguments
from stages.edges.parameters import Section, read_section

RAW = Path("data/raw")


def known(dataset: str) -> str:
    if dataset not in DATASETS:
        raise ValueError("no such data set")
    return dataset


class Download(Section):
    dataset: Annotated[str, AfterValidator(known)] = Field(
        description=f"one of {', '.join(DATASETS)}"
    )


def main() -> None:
    dataset = read_section(Download).dataset

    files = DATASETS[dataset].files
    if files:
        contents = fetch(dataset, list(files.values()), mirrors(dataset))
        images = {name: decode_idx(content) for name, content in zip(files, contents, strict=True)}
    else:
        images = embedded_mnist_5k()
    # What the labels stand for goes with the images, for the pictures and tables of all stages.
    arrays = {**images, "classes": np.array(DATASETS[dataset].classes)}

    save_arrays(RAW, arrays)
    print(
        f"{dataset}: {len(arrays['x_train']):,} images to train, {len(arrays['x_test']):,} to test"
    )


if __name__ == "__main__":
    with explained():
        no_arguments(__doc__)
        main()
