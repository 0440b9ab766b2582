"""A copy of this project in a folder of its own, and what a person types there."""

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

import yaml

from experiments.recipes import EXPERIMENTS

ROOT = Path(__file__).parent.parent
STAND_IN = Path(__file__).parent / "stand_in"
# Outputs of the stages, and other paths, as in dvc.yaml.
MODEL = "models/handwritten_digit.h5"
SCORES = "metrics/evaluate.json"
CHECKPOINT = "checkpoint.npz"
# Commands as a person types them, but for `python`, which is the one that runs the tests.
TRAIN = (sys.executable, "-m", "stages.train")
QUICKSTART = (sys.executable, "-m", "tools.quickstart")
# The tutorial's. There may be others, as there may be other parameters and metrics.
STAGES = ["download", "normalize", "train", "evaluate"]
Parameters = dict[str, dict[str, Any]]
# The tutorial's, but on the embedded digits. What params.yaml says is the user's matter.
TUTORIAL: Parameters = {
    "download": {"dataset": "mnist-5k"},
    "normalize": {"scaling": "unit", "validation": 0},
    "model": {"hidden_units": [512, 256, 128]},
    "train": {
        **{"epochs": 10, "batch_size": 32, "learning_rate": 0.001, "schedule": "constant"},
        "seed": 42,
    },
    "warp": {
        **dict.fromkeys(("rotation", "scale", "shear", "shift", "elastic_amplitude"), 0),
        "elastic_smoothness": 5,
    },
    "evaluate": {"confidence": 0.95, "worst": 25},
}
TINY: Parameters = {"model": {"hidden_units": [8]}, "train": {"epochs": 2, "batch_size": 100}}

# Makes the folder of a name, unless it is there.
Once = Callable[[str, Callable[[Path], None]], Path]


class Project:
    """A folder that holds the project, with what a person types there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(
        self, *command: str, fails: bool = False, environment: dict[str, str] | None = None
    ) -> str:
        """Runs a command with the virtual environment active; what it prints, both streams."""
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
        """Runs `dvc repro`: which of STAGES were executed, and which taken from the cache."""
        output = self.dvc("repro")
        executed = re.findall(r"^Running stage '(\w+)'", output, re.MULTILINE)
        cached = re.findall(r"^Stage '(\w+)' is cached", output, re.MULTILINE)
        return [name for name in executed if name in STAGES], [
            name for name in cached if name in STAGES
        ]

    def experiments(self) -> dict[str, Any]:
        """The experiments that `dvc exp show` lists: name to what it says of them."""
        (_, baseline) = json.loads(self.dvc("exp", "show", "--json"))
        rows = [row["revs"][0] for row in baseline["experiments"] or []]
        return {row["name"]: row["data"] for row in rows}

    def wait_for_queue(self, experiments: int) -> None:
        """Waits until there are so many experiments, and the queue has none."""
        until = time.monotonic() + 240
        # Not by DVC at first: each look of it takes a second of a processor.
        while self.git("for-each-ref", EXPERIMENTS).count("\n") < experiments:
            assert time.monotonic() < until, self.dvc("queue", "status")
            time.sleep(1)
        while re.search(r"Queued|Running", self.dvc("queue", "status")):
            assert time.monotonic() < until

    def set(self, changes: Parameters) -> None:
        """Changes parameters, given by section and key."""
        set_parameters(self.folder, changes)

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def read(self, path: str) -> str:
        return (self.folder / path).read_text()


def activated() -> dict[str, str]:
    """The environment of a person with git set up and the virtual environment active."""
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
    """Changes the params.yaml of a folder, or writes one: this project's with these changes."""
    path = folder / "params.yaml"
    parameters = yaml.safe_load((path if path.exists() else ROOT / path.name).read_text())
    for change in changes:
        for section, values in change.items():
            parameters.setdefault(section, {}).update(values)
    path.write_text(yaml.safe_dump(parameters))


def copy_files(folder: Path) -> Project:
    """Copies the files that git tracks or would, as they stand here, without a repository."""
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
    """Copies the project into a repository of its own, with a tiny network to train.

    Args:
        folder: the copy, which does not exist yet.
        stand_in: whether tests/stand_in, which needs no TensorFlow, replaces train and evaluate.
    """
    project = copy_files(folder)
    if stand_in:
        for path in STAND_IN.glob("*.py"):
            shutil.copy2(path, folder / "stages" / path.name)
    project.git("init", "--quiet", "--initial-branch=main")
    set_parameters(folder, TUTORIAL, TINY)
    project.commit("Start")
    return project
