"""Runs stages of the pipeline in a temporary directory, with changed parameters."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.common import ROOT
from stages.common.errors import UserError
from stages.common.params import PARAMS

MODEL = Path("models/handwritten_digit.h5")
MAX_ERROR_LINES = 20
Sections = dict[str, dict[str, Any]]  # parameters by section


def copy_code(directory: Path) -> None:
    """Copies the stages and requirements.txt, without data and parameters."""
    shutil.copytree(ROOT / "stages", directory / "stages")
    shutil.copy(ROOT / "requirements.txt", directory)


def write_params(directory: Path, sections: Sections) -> None:
    with (directory / PARAMS).open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(sections, file)


def merge(sections: Sections, changes: Sections) -> Sections:
    """Parameters with some of them changed."""
    names = sections.keys() | changes.keys()
    return {name: sections.get(name, {}) | changes.get(name, {}) for name in names}


def run_stage(directory: Path, stage: str, python: Sequence[str] = (sys.executable,)) -> None:
    """Runs a stage in a directory.

    Args:
        directory: with the code and params.yaml.
        stage: such as `train`.
        python: command that starts Python, for example in an emulator.

    Raises:
        UserError: the stage failed; the message is the end of its output.
    """
    # The output is shown only after a failure: an emulator prints a warning for each thread.
    result = subprocess.run(
        [*python, "-m", f"stages.{stage}"], cwd=directory, capture_output=True, text=True
    )
    if result.returncode:
        raise UserError("\n".join(result.stderr.splitlines()[-MAX_ERROR_LINES:]))
