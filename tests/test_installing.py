"""`make`'s installation and what it hands to commands: by the real make, pip and shell."""

import os
import re
import shutil
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
    """The environment in which pip and uv see an index whose newest setuptools is poisoned."""
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
    kept = {
        name: value for name, value in activated().items() if not name.startswith(("PIP_", "UV_"))
    }
    index = (tmp_path / "simple").as_uri()
    return kept | {
        **{"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": index, "PIP_NO_CACHE_DIR": "1"},
        # Without a cache: a package that was built earlier would be taken from there.
        **{"UV_NO_CONFIG": "1", "UV_DEFAULT_INDEX": index, "UV_NO_CACHE": "1"},
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

    # The poison works: without what the Makefile does, uv runs it, hashes or not.
    plain = (".venv/bin/uv", "pip", "install", "--require-hashes", "--reinstall")
    environment = index | {"VIRTUAL_ENV": str(project / ".venv")}
    run(project, *plain, "--requirements", "requirements.txt", environment=environment)
    assert marker.exists()


@pytest.mark.slow
def test_pip_accepts_the_files_too() -> None:
    files = sorted(path.name for path in ROOT.glob("requirements*.txt"))
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--require-hashes"]
    requirements = [word for name in files for word in ("--requirement", name)]
    done = run(ROOT, *command, "--no-build-isolation", *requirements, environment=activated())
    assert done.returncode == 0, done.stderr


SHIMS = {
    "shim": ("#!/bin/sh\necho 'no such version' >&2\nexit 127\n", "./shim cannot be run: no such"),
    "another version": (
        "#!/bin/sh\nexit 3\n",
        "Python 3.11, 3.12 or 3.13 is needed; ./shim is none",
    ),
    "no venv": (
        "#!/bin/sh\ncase $2 in *ensurepip*) exit 1;; esac\n",
        "./shim has no venv module; install it: apt install shim-venv",
    ),
}


@pytest.mark.parametrize("kind", SHIMS)
def test_a_python_that_will_not_do_gets_a_line(tmp_path: Path, kind: str) -> None:
    python, said = SHIMS[kind]
    for name in ("Makefile", "requirements.txt", "requirements-build.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "shim").write_text(python)
    (tmp_path / "shim").chmod(0o755)
    result = run(tmp_path, "make", "quickstart", "PYTHON=./shim", environment=activated())
    assert result.returncode
    (line,) = result.stdout.splitlines()
    assert line.startswith(said)
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("git", "git is needed; install it: apt install git, or brew install git\n"),
        ("python", "Python 3.11, 3.12 or 3.13 is needed. Install one,"),
    ],
)
def test_what_the_machine_lacks_is_named(tmp_path: Path, missing: str, said: str) -> None:
    for name in ("Makefile", "requirements.txt", "requirements-build.txt"):
        shutil.copy(ROOT / name, tmp_path)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in {"sh", "make", "git", "sed"} - {missing}:
        (tools / name).symlink_to(str(shutil.which(name)))
    if missing != "python":
        (tools / "python3").symlink_to(sys.executable)
    environment = activated() | {"PATH": str(tools)}
    result = run(tmp_path, "make", "quickstart", environment=environment)
    assert result.returncode
    assert result.stdout.startswith(said)
    assert result.stdout.count("\n") == 1
    assert not (tmp_path / ".venv").exists()
