"""Installation by make: pinned hashes, and messages if the machine lacks something."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.project import ROOT, activated

UV = Path(sys.executable).parent / "uv"
SOURCE = "antlr4-python3-runtime"  # PyPI has only its source distribution
BUILD_REQUIREMENTS = ("setuptools", "wheel", "packaging")
FILES = ("Makefile", "requirements.txt", "requirements-build.txt")


def run(
    folder: Path, *command: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=activated() | (environment or {}),
        check=False,
        capture_output=True,
        text=True,
        timeout=280,
    )


def pinned(*names: str) -> str:
    """The lines of requirements.txt that pin these packages."""
    text = (ROOT / "requirements.txt").read_text()
    found = [re.search(rf"^{name}==(.*\\\n)+.*\n", text, re.MULTILINE) for name in names]
    return "".join(lines[0] for lines in found if lines)


def write_fake_setuptools(folder: Path) -> None:
    """Writes a wheel of setuptools 999 that fails when it is imported."""
    code = "raise SystemExit('setuptools 999 has run')\n"
    with zipfile.ZipFile(folder / "setuptools-999-py3-none-any.whl", "w") as wheel:
        wheel.writestr("setuptools/__init__.py", code)
        wheel.writestr("setuptools/build_meta.py", code)
        for name, text in (
            ("METADATA", "Metadata-Version: 2.1\nName: setuptools\nVersion: 999\n"),
            ("WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
            ("RECORD", ""),
        ):
            wheel.writestr(f"setuptools-999.dist-info/{name}", text)


@pytest.mark.slow
def test_only_packages_with_a_pinned_hash_are_used_to_build(tmp_path: Path) -> None:
    """The newest setuptools fails. test_faults.py checks that it would be used otherwise."""
    index = tmp_path / "index"
    (tmp_path / "requirements.txt").write_text(pinned(SOURCE, *BUILD_REQUIREMENTS))
    download = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-build-isolation"]
    hashed = ["--require-hashes", "--requirement", "requirements.txt"]
    fetched = run(tmp_path, *download, *hashed, f"--dest={index}")
    if fetched.returncode:
        pytest.skip(f"no package index: {fetched.stderr.strip().splitlines()[-1]}")
    write_fake_setuptools(index)

    # The state of .venv after make's first step, which builds no package.
    run(tmp_path, sys.executable, "-m", "venv", "--without-pip", ".venv")
    (tmp_path / ".venv/bin/uv").symlink_to(UV)
    # Without uv's cache, which may have the built package.
    environment = {"UV_NO_CONFIG": "1", "UV_NO_CACHE": "1"}
    environment |= {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(index)}
    install = [str(UV), "pip", "install", "--python=.venv", *hashed[:1], "-r", "build.txt"]
    (tmp_path / "build.txt").write_text(pinned(*BUILD_REQUIREMENTS))
    assert run(tmp_path, *install, environment=environment).returncode == 0

    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.txt").write_text(pinned(SOURCE))
    make = ["make", "--assume-old=.venv/bin/uv", ".venv/.installed"]
    result = run(tmp_path, *make, environment=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    assert list((tmp_path / ".venv").rglob("antlr4/Parser.py"))


@pytest.mark.slow
def test_pip_accepts_the_requirements_files() -> None:
    files = sorted(path.name for path in ROOT.glob("requirements*.txt"))
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--require-hashes"]
    requirements = [word for name in files for word in ("--requirement", name)]
    done = run(ROOT, *command, "--no-index", "--no-build-isolation", *requirements)
    assert done.returncode == 0, done.stderr


VERSIONS = "Python 3.11, 3.12 or 3.13 is needed"
# What the script ./python does, the program missing on PATH, and the message.
MISSING = {
    "a shim": ("echo no such version >&2; exit 127", "", "./python cannot be run: no such version"),
    "another version": ("exit 3", "", f"{VERSIONS}; ./python is none of them. Install one,"),
    "no Python": (None, "", f"{VERSIONS}. Install one,"),
    "no venv": (
        "case $2 in *ensurepip*) exit 1;; esac",
        "",
        "./python has no venv module; install it: apt install python-venv",
    ),
    "no git": ("", "git", "git is needed; install it: apt install git, or brew install git"),
}


@pytest.mark.parametrize("kind", MISSING)
def test_a_missing_program_is_named_in_one_line(tmp_path: Path, kind: str) -> None:
    python, missing, message = MISSING[kind]
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "bin").mkdir()
    for name in {"sh", "make", "git", "sed"} - {missing}:
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    if python is not None:
        (tmp_path / "python").write_text(f"#!/bin/sh\n{python}\n")
        (tmp_path / "python").chmod(0o755)
    words = [] if python is None else ["PYTHON=./python"]
    environment = {"PATH": str(tmp_path / "bin")}
    result = run(tmp_path, "make", "quickstart", *words, environment=environment)
    assert result.returncode
    (line,) = result.stdout.splitlines()
    assert line.startswith(message)
    assert not (tmp_path / ".venv").exists()
