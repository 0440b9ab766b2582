"""Parameters and outputs of the last run of each stage, which DVC records in dvc.lock."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.common.errors import UserError
from stages.common.params import INVALID_CONTENT, PARAMS, as_yaml, flatten, parse_yaml, read_yaml

LOCKFILE = "dvc.lock"
# What a stage of dvc.lock has: cmd, deps, params and outs.
LockedStages = Mapping[str, Any]


def locked_stages(text: str) -> LockedStages:
    """The stages in the text of a dvc.lock, by name.

    Raises:
        one of INVALID_CONTENT: the text is not a dvc.lock.
    """
    stages: LockedStages = parse_yaml(text)["stages"]
    return stages


def locked_parameters(stages: LockedStages) -> dict[str, Any]:
    """The parameters that the stages were run with, by name, such as train.seed.

    params.yaml may have been edited since, and a frozen stage ignores it.
    """
    found: dict[str, Any] = {}
    for _, key, value in parameters_of_stages(stages):
        found.setdefault(key, value)  # a stage that uses it comes before one that reports it
    return found


def parameters_of_stages(stages: LockedStages) -> Iterator[tuple[str, str, Any]]:
    """Yields stage, name and value of each parameter in params.yaml that a stage was run with."""
    for stage, entry in stages.items():
        for key, value in flatten(entry.get("params", {}).get(str(PARAMS), {})).items():
            yield stage, key, value


def locked_outputs(stages: LockedStages) -> dict[str, str]:
    """The MD5 of each output of the stages, by path."""
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}


def mixed_runs(stages: LockedStages) -> dict[str, str]:
    """The stages that are not of the same run as the others, each with a sentence that says why.

    This happens while a run is incomplete, or if a stage is frozen.
    """
    outputs, used = locked_outputs(stages), locked_parameters(stages)
    found = {
        stage: f"{stage} was run with {key} {as_yaml(value)} instead of {as_yaml(used[key])}"
        for stage, key, value in parameters_of_stages(stages)
        if value != used[key]
    }
    for stage, entry in stages.items():
        for dependency in entry.get("deps", []):
            path, md5 = dependency["path"], dependency.get("md5")
            if outputs.get(path, md5) != md5:
                found[stage] = f"{stage} was run with a different {path}"
    return found


def parameters_of_one_run(names: Collection[str]) -> dict[str, Any]:
    """The parameters of some stages in dvc.lock; see `locked_parameters`.

    Raises:
        UserError: the file is missing, damaged, or the stages are not of one run.
    """
    try:
        document = read_yaml(Path(LOCKFILE))
        stages: LockedStages = {name: document["stages"][name] for name in names}
        mixed, parameters = mixed_runs(stages), locked_parameters(stages)
    except INVALID_CONTENT:
        raise UserError(
            f"{LOCKFILE} has no results of {', '.join(names)}. Run: rm {LOCKFILE} && dvc repro"
        ) from None
    if mixed:
        stage, why = next(iter(mixed.items()))
        raise UserError(
            f"{LOCKFILE}: {why}; expected stages of one run. Run: dvc unfreeze {stage} && dvc repro"
        )
    return parameters
