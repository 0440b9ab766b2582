"""Checks all of params.yaml, and the environment variable TRAINING_THREADS.

`make repro` runs this before `dvc repro`: DVC removes the old outputs of a stage before the stage
can find a wrong value.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.common import command_line
from stages.common.params import (
    PARAMS,
    RENAMED_SECTIONS,
    Section,
    as_yaml,
    check_range,
    raise_if_any,
    read_yaml,
    renamed_message,
    section_name,
    validation_errors,
)
from stages.data.datasets import DATASETS
from stages.download import Download
from stages.evaluation.options import Evaluate
from stages.normalize import Normalize
from stages.training.hyperparameters import Augmentation, Model, Train
from stages.training.threads import threads

SCHEMAS: dict[str, type[Section]] = {
    section_name(schema): schema
    for schema in (Download, Normalize, Model, Train, Augmentation, Evaluate)
}


def read_params() -> dict[str, Any]:
    """Reads all sections of params.yaml.

    Returns:
        The sections by name, such as "train", as instances of their schemas.

    Raises:
        UserError: a parameter or TRAINING_THREADS is invalid; the message has a line for each.
    """
    threads(os.environ)
    return validate(read_yaml(PARAMS), PARAMS)


def validate(document: Any, path: Path) -> dict[str, Any]:
    """Validates all sections.

    Args:
        document: content of a YAML file: sections by name.
        path: the file, for messages.

    Returns:
        The sections by name, as instances of their schemas.

    Raises:
        UserError: with a line for each error.
    """
    names = ", ".join(SCHEMAS)
    if not isinstance(document, Mapping):
        raise_if_any(
            [f"the file contains {as_yaml(document)}; expected the sections {names}"], path
        )
    errors = [line for schema in SCHEMAS.values() for line in validation_errors(document, schema)]
    for section in document:
        if section in RENAMED_SECTIONS:
            errors.append(renamed_message(section))
        elif section not in SCHEMAS:
            errors.append(f"{section} is not a section; expected {names}")
    errors = list(dict.fromkeys(errors))  # a renamed section is also a missing one
    raise_if_any(errors, path)

    sections: dict[str, Any] = {
        name: schema.model_validate(document[name]) for name, schema in SCHEMAS.items()
    }
    images = DATASETS[sections["download"].dataset].training_images
    validation = sections["normalize"].validation
    check_range("normalize.validation", validation, 0, images - 1, path)
    check_range("train.batch_size", sections["train"].batch_size, 1, images - validation, path)
    return sections


def main() -> None:
    read_params()


if __name__ == "__main__":
    command_line.run(main, __doc__)
