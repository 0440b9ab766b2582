"""Copies of this project, and the commands that a user runs in them."""

import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from experiments.repository.dvc_experiments import REFERENCES

ROOT = Path(__file__).parent.parent
STAND_IN = Path(__file__).parent / "stand_in"
# Paths as in dvc.yaml, and the checkpoint of stages/train.py.
MODEL = "models/handwritten_digit.h5"
SCORES = "metrics/evaluate.json"
CHECKPOINT = "checkpoint.npz"
# Commands of a user, with the Python that runs the tests.
TRAIN = (sys.executable, "-m", "stages.train")
QUICKSTART = (sys.executable, "-m", "experiments.quickstart")
# The tutorial's stages. dvc.yaml may have more; tests of these four do not depend on them.
STAGES = ["download", "normalize", "train", "evaluate"]
Parameters = dict[str, dict[str, Any]]
# The tutorial's parameters on the embedded digits. Tests do not depend on params.yaml.
TUTORIAL: Parameters = {
    "download": {"dataset": "mnist-5k"},
    "normalize": {"scaling": "unit", "validation": 0},
    "model": {"hidden_units": [512, 256, 128]},
    "train": {
        **{"epochs": 10, "batch_size": 32, "learning_rate": 0.001, "schedule": "constant"},
        "seed": 42,
    },
    "augmentation": {
        **dict.fromkeys(("rotation", "scale", "shear", "shift", "elastic_amplitude"), 0),
        "elastic_smoothness": 5,
    },
    "evaluate": {"confidence": 0.95, "worst": 25},
}
TINY: Parameters = {"model": {"hidden_units": [8]}, "train": {"epochs": 2, "batch_size": 100}}

# Returns the directory of a name, after making it with the given function if it does not exist.
Once = Callable[[str, Callable[[Path], None]], Path]


class Project:
    """A copy of the project, and the commands that a user runs in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(
        self, *command: str, fails: bool = False, environment: dict[str, str] | None = None
    ) -> str:
        """Runs a command in the virtual environment; returns its standard output and error."""
        result = subprocess.run(
            command,
            cwd=self.folder,
            env=activated() | (environment or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=280,
        )
        assert (result.returncode != 0) == fails, result.stdout
        return result.stdout

    def dvc(self, *arguments: str, fails: bool = False) -> str:
        return self.run("dvc", *arguments, fails=fails)

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments)

    def repro(self) -> tuple[list[str], list[str]]:
        """Runs `dvc repro`; returns which of STAGES it ran, and which it took from the cache."""
        output = self.dvc("repro")
        executed = re.findall(r"^Running stage '(\w+)'", output, re.MULTILINE)
        cached = re.findall(r"^Stage '(\w+)' is cached", output, re.MULTILINE)
        return [name for name in executed if name in STAGES], [
            name for name in cached if name in STAGES
        ]

    def experiments(self) -> dict[str, Any]:
        """The experiments in `dvc exp show --json`: name to data."""
        (_, baseline) = json.loads(self.dvc("exp", "show", "--json"))
        rows = [row["revs"][0] for row in baseline["experiments"] or []]
        return {row["name"]: row["data"] for row in rows}

    def wait_for_queue(self, experiments: int) -> None:
        """Waits until DVC's queue is empty and there are at least so many experiments."""
        until = time.monotonic() + 240
        # git first: `dvc queue status` takes a second of a processor.
        while self.git("for-each-ref", REFERENCES).count("\n") < experiments:
            assert time.monotonic() < until, self.dvc("queue", "status")
            time.sleep(1)
        while re.search(r"Queued|Running", self.dvc("queue", "status")):
            assert time.monotonic() < until

    def set(self, changes: Parameters) -> None:
        """Changes parameters in params.yaml: section to key to value."""
        set_parameters(self.folder, changes)

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def read(self, path: str) -> str:
        return (self.folder / path).read_text()


def activated() -> dict[str, str]:
    """Environment of a user who has configured git and activated the virtual environment."""
    of_make = ("MAKEFLAGS", "MAKELEVEL", "A", "B", "IMAGE", "HOST", "PORT", "OPTIONS")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("DVC_") and name not in of_make
    }
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "A. Tester",
        "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "A. Tester",
        "GIT_COMMITTER_EMAIL": "a@example.org",
    }


def set_parameters(folder: Path, *changes: Parameters) -> None:
    """Changes the params.yaml of a directory; a missing one is copied from this project first."""
    path = folder / "params.yaml"
    parameters = yaml.safe_load((path if path.exists() else ROOT / path.name).read_text())
    for change in changes:
        for section, values in change.items():
            parameters.setdefault(section, {}).update(values)
    path.write_text(yaml.safe_dump(parameters))


def copy_files(folder: Path) -> Project:
    """Copies tracked and untracked files, but no ignored ones, into a directory without git."""
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in tracked.rstrip("\0").split("\0"):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return Project(folder)


def copy_of_project(folder: Path, stand_in: bool = False) -> Project:
    """Copies the project into a new git repository, with the parameters TUTORIAL and TINY.

    Args:
        folder: directory of the copy, which must not exist.
        stand_in: whether the stages in tests/stand_in, which do not import TensorFlow, replace
            train and evaluate.
    """
    project = copy_files(folder)
    if stand_in:
        for path in STAND_IN.glob("*.py"):
            shutil.copy2(path, folder / "stages" / path.name)
    project.git("init", "--quiet", "--initial-branch=main")
    set_parameters(folder, TUTORIAL, TINY)
    project.commit("Start")
    return project


def write_idx(
    folder: Path, arrays: dict[str, npt.NDArray[np.uint8]]
) -> dict[str, tuple[str, int, str]]:
    """Writes gzipped IDX files; returns the arguments of PinnedFile for each."""
    files = {}
    for name, array in arrays.items():
        shape = b"".join(size.to_bytes(4, "big") for size in array.shape)
        content = bytes([0, 0, 8, array.ndim]) + shape + array.tobytes()
        (folder / f"{name}.gz").write_bytes(gzip.compress(content, compresslevel=1))
        files[name] = (name, len(content), hashlib.sha256(content).hexdigest())
    return files
