"""Stage download: saves a data set as uint8 arrays in data/raw/."""

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field

from stages.common import command_line
from stages.common.params import Section, read_section
from stages.data.arrays import save_arrays
from stages.data.datasets import DATASETS, check_entry, checked_arrays, decode_idx
from stages.data.mirrors import download_files, mirrors

RAW = Path("data/raw")


def known_dataset(dataset: str) -> str:
    if dataset not in DATASETS:
        raise ValueError("unknown data set")
    check_entry(dataset)
    return dataset


class Download(Section):
    dataset: Annotated[str, AfterValidator(known_dataset)] = Field(
        description=f"one of {', '.join(DATASETS)}"
    )


def main() -> None:
    dataset = read_section(Download).dataset

    entry = DATASETS[dataset]
    if entry.load:
        images = entry.load()
    else:
        contents = download_files(dataset, list(entry.files.values()), mirrors(dataset))
        images = {
            name: decode_idx(content) for name, content in zip(entry.files, contents, strict=True)
        }
    # All later stages need the class names for their tables and plots.
    arrays = {**checked_arrays(dataset, images), "classes": np.array(entry.classes)}

    save_arrays(RAW, arrays)
    print(f"{dataset}: {len(arrays['x_train']):,} training, {len(arrays['x_test']):,} test images")


if __name__ == "__main__":
    command_line.run(main, __doc__)
