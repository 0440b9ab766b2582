"""What a training is made from, and the commits, experiments' or others, that hold its results.

The pipeline is deterministic: the same commands, parameters and code give the same outputs. So
a recipe of these three tells whether DVC has a result already. dvc.lock holds it for each
commit; params.yaml would not do, as it may have been edited after the last `dvc repro`.
"""

import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from stages.edges.bad_input import BadInput
from stages.edges.parameters import NO_YAML, PARAMETERS, flat, one_line, parse_yaml, read_yaml

PIPELINE = Path("dvc.yaml")
LOCK = "dvc.lock"
PREDICTIONS = "plots/predictions.csv"
SCORES = "metrics/evaluate.json"
HISTORY = "metrics/train/plots/custom/{}.json"  # of a metric
# Experiments lie at refs/exps/<2 digits>/<38 digits>/<name>; DVC's queue keeps others beside them.
EXPERIMENTS = f"refs/exps/[0-9a-f][0-9a-f]/{'[0-9a-f]' * 38}/*"


class Ingredients(NamedTuple):
    """What `dvc exp run` would make results from, but for changes of parameters.

    Attributes:
        stages: for each, its command, the MD5 of each file and folder of code, and the sections
            of its parameters.
        parameters: those of params.yaml, by name, such as train.seed.
    """

    stages: dict[str, tuple[str, dict[str, str], list[str]]]
    parameters: dict[str, Any]


def ingredients() -> Ingredients:
    """Those of the workspace as it is now."""
    stages = stages_in(Path())
    made = {
        path
        for stage in stages.values()
        for kind in ("outs", "metrics", "plots")
        for out in stage.get(kind, [])
        for path in ([out] if isinstance(out, str) else out)
    }
    return Ingredients(
        {
            name: (
                stage["cmd"],
                {path: md5(path) for path in stage.get("deps", []) if path not in made},
                stage.get("params", []),
            )
            for name, stage in stages.items()
        },
        flat(read_yaml(PARAMETERS)),
    )


def stages_in(folder: Path) -> dict[str, Any]:
    """The stages of a folder's dvc.yaml, by name.

    Raises:
        BadInput: it has none.
    """
    path = folder / PIPELINE
    try:
        stages: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"]
        if not all(isinstance(stage, dict) for stage in stages.values()):
            raise TypeError("a stage must be a section")
    except (TypeError, *NO_YAML) as problem:
        raise BadInput(f"{path} is no pipeline of DVC: {one_line(str(problem))}") from None
    return stages


def new_code(folder: Path) -> list[str]:
    """The files of a working tree that git does not know yet, where a stage depends on them."""
    code = {path for stage in stages_in(folder).values() for path in stage.get("deps", [])}
    options = ("-z", "--others", "--exclude-standard")
    return git("-C", str(folder), "ls-files", *options, "--", *sorted(code)).split("\0")[:-1]


def recipe(changes: Mapping[str, Any], made_of: Ingredients) -> str:
    """The digest of what a training is made from.

    Args:
        changes: parameters in place of those in params.yaml, by name, such as train.seed.
        made_of: all else.
    """
    parameters = made_of.parameters | dict(changes)
    return digest(
        {
            name: {
                "cmd": command,
                "code": code,
                "params": {
                    key: value for key, value in parameters.items() if key.split(".")[0] in sections
                },
            }
            for name, (command, code, sections) in made_of.stages.items()
        }
    )


@cache
def locked_stages(lock: str) -> dict[str, Any]:
    """What the text of a dvc.lock says of each stage."""
    stages: dict[str, Any] = parse_yaml(lock)["stages"]
    return stages


def locked_parameters(stage: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of params.yaml that a stage was run with, by name, such as train.seed."""
    return flat(stage.get("params", {}).get(str(PARAMETERS), {}))


def locked_recipe(lock: str) -> str:
    """The digest of what the outputs were made from that a dvc.lock describes."""
    stages = locked_stages(lock)
    made = {out["path"] for stage in stages.values() for out in stage.get("outs", [])}
    return digest(
        {
            name: {
                "cmd": stage["cmd"],
                "code": {
                    dep["path"]: dep["md5"]
                    for dep in stage.get("deps", [])
                    if dep["path"] not in made
                },
                "params": locked_parameters(stage),
            }
            for name, stage in stages.items()
        }
    )


def held() -> dict[str, str]:
    """For each recipe with results in git, in an experiment or on a branch, one commit."""
    commits = git(
        "rev-list", "HEAD", "--branches", "--tags", f"--glob={EXPERIMENTS}", "--", LOCK
    ).split()
    found = {}
    for commit in commits:
        # Others have no dvc.lock, a broken one, or other results than it tells of.
        with suppress(BadInput, TypeError, *NO_YAML):
            lock = read(commit, LOCK)
            if tells_of(lock, partial(read, commit)):
                found[locked_recipe(lock)] = commit
    return found


def tells_of(lock: str, read: Callable[[str], str]) -> bool:
    """Whether the results beside a dvc.lock are those that it was written with.

    They are not where somebody has committed the one without the other.

    Args:
        lock: the text of a dvc.lock.
        read: gives the text of another file of the same revision.
    """
    return all(
        hashlib.md5(read(out["path"]).encode(), usedforsecurity=False).hexdigest() == out["md5"]
        for stage in locked_stages(lock).values()
        for out in stage.get("outs", [])
        if out["path"].endswith((".json", ".csv"))
    )


def read(commit: str, path: str) -> str:
    return git("show", f"{commit}:{path}")


def git(*arguments: str, index: Path | None = None) -> str:
    """What git prints.

    Args:
        arguments: the words of the command.
        index: a file in place of the workspace's own index.

    Raises:
        BadInput: it failed; the message is git's.
    """
    environment = os.environ | ({"GIT_INDEX_FILE": str(index)} if index else {})
    result = subprocess.run(
        ["git", *arguments], check=False, capture_output=True, text=True, env=environment
    )
    if result.returncode:
        raise BadInput(f"git {arguments[0]} failed: {result.stderr.strip()}")
    return result.stdout


def md5(path: str) -> str:
    """The MD5 of a file or a folder, as DVC writes it in dvc.lock.

    A folder's is that of a list of its files, without those that .dvcignore names.
    """
    if Path(path).is_dir():
        files = [
            {"md5": md5(str(file)), "relpath": file.relative_to(path).as_posix()}
            for file in sorted(Path(path).rglob("*"))
            if file.is_file() and "__pycache__" not in file.parts
        ]
        listed = json.dumps(files, sort_keys=True).encode()
        return f"{hashlib.md5(listed, usedforsecurity=False).hexdigest()}.dir"
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def digest(stages: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(stages, sort_keys=True).encode()).hexdigest()
