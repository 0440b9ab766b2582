"""dvc.yaml declares the imports, parameters, inputs and outputs that the code of each stage has."""

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

from stages import card
from tests.project import CHECKPOINT, ROOT, TUTORIAL, set_parameters

STAGES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# Stages with a file of this name. A stage of a user may run any command.
NAMES = [name for name, stage in STAGES.items() if stage["cmd"] == f"python -m stages.{name}"]
CARD = "card"  # this stage reads the parameters of the others from dvc.lock
# Files that users edit, which may have paths of inputs that no stage makes.
EDITED = {
    "download": Path("stages/data/datasets.py"),
    "train": Path("stages/training/network.py"),
}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text())


def imported_modules(path: Path) -> set[str]:
    """Modules that a file imports, also in functions; `from a import b` gives a and a.b."""
    modules = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import, which this test cannot follow"
            modules |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return modules


def imported_files(path: Path) -> set[Path]:
    """The project's files that a file imports, directly and indirectly, and the file itself."""
    found: set[Path] = set()
    waiting = {path}
    while waiting:
        found |= waiting
        modules = {module for importer in waiting for module in imported_modules(importer)}
        files = {Path(*module.split(".")).with_suffix(".py") for module in modules}
        waiting = {file for file in files if (ROOT / file).is_file()} - found
    return found


def sections_read(path: Path) -> set[str]:
    """The sections of params.yaml that a file reads: `read_section(Train)` reads train."""
    calls = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)]
    return {
        ast.unparse(call.args[0]).lower()
        for call in calls
        if ast.unparse(call.func) == "read_section"
    }


def constant_paths(path: Path) -> set[str]:
    """Paths in a stage's file, from `RAW = Path("data/raw")` and `PLOTS / "mistakes.png"`."""
    named: dict[str, str] = {}
    for statement in parsed(path).body:
        match statement:
            case ast.Assign(
                [ast.Name(name)], ast.Call(ast.Name("Path"), [ast.Constant(str(value))])
            ):
                named[name] = value
    paths = set(named.values())
    for node in ast.walk(parsed(path)):
        match node:
            case ast.BinOp(ast.Name(folder), ast.Div(), ast.Constant(str(name))) if folder in named:
                paths.add(f"{named[folder]}/{name}")
    return paths


def declared(stage: str, *kinds: str) -> set[str]:
    items = [item for kind in kinds for item in STAGES[stage].get(kind, [])]
    return {next(iter(item)) if isinstance(item, dict) else item for item in items}


def code(stage: str) -> set[str]:
    """The files and directories of code among the dependencies of a stage."""
    return {dep for dep in declared(stage, "deps") if Path(dep).parts[0] == "stages"}


def inputs(stage: str) -> set[str]:
    """The dependencies of a stage other than code and packages."""
    return declared(stage, "deps") - code(stage) - {"requirements.txt"}


def outputs(stage: str) -> set[str]:
    return declared(stage, "outs", "metrics", "plots")


def overlap(a: str, b: str) -> bool:
    """Whether two paths are equal, or one is a directory that contains the other."""
    return Path(a).is_relative_to(b) or Path(b).is_relative_to(a)


def test_dvc_yaml_has_the_tutorials_stages() -> None:
    assert {"download", "normalize", "train", "evaluate"} <= set(NAMES)


@pytest.mark.parametrize("stage", NAMES)
def test_deps_are_what_the_code_imports(stage: str) -> None:
    files = imported_files(Path(f"stages/{stage}.py"))
    assert len(files) > (3 if stage == CARD else 4)  # imported_files works
    for file in files:
        assert any(file.is_relative_to(dep) for dep in code(stage)), f"{file} is not in dvc.yaml"
    for dep in code(stage):
        assert any(file.is_relative_to(dep) for file in files), f"{dep} is not imported"
    if stage != "download":  # checksums of its output are in the code
        assert "requirements.txt" in declared(stage, "deps")


def test_init_files_have_no_code() -> None:
    """Python runs them at each import, but stages that depend on single files do not list them."""
    for path in (ROOT / "stages").rglob("__init__.py"):
        (docstring,) = parsed(path.relative_to(ROOT)).body
        assert isinstance(docstring, ast.Expr), f"{path} has code, but is not in dvc.yaml"


@pytest.mark.parametrize("stage", NAMES)
def test_params_are_the_sections_that_the_code_reads(stage: str) -> None:
    own = Path(f"stages/{stage}.py")
    assert declared(stage, "params") - {"dvc.lock"} == sections_read(own)
    for path in imported_files(own) - {own}:
        assert not sections_read(path), f"{path} reads parameters; only a stage's own file may"


def test_every_section_is_read_by_one_stage() -> None:
    sections = [
        section for stage in STAGES if stage != CARD for section in STAGES[stage].get("params", [])
    ]
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert sorted(sections) == sorted(document)


def test_the_card_has_the_parameters_that_all_other_stages_were_run_with() -> None:
    others = [name for name, stage in STAGES.items() if name != CARD and "params" in stage]
    assert list(card.STAGES) == others
    assert STAGES[CARD]["params"] == [{"dvc.lock": [f"stages.{name}.params" for name in others]}]


@pytest.mark.parametrize("stage", NAMES)
def test_inputs_and_outputs_are_the_paths_in_the_code(stage: str) -> None:
    known = inputs(stage) | outputs(stage)
    named = constant_paths(Path(f"stages/{stage}.py")) - {CHECKPOINT}
    users = constant_paths(EDITED[stage]) if stage in EDITED else set()
    named |= users
    # Of PLOTS and PLOTS / "mistakes.png", only the longer path counts.
    named -= {str(parent) for path in named for parent in Path(path).parents}
    for path in known:
        assert any(overlap(path, other) for other in named), f"{path} is not in the code"
    for path in named:
        assert any(overlap(path, other) for other in known), f"{path} is not in dvc.yaml"
    earlier = list(STAGES)[: list(STAGES).index(stage)]
    assert inputs(stage) <= {path for name in earlier for path in outputs(name)} | users


def test_a_checkpoint_depends_on_the_files_that_the_network_reads() -> None:
    """INPUT_FILES has all constant paths of network.py."""
    (names,) = (
        {ast.unparse(name) for name in ast.walk(statement.value) if isinstance(name, ast.Name)}
        for statement in parsed(EDITED["train"]).body
        if isinstance(statement, ast.AnnAssign)
        and ast.unparse(statement.target) == "INPUT_FILES"
        and statement.value
    )
    assert len(names) == len(constant_paths(EDITED["train"]))


def test_evaluate_imports_no_dvclive() -> None:
    for path in imported_files(Path("stages/evaluate.py")):
        packages = {module.split(".")[0] for module in imported_modules(path)}
        assert not packages & {"dvc", "dvclive"}, path


def test_stages_before_the_training_do_not_import_tensorflow(tmp_path: Path) -> None:
    set_parameters(tmp_path, TUTORIAL)
    code = (
        "import json, sys\n"
        "from stages import download, normalize\n"
        "from experiments.check_params import read_params\n"
        "read_params(), download.main(), normalize.main()\n"
        "slow = {'tensorflow', 'keras', 'dvclive', 'dvc'}\n"
        "print(json.dumps(sorted(slow & set(sys.modules))))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=280,
    ).stdout
    assert json.loads(output.splitlines()[-1]) == []
    assert (tmp_path / "data/normalized/x_train.npy").is_file()
