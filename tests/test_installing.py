"""`make`'s installation and what it hands to commands: by the real make, pip and shell."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.project import ROOT, activated

POISON = "import pathlib\npathlib.Path({marker!r}).touch()\nraise SystemExit('poison has run')\n"
SOURCE = "antlr4-python3-runtime"


def pinned(name: str) -> str:
    """The lines of requirements.txt that pin a package, without comments."""
    text = (ROOT / "requirements.txt").read_text()
    found = re.search(rf"^{name}==(.*\\\n)+.*", text, re.MULTILINE)
    assert found
    return f"{found[0]}\n"


@pytest.fixture
def index(tmp_path: Path) -> dict[str, str]:
    """The environment in which pip sees an index whose newest setuptools is a poisoned one."""
    wanted = tmp_path / "wanted.txt"
    files = tmp_path / "files"
    wanted.write_text(pinned(SOURCE) + (ROOT / "requirements-build.txt").read_text())
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    hashed = ["--require-hashes", "--no-build-isolation", "--requirement", str(wanted)]
    fetched = subprocess.run(
        [*download, *hashed, "--dest", str(files)],
        check=False,
        capture_output=True,
        text=True,
    )
    if fetched.returncode:
        pytest.skip(f"no package index: {fetched.stderr.strip().splitlines()[-1]}")

    poisoned = files / "setuptools-999-py3-none-any.whl"
    about = "setuptools-999.dist-info"
    with zipfile.ZipFile(poisoned, "w") as wheel:
        poison = POISON.format(marker=str(tmp_path / "ran"))
        wheel.writestr("setuptools/__init__.py", poison)
        wheel.writestr("setuptools/build_meta.py", poison)
        for name, text in (
            ("METADATA", "Metadata-Version: 2.1\nName: setuptools\nVersion: 999\n"),
            ("WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
            ("RECORD", ""),
        ):
            wheel.writestr(f"{about}/{name}", text)
    for file in files.iterdir():
        name = re.sub(r"[-_.]+", "-", re.split(r"-\d", file.name)[0]).lower()
        page = tmp_path / "simple" / name / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        with page.open("a") as links:
            links.write(f'<a href="{file.as_uri()}">{file.name}</a>\n')
    kept = {name: value for name, value in activated().items() if not name.startswith("PIP_")}
    return kept | {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": (tmp_path / "simple").as_uri(),
        "PIP_NO_CACHE_DIR": "1",  # or a package that was built earlier is taken
    }


def run(
    folder: Path, *command: str, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=280,
    )


@pytest.mark.slow
def test_nothing_runs_that_is_not_pinned_by_its_hash(index: dict[str, str], tmp_path: Path) -> None:
    project, marker = tmp_path / "project", tmp_path / "ran"
    project.mkdir()
    for name in ("Makefile", "requirements-build.txt"):
        (project / name).write_text((ROOT / name).read_text())
    (project / "requirements.txt").write_text(pinned(SOURCE))
    result = run(project, "make", ".venv/.installed", f"PYTHON={sys.executable}", environment=index)
    assert result.returncode == 0, result.stdout + result.stderr
    assert list((project / ".venv").rglob("antlr4/Parser.py"))
    assert not marker.exists()

    # The poison works: without what the Makefile does, pip runs it, hashes or not. (Older ones do
    # where setuptools is missing, as it is in the virtual environments of Python 3.12 and later.)
    plain = (".venv/bin/python", "-m", "pip", "install", "--require-hashes", "--use-pep517")
    run(project, *plain, "--force-reinstall", "-r", "requirements.txt", environment=index)
    assert marker.exists()


@pytest.mark.parametrize(
    ("python", "status", "said"),
    [
        ("#!/bin/sh\necho 'shim: no such version' >&2\nexit 127\n", 127, "shim: no such version"),
        ("#!/bin/sh\nexit 3\n", 3, "is none of them"),
    ],
)
def test_a_python_that_will_not_do_says_why(
    tmp_path: Path, python: str, status: int, said: str
) -> None:
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    for name in ("requirements.txt", "requirements-build.txt"):
        (tmp_path / name).touch()
    (tmp_path / "shim").write_text(python)
    (tmp_path / "shim").chmod(0o755)
    result = run(tmp_path, "make", "quickstart", "PYTHON=./shim", environment=activated())
    assert result.returncode
    assert said in result.stdout
    assert ("./shim cannot be run: " in result.stdout) == (status == 127)
    assert not (tmp_path / ".venv").exists()
