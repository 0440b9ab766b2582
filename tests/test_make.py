"""What make hands to the commands: every value whole, whatever characters it holds."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.project import ROOT, Project

NASTY = [
    "don't.png",
    'a"b.png',
    "cost$5.png",
    "cost$(HOME).png",
    "$(shell touch ran).png",
    "`touch ran`.png",
    "$(touch ran).png",
    "a; touch ran; b.png",
    "a & b | c > ran.png",
    "two  spaces.png",
    "back\\slash\\\\.png",
    "#hash.png",
    "comma,(paren.png",
    "new\nline; touch ran.png",
    "percent%25.png",
    "-x.png",
    "größe 3.png",
]


@pytest.fixture
def folder(tmp_path: Path) -> Project:
    """A Makefile, and a python that prints what it is called with."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f"""#!/bin/sh
exec env -i {sys.executable} -c "import json, sys; print(json.dumps(sys.argv[1:]))" "$@"
""")
    python.chmod(0o755)
    return Project(tmp_path)


def make(folder: Project, *arguments: str, environment: dict[str, str] | None = None) -> list[str]:
    output = folder.run(*("make", "--silent", *arguments, "VENV=", "APP="), environment=environment)
    said: list[str] = json.loads(output)
    assert not (folder.folder / "ran").exists()
    return said


@pytest.mark.parametrize("value", NASTY)
def test_every_value_reaches_its_command_whole(folder: Project, value: str) -> None:
    assert make(folder, "predict", f"IMAGE={value}") == ["-m", "app.predict", "--", value]
    assert make(folder, "compare", f"A={value}", f"B={value}x") == [
        *("-m", "experiments.compare", "--"),
        *(value, f"{value}x"),
    ]
    assert make(folder, "app", f"HOST={value}", f"PORT={value}") == [
        *("-m", "app.server"),
        *(f"--host={value}", f"--port={value}"),
    ]
    in_environment = {"IMAGE": value, "HOST": value}
    assert make(folder, "predict", environment=in_environment)[-1] == value
    # Some shells export HOST, the machine's name.
    assert "--host=127.0.0.1" in make(folder, "app", environment=in_environment)


def test_without_values_there_are_defaults_or_a_word(folder: Project) -> None:
    assert make(folder, "compare")[-2:] == ["HEAD", "workspace"]
    assert make(folder, "app")[-2:] == ["--host=127.0.0.1", "--port=8000"]
    said = folder.run("make", "predict", "VENV=", fails=True)
    assert "Name a picture: make predict IMAGE=photo.jpg" in said
