"""Parameters and outputs that DVC has recorded in dvc.lock."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.common.errors import UserError
from stages.common.params import PARAMS, flatten, parse_yaml, read_yaml

LOCKFILE = "dvc.lock"
# Outputs that git keeps.
PREDICTIONS = "plots/predictions.csv"
SCORES = "metrics/evaluate.json"
# What a stage of dvc.lock has: cmd, deps, params and outs.
LockedStages = Mapping[str, Any]


def locked_stages(text: str) -> LockedStages:
    """The stages in the text of a dvc.lock, by name.

    Raises:
        INVALID_CONTENT: one of these exceptions; the text is not a dvc.lock.
    """
    stages: LockedStages = parse_yaml(text)["stages"]
    return stages


def locked_parameters(stages: LockedStages) -> dict[str, Any]:
    """The parameters that the stages were run with, by name, such as train.seed.

    params.yaml may have been edited since.
    """
    return {
        key: value
        for stage in stages.values()
        for key, value in flatten(stage.get("params", {}).get(str(PARAMS), {})).items()
    }


def locked_outputs(stages: LockedStages) -> dict[str, str]:
    """The MD5 of each output of the stages, by path."""
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}


def matches_lock(stages: LockedStages, read: Callable[[str], str]) -> bool:
    """Whether the outputs in git, which are JSON and CSV files, are those that DVC has recorded.

    They are not if somebody has committed them without dvc.lock, or the reverse.

    Args:
        stages: of a dvc.lock.
        read: gives the text of another file of the same revision.
    """
    outputs = {
        path: md5
        for path, md5 in locked_outputs(stages).items()
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


def is_damaged_lockfile() -> bool:
    """Whether there is a dvc.lock that DVC would refuse to read."""
    path = Path(LOCKFILE)
    if not path.exists():
        return False
    try:
        content = read_yaml(path)
    except UserError:
        return True
    return not isinstance(content, dict) or "schema" not in content
