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

from tests.project import CHECKPOINT, ROOT, TUTORIAL, set_parameters

STAGES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# Those of ours; another may run what it likes.
NAMES = [name for name, stage in STAGES.items() if stage["cmd"] == f"python -m stages.{name}"]
ALL_SECTIONS = "card"  # tells of all parameters


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text())


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
    return {file for file in files if (ROOT / file).is_file()}


def closure(path: Path) -> set[Path]:
    found: set[Path] = set()
    waiting = {path}
    while waiting:
        found |= waiting
        waiting = {file for importer in waiting for file in imported(importer)} - found
    return found


def sections_read(path: Path) -> set[str]:
    """The sections of params.yaml that a file reads: `read_section(Train)` reads train."""
    calls = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)]
    if any(ast.unparse(call) == "read_yaml(PARAMETERS)" for call in calls):
        return set(yaml.safe_load((ROOT / "params.yaml").read_text()))
    return {
        ast.unparse(call.args[0]).lower()
        for call in calls
        if ast.unparse(call.func) == "read_section"
    }


def constant_paths(path: Path) -> set[str]:
    """The paths that a stage's file names: Path("data/raw") and `PLOTS / "mistakes.png"`."""
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


def code(stage: str) -> set[str]:
    """The files and folders of code that it declares."""
    return {dep for dep in declared(stage, "deps") if Path(dep).parts[0] == "stages"}


def inputs(stage: str) -> set[str]:
    """What it reads apart from code and packages."""
    return declared(stage, "deps") - code(stage) - {"requirements.txt"}


def outputs(stage: str) -> set[str]:
    return declared(stage, "outs", "metrics", "plots")


def overlap(a: str, b: str) -> bool:
    """They are the same, or one is a folder that the other is in."""
    return Path(a).is_relative_to(b) or Path(b).is_relative_to(a)


def test_the_tutorials_stages_are_found() -> None:
    assert {"download", "normalize", "train", "evaluate"} <= set(NAMES)


@pytest.mark.parametrize("stage", NAMES)
def test_deps_are_what_the_code_imports(stage: str) -> None:
    files = closure(Path(f"stages/{stage}.py"))
    assert len(files) > (3 if stage == ALL_SECTIONS else 4)  # imports were found
    for file in files:
        assert any(file.is_relative_to(dep) for dep in code(stage)), f"{file} is not in dvc.yaml"
    for dep in code(stage):
        assert any(file.is_relative_to(dep) for file in files), f"{dep} is not imported"


def test_what_python_imports_with_a_room_says_what_belongs_there() -> None:
    for path in (ROOT / "stages").rglob("__init__.py"):
        (docstring,) = parsed(path.relative_to(ROOT)).body
        assert isinstance(docstring, ast.Expr), f"{path} holds code, and is no dependency"


@pytest.mark.parametrize("stage", NAMES)
def test_params_are_the_sections_that_the_code_reads(stage: str) -> None:
    own = Path(f"stages/{stage}.py")
    assert declared(stage, "params") == sections_read(own)
    for path in closure(own) - {own}:
        assert not sections_read(path), f"{path} reads parameters, as only the stage's file may"


def test_every_section_is_read_by_one_stage() -> None:
    stages = [stage for stage in STAGES if stage != ALL_SECTIONS]
    sections = [section for stage in stages for section in STAGES[stage].get("params", [])]
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert sorted(sections) == sorted(document)


@pytest.mark.parametrize("stage", NAMES)
def test_inputs_and_outputs_are_the_paths_that_the_code_names(stage: str) -> None:
    known = inputs(stage) | outputs(stage)
    named = constant_paths(Path(f"stages/{stage}.py")) - {CHECKPOINT}
    # Of PLOTS and PLOTS / "mistakes.png" the latter says more.
    named -= {str(parent) for path in named for parent in Path(path).parents}
    for path in known:
        assert any(overlap(path, other) for other in named), f"{path} is not in the code"
    for path in named:
        assert any(overlap(path, other) for other in known), f"{path} is not in dvc.yaml"


@pytest.mark.parametrize("stage", [name for name in NAMES if name != "download"])
def test_the_environment_is_an_input(stage: str) -> None:
    assert "requirements.txt" in STAGES[stage]["deps"]


@pytest.mark.parametrize("stage", NAMES)
def test_what_a_stage_reads_an_earlier_one_writes(stage: str) -> None:
    names = list(STAGES)
    earlier = {out for name in names[: names.index(stage)] for out in outputs(name)}
    assert inputs(stage) <= earlier


HEAVY = {"tensorflow", "keras", "dvclive", "dvc"}


def loaded(code: str, folder: Path) -> set[str]:
    """Which of the HEAVY packages a process has loaded after that code."""
    ending = f"import sys, json; print(json.dumps(sorted({HEAVY} & set(sys.modules))))"
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\n{ending}"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=280,
    )
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_download_and_normalize_load_no_tensorflow_even_by_the_end(tmp_path: Path) -> None:
    set_parameters(tmp_path, TUTORIAL)
    for stage in ("download", "normalize"):
        assert loaded(f"from stages.{stage} import main; main()", tmp_path) == set()
    assert (tmp_path / "data/normalized/x_train.npy").is_file()


def test_the_check_of_all_parameters_loads_no_tensorflow(tmp_path: Path) -> None:
    set_parameters(tmp_path, TUTORIAL)
    assert loaded("from tools.parameters import read_parameters as read; read()", tmp_path) == set()


def test_evaluate_loads_no_dvclive(tmp_path: Path) -> None:
    assert loaded("import stages.evaluate", tmp_path) == {"tensorflow", "keras"}
