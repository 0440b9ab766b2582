"""Checks all of params.yaml: every section, what the data bounds, and that nothing else is there.

And TRAINING_THREADS, the one setting of the environment that a stage may refuse.

`make` asks this before it runs the pipeline, since DVC removes the outputs of a changed stage
before it runs the stage, and each stage checks its own sections alone. No TensorFlow.
"""

import os
from pathlib import Path
from typing import Any

from stages.data.datasets import DATASETS
from stages.download import Download
from stages.edges.bad_input import explained, no_arguments
from stages.edges.parameters import (
    PARAMETERS,
    check_bounds,
    faults,
    read_yaml,
    refuse,
    section_name,
    shown,
)
from stages.normalize import Normalize
from stages.results.parameters import Evaluate
from stages.training.parameters import Model, Train, Warp
from stages.training.threads import threads

SECTIONS = {
    section_name(schema): schema for schema in (Download, Normalize, Model, Train, Warp, Evaluate)
}


def read_parameters(path: Path = PARAMETERS) -> dict[str, Any]:
    """Reads all of params.yaml: the sections by name.

    Raises:
        BadInput: with a line for each fault, or TRAINING_THREADS is no number of threads.
    """
    threads(os.environ)
    return checked(read_yaml(path), path)


def checked(document: Any, path: Path) -> dict[str, Any]:
    """The sections by name of a document that has all of them, read from a path.

    Raises:
        BadInput: with a line for each fault.
    """
    if not isinstance(document, dict):
        refuse(
            [f"the file holds {shown(document)}; it must hold the sections {', '.join(SECTIONS)}"],
            path,
        )
    lines = [line for schema in SECTIONS.values() for line in faults(document, schema)]
    lines += [
        f"{section} is not a section; the sections are {', '.join(SECTIONS)}"
        for section in document
        if section not in SECTIONS
    ]
    refuse(lines, path)

    read: dict[str, Any] = {
        name: schema.model_validate(document[name]) for name, schema in SECTIONS.items()
    }
    images = DATASETS[read["download"].dataset].training_images
    held_out = read["normalize"].validation
    check_bounds("normalize.validation", held_out, 0, images - 1, path)
    check_bounds("train.batch_size", read["train"].batch_size, 1, images - held_out, path)
    return read


if __name__ == "__main__":
    with explained():
        no_arguments(__doc__)
        read_parameters()
