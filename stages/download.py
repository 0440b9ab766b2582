"""Stage download: saves a data set as uint8 arrays in data/raw/."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field

from stages.common import command_line
from stages.common.atomic_write import atomic_write
from stages.common.params import Section, read_section
from stages.data.arrays import write_arrays
from stages.data.dataset_checks import check_entry, checked_arrays, entry_error
from stages.data.datasets import DATASETS, UInt8
from stages.data.idx import map_idx
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


def load_files(dataset: str, directory: Path) -> dict[str, UInt8]:
    """Downloads the IDX files of a data set into a directory, and memory-maps them.

    Raises:
        UserError: a file cannot be downloaded, or is not an IDX file of bytes.
    """
    files = DATASETS[dataset].files
    paths = download_files(dataset, list(files.values()), mirrors(dataset), directory)
    try:
        return {name: map_idx(path) for name, path in zip(files, paths, strict=True)}
    except ValueError as problem:
        raise entry_error(dataset, f"has an invalid file: {problem}") from None


def labels_from_zero(arrays: Mapping[str, UInt8], first_label: int) -> dict[str, UInt8]:
    """The labels y_train and y_test, such that the first class has the label 0."""
    return {name: arrays[name] - np.uint8(first_label) for name in ("y_train", "y_test")}


def main() -> None:
    dataset = read_section(Download).dataset

    entry = DATASETS[dataset]
    with atomic_write(RAW) as partial:
        partial.mkdir()
        # In `partial`, so that the next run removes the files of a killed one.
        with TemporaryDirectory(dir=partial) as directory:
            images = entry.load() if entry.load else load_files(dataset, Path(directory))
            arrays = checked_arrays(dataset, images)
            arrays |= labels_from_zero(arrays, entry.first_label)
            # All later stages need the class names for their tables and plots.
            write_arrays(partial, {**arrays, "classes": np.array(entry.classes)})
    print(f"{dataset}: {len(arrays['x_train']):,} training, {len(arrays['x_test']):,} test images")


if __name__ == "__main__":
    command_line.run(main, __doc__)
