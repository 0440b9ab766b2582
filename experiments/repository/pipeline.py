"""The stages in dvc.yaml."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.common.errors import UserError
from stages.common.params import read_yaml

PIPELINE = Path("dvc.yaml")


def read_stages(pipeline: Path = PIPELINE) -> dict[str, dict[str, Any]]:
    """The stages in dvc.yaml, by name.

    Raises:
        UserError: the file is missing, is not valid YAML, or has no stages.
    """
    document = read_yaml(pipeline)
    found = document.get("stages") if isinstance(document, dict) else None
    if not isinstance(found, dict) or not found:
        raise UserError(f"{pipeline}: stages are missing; git diff {pipeline} shows what changed")
    for name, stage in found.items():
        if not is_stage(stage):
            raise UserError(
                f"{pipeline}: stage {name} is not valid; git diff {pipeline} shows what changed"
            )
    return found


def is_stage(stage: object) -> bool:
    """Whether deps, outs, metrics and plots of a stage have the types that DVC expects."""
    if not isinstance(stage, dict):
        return False
    path_or_options = (str, dict)
    types = {
        "deps": (str,),
        "outs": path_or_options,
        "metrics": path_or_options,
        "plots": path_or_options,
    }
    return all(
        isinstance(stage.get(kind, []), list)
        and all(isinstance(item, expected) for item in stage.get(kind, []))
        for kind, expected in types.items()
    )


def dependency_paths(stages: Mapping[str, Mapping[str, list[str]]]) -> set[str]:
    """Dependencies of all stages, code and data, whose path is inside of the repository."""
    paths = {path for stage in stages.values() for path in stage.get("deps", [])}
    return {path for path in paths if path and not path.startswith(("/", ".."))}


def cached_outputs(stages: Mapping[str, Mapping[str, list[Any]]]) -> set[str]:
    """Outputs that DVC keeps in its cache, and not git in its repository: data and models."""
    return {
        path
        for stage in stages.values()
        for output in stage.get("outs", [])
        for path, options in ({output: {}} if isinstance(output, str) else output).items()
        if (options or {}).get("cache", True)
    }


def frozen_stages(stages: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The stages that DVC does not run, since `dvc freeze` has marked them."""
    return [name for name, stage in stages.items() if stage.get("frozen")]


def raise_if_frozen(stages: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises UserError if a stage is frozen: its results would be of other code and parameters."""
    if frozen := frozen_stages(stages):
        raise UserError(
            f"{PIPELINE}: frozen stages: {', '.join(frozen)}; expected none, since DVC does not "
            f"run them. Run: dvc unfreeze {' '.join(frozen)}"
        )
