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
TINY: dict[str, dict[str, Any]] = {
    "download": {"dataset": "mnist-5k"},
    "model": {"hidden_units": [8]},
    "train": {"epochs": 2, "batch_size": 100},
}

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
        """Runs `dvc repro`: the stages that were executed, and those taken from the cache."""
        output = self.dvc("repro")
        executed = re.findall(r"^Running stage '(\w+)'", output, re.MULTILINE)
        return executed, re.findall(r"^Stage '(\w+)' is cached", output, re.MULTILINE)

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

    def set(self, changes: dict[str, dict[str, Any]]) -> None:
        """Changes parameters, given by section and key."""
        path = self.folder / "params.yaml"
        parameters = yaml.safe_load(path.read_text())
        for section, values in changes.items():
            parameters[section] |= values
        path.write_text(yaml.safe_dump(parameters))

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def read(self, path: str) -> str:
        return (self.folder / path).read_text()


def activated() -> dict[str, str]:
    """The environment of a person with git set up and the virtual environment active."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "A. Tester",
        "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "A. Tester",
        "GIT_COMMITTER_EMAIL": "a@example.org",
    }


def copy_of_project(folder: Path) -> Project:
    """The files that git tracks, as they stand here, in a repository of their own."""
    project = Project(folder)
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    for name in tracked.rstrip("\0").split("\0"):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    project.git("init", "--quiet", "--initial-branch=main")
    project.set(TINY)
    project.commit("Start")
    return project
