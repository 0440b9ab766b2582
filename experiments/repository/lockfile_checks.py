"""Checks of dvc.lock against the outputs in git, and against code and parameters."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel

from experiments.repository.pipeline import cached_outputs, read_stages
from experiments.repository.subprocesses import dvc
from stages.common.errors import UserError
from stages.common.lockfile import LOCKFILE, LockedStages, locked_outputs
from stages.common.params import MAX_CHARACTERS, read_yaml

# Outputs that git keeps.
PREDICTIONS = "plots/predictions.csv"
SCORES = "metrics/evaluate.json"
MISSING = ("deleted", "not in cache")  # states in the output of `dvc status`
REPAIR = (
    "Run: make repro && git add dvc.lock metrics plots docs/model-card.md && "
    "git commit -m 'Run the pipeline'"
)


class Scores(BaseModel):
    """The test error in metrics/evaluate.json and its interval, in percent."""

    baseline_error: float
    baseline_error_low: float
    baseline_error_high: float


def matches_lockfile(locked: LockedStages, read: Callable[[str], str]) -> bool:
    """Whether the outputs in git, which are JSON and CSV files, are those that DVC has recorded.

    They are not if somebody has committed them without dvc.lock, or the reverse.

    Args:
        locked: the stages of a dvc.lock.
        read: gives the text of another file of the same revision.
    """
    outputs = {
        path: md5
        for path, md5 in locked_outputs(locked).items()
        if path.endswith((".json", ".csv"))
    }
    return not any(changed_outputs(outputs, lambda path: read(path).encode()))


def changed_outputs(outputs: Mapping[str, str], read: Callable[[str], bytes]) -> Iterator[str]:
    """Yields the paths of those outputs whose content does not have its MD5.

    Args:
        outputs: the MD5 of each output by path.
        read: gives the content of an output.
    """
    for path, md5 in outputs.items():
        if hashlib.md5(read(path), usedforsecurity=False).hexdigest() != md5:
            yield path


def changes_since_run() -> dict[str, list[str]]:
    """What has changed since the last run of each stage: code, parameters, command or outputs.

    `dvc status` compares them with dvc.lock, and runs nothing. Data that are only missing, as in a
    new clone, are not changed.

    Returns:
        Paths by the name of a stage; without the stages of which nothing has changed.

    Raises:
        UserError: dvc.yaml is not valid.
        CommandError: `dvc status` fails.
    """
    cached = cached_outputs(read_stages())
    changes: dict[str, list[str]] = {}
    for stage, entries in json.loads(dvc("status", "--json")).items():
        for entry in entries:
            if not isinstance(entry, dict):
                changes.setdefault(stage, []).append("its command")
                continue
            paths = entry.get("changed deps", {}) | entry.get("changed outs", {})
            for path, state in paths.items():
                if state not in MISSING or path not in cached:
                    keys = f" ({', '.join(state)})" if isinstance(state, dict) else ""
                    changes.setdefault(stage, []).append(f"{path}{keys}")
    return changes


def is_damaged_lockfile() -> bool:
    """Whether dvc.lock exists, but is not YAML with a schema, as after a kill."""
    path = Path(LOCKFILE)
    if not path.exists() or path.stat().st_size > MAX_CHARACTERS:  # only a whole one is so long
        return False
    try:
        content = read_yaml(path)
    except UserError:
        return True
    return not isinstance(content, dict) or "schema" not in content
