"""The directions of imports, and what must exist once."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STAGE_PACKAGES = ["stages.common", "stages.data", "stages.training", "stages.evaluation"]
STAGES = ["stages", *STAGE_PACKAGES]
# What each package or module may import from, beside itself. `stages` is stages/*.py.
MAY_IMPORT = {
    "stages.common": [],
    "stages.data": ["stages.common"],
    "stages.training": ["stages.common", "stages.data"],
    "stages.evaluation": ["stages.common", "stages.data"],
    "stages": STAGE_PACKAGES,
    "experiments.repository": ["stages.common"],
    "experiments.check_params": STAGES,
    "experiments.study.significance": [],
    "experiments.study": [
        *("experiments.repository", "experiments.check_params", "experiments.study.significance"),
        *STAGES,
    ],
    "experiments.compare": ["experiments.repository", "experiments.study.significance", *STAGES],
    "experiments": ["experiments.repository", "experiments.check_params", *STAGES],
    "app": STAGES,
    "benchmarks": [
        *("app", "experiments", "experiments.repository", "experiments.study"),
        *("experiments.compare", "experiments.check_params", *STAGES),
    ],
}
PACKAGES = {name.split(".")[0] for name in MAY_IMPORT}
SOURCES = sorted(
    path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py")
)


def imports(path: Path) -> Iterator[str]:
    """The modules of the project that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            # `from stages.common import command_line` imports a module, too.
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if is_module(name) else str(node.module) for name in modules]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in PACKAGES)


def is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").exists()


def part(module: str) -> str:
    """The longest of the names in MAY_IMPORT that a module belongs to."""
    return max(
        (name for name in MAY_IMPORT if f"{module}.".startswith(f"{name}.")),
        key=len,
    )


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_imports_point_down_only(path: Path) -> None:
    own = part(".".join(path.with_suffix("").parts))
    for module in imports(path):
        assert is_module(module), f"{path} imports {module}, which does not exist"
        assert part(module) in [own, *MAY_IMPORT[own]], f"{path} imports {module}"


def test_there_is_no_cycle() -> None:
    """MAY_IMPORT itself points down: its names can be removed one by one, lowest first."""
    left = dict(MAY_IMPORT)
    while left:
        lowest = [name for name, below in left.items() if not set(below) & set(left)]
        assert lowest
        for name in lowest:
            del left[name]


def test_the_stages_import_no_other_stage() -> None:
    stages = {f"stages.{path.stem}" for path in (ROOT / "stages").glob("*.py")}
    for path in (ROOT / "stages").rglob("*.py"):
        assert not stages & set(imports(path.relative_to(ROOT))), path


def starts_git(node: ast.AST) -> bool:
    """Whether code is a command line of git: ["git", …], ("git", …) or subprocess.run("git …")."""
    words: list[ast.expr] = []
    if isinstance(node, ast.List | ast.Tuple):
        words = node.elts
    elif isinstance(node, ast.Call) and "subprocess" in ast.dump(node.func):
        words = node.args
    match words:
        case [ast.Constant(value=str(text)), *_]:
            return text.split()[:1] == ["git"]
    return False


def test_git_is_started_in_one_place() -> None:
    found = [
        str(path)
        for path in SOURCES
        if any(map(starts_git, ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))))
    ]
    assert found == ["experiments/repository/subprocesses.py"]


def test_each_module_name_in_stages_is_there_once() -> None:
    names = Counter(path.stem for path in (ROOT / "stages").rglob("*.py"))
    del names["__init__"]
    assert [name for name, count in names.items() if count > 1] == []
