"""dvc.yaml says what the code does: both are read here, and compared."""

import ast
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.edges.parameters import Parameters

PROJECT = Path(__file__).parents[1]
STAGES: dict[str, dict[str, Any]] = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
NAMES = ["download", "normalize", "train", "evaluate"]
SECTIONS = {
    "download": {"download"},
    "normalize": {"normalize"},
    "train": {"model", "train"},
    "evaluate": {"evaluate"},
}
CHECKPOINT = "checkpoint.npz"  # gone by the end, and so no output


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse((PROJECT / path).read_text())


def imported(path: Path) -> set[Path]:
    """The project's files that a file imports, in functions too."""
    modules = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import, which this test cannot follow"
            modules.add(str(node.module))
            # from stages.data import arrays
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    files = {Path(*module.split(".")).with_suffix(".py") for module in modules}
    return {file for file in files if (PROJECT / file).is_file()}


def closure(path: Path) -> set[Path]:
    found: set[Path] = set()
    waiting = {path}
    while waiting:
        found |= waiting
        waiting = {file for importer in waiting for file in imported(importer)} - found
    return found


def parameters_read(path: Path) -> set[str]:
    """The keys that a stage reads, section.key; all of a section that it takes as a whole.

    It may use `parameters` in no other way, such as handing it to a function.
    """
    parents = {
        child: node for node in ast.walk(parsed(path)) for child in ast.iter_child_nodes(node)
    }
    keys = set()
    for node in ast.walk(parsed(path)):
        if not (isinstance(node, ast.Name) and node.id == "parameters"):
            continue
        section = parents[node]
        if isinstance(node.ctx, ast.Store):
            assert ast.unparse(section) == "parameters = read_parameters()"
            continue
        assert isinstance(section, ast.Attribute), f"{path}:{node.lineno}"
        fields = Parameters.model_fields[section.attr].annotation.model_fields  # type: ignore[union-attr]
        key = parents[section]
        names = {key.attr} if isinstance(key, ast.Attribute) else set(fields)
        keys |= {f"{section.attr}.{name}" for name in names}
    return keys


def constant_paths(path: Path) -> set[str]:
    """The paths that a stage's file names: Path("data/raw") and `PLOTS / "confusion.png"`."""
    paths = set()
    named: dict[str, str] = {}
    for statement in parsed(path).body:
        if (
            isinstance(statement, ast.Assign)
            and isinstance(statement.value, ast.Call)
            and ast.unparse(statement.value.func) == "Path"
        ):
            named[ast.unparse(statement.targets[0])] = ast.literal_eval(statement.value.args[0])
    paths |= set(named.values())
    for node in ast.walk(parsed(path)):
        if (
            isinstance(node, ast.BinOp)
            and isinstance(node.op, ast.Div)
            and isinstance(node.left, ast.Name)
            and isinstance(node.right, ast.Constant)
            and isinstance(node.right.value, str)
            and node.left.id in named
        ):
            paths.add(f"{named[node.left.id]}/{node.right.value}")
    return paths


def declared(stage: str, *kinds: str) -> set[str]:
    items = [item for kind in kinds for item in STAGES[stage].get(kind, [])]
    return {next(iter(item)) if isinstance(item, dict) else item for item in items}


def inputs(stage: str) -> set[str]:
    """What it reads apart from code and packages."""
    return {dep for dep in declared(stage, "deps") if not dep.endswith((".py", ".txt"))}


def outputs(stage: str) -> set[str]:
    return declared(stage, "outs", "metrics", "plots")


def overlap(a: str, b: str) -> bool:
    """They are the same, or one is a folder that the other is in."""
    return Path(a).is_relative_to(b) or Path(b).is_relative_to(a)


def test_these_are_the_stages() -> None:
    assert list(STAGES) == NAMES
    # Others, such as predict.py, may lie there, too.
    assert {path.stem for path in (PROJECT / "stages").glob("*.py")} >= set(NAMES)


@pytest.mark.parametrize("stage", NAMES)
def test_the_command_runs_the_stages_file(stage: str) -> None:
    assert STAGES[stage]["cmd"] == f"python -m stages.{stage}"


@pytest.mark.parametrize("stage", NAMES)
def test_deps_are_the_files_that_the_code_imports(stage: str) -> None:
    code = {str(path) for path in closure(Path(f"stages/{stage}.py"))}
    assert {dep for dep in declared(stage, "deps") if dep.endswith(".py")} == code
    assert len(code) > 4  # imports were found


@pytest.mark.parametrize("stage", NAMES)
def test_params_are_those_that_the_code_reads(stage: str) -> None:
    read = parameters_read(Path(f"stages/{stage}.py"))
    assert set(STAGES[stage]["params"]) == read
    assert {key.split(".")[0] for key in read} == SECTIONS[stage]


@pytest.mark.parametrize("stage", NAMES)
def test_no_other_file_of_a_stage_reads_parameters(stage: str) -> None:
    own = {Path(f"stages/{stage}.py"), Path("stages/edges/parameters.py")}
    for path in closure(Path(f"stages/{stage}.py")) - own:
        names = {node.id for node in ast.walk(parsed(path)) if isinstance(node, ast.Name)}
        assert not names & {"parameters", "read_parameters", "PARAMETERS"}, path


def test_every_parameter_is_read_by_one_stage() -> None:
    keys = [key for stage in NAMES for key in STAGES[stage]["params"]]
    document = yaml.safe_load((PROJECT / "params.yaml").read_text())
    assert sorted(keys) == sorted(
        f"{s}.{key}" for s, section in document.items() for key in section
    )


@pytest.mark.parametrize("stage", NAMES)
def test_inputs_and_outputs_are_the_paths_that_the_code_names(stage: str) -> None:
    known = inputs(stage) | outputs(stage)
    named = constant_paths(Path(f"stages/{stage}.py")) - {CHECKPOINT}
    # Of PLOTS and PLOTS / "confusion.png" the latter says more.
    named -= {str(parent) for path in named for parent in Path(path).parents}
    for path in known:
        assert any(overlap(path, other) for other in named), f"{path} is not in the code"
    for path in named:
        assert any(overlap(path, other) for other in known), f"{path} is not in dvc.yaml"


@pytest.mark.parametrize("stage", ["normalize", "train", "evaluate"])
def test_the_environment_is_an_input(stage: str) -> None:
    assert "requirements.txt" in STAGES[stage]["deps"]


@pytest.mark.parametrize("stage", NAMES)
def test_what_a_stage_reads_an_earlier_one_writes(stage: str) -> None:
    earlier = {out for name in NAMES[: NAMES.index(stage)] for out in outputs(name)}
    assert inputs(stage) <= earlier


HEAVY = {"tensorflow", "keras", "dvclive", "dvc"}


def loaded(code: str, folder: Path) -> set[str]:
    """Which of the HEAVY packages a process has loaded after that code."""
    ending = f"import sys, json; print(json.dumps(sorted({HEAVY} & set(sys.modules))))"
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\n{ending}"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_download_and_normalize_load_no_tensorflow_even_by_the_end(tmp_path: Path) -> None:
    parameters = (PROJECT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(parameters.replace("mnist ", "mnist-5k "))
    for stage in ("download", "normalize"):
        assert loaded(f"from stages.{stage} import main; main()", tmp_path) == set()
    assert (tmp_path / "data/normalized/x_train.npy").is_file()


def test_evaluate_loads_no_dvclive(tmp_path: Path) -> None:
    assert loaded("import stages.evaluate", tmp_path) == {"tensorflow", "keras"}
