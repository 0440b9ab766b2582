import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stages.edges.replacing import replacing
from tests.project import ROOT


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_folder(path: Path, content: str) -> None:
    with replacing(path) as partial:
        partial.mkdir()
        for name in ("a", "b"):
            (partial / name).write_text(content)


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new/folder/file"
    with replacing(path) as partial:
        partial.write_text("whole")
        assert not path.exists()
        assert partial.parent == path.parent  # one file system, so that a rename is enough
    assert path.read_text() == "whole"
    assert names(path.parent) == ["file"]


def test_a_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["file"]


def test_a_folder_is_replaced_with_all_in_it(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    write_folder(path, "old")
    (path / "more").mkdir()
    (path / "more/file").write_text("old")
    write_folder(path, "new")
    assert names(path) == ["a", "b"]
    assert (path / "a").read_text() == "new"
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("problem", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_after_an_exception_the_old_is_as_it_was(
    tmp_path: Path, problem: type[BaseException]
) -> None:
    write_folder(tmp_path / "folder", "old")
    (tmp_path / "file").write_text("old")
    for name in ("folder", "file"):
        with pytest.raises(problem), replacing(tmp_path / name) as partial:  # noqa: PT012
            partial.mkdir()
            (partial / "half").write_text("ha")
            raise problem
    assert names(tmp_path) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "old"
    assert [(tmp_path / "folder" / name).read_text() for name in "ab"] == ["old", "old"]


def test_nothing_written_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "file"):
        pass
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize("left", ["file", "folder"])
def test_what_a_killed_run_has_left_is_cleared(tmp_path: Path, left: str) -> None:
    path = tmp_path / "output"
    with replacing(path) as partial:
        place = partial
        partial.write_text("x")
    if left == "file":
        place.write_text("half")
    else:
        place.mkdir()
        (place / "left").write_text("half")
    with replacing(path) as partial:
        assert partial == place
        assert not partial.exists()
        partial.mkdir()
        (partial / "a").write_text("whole")
    assert names(path) == ["a"]
    assert names(tmp_path) == ["output"]


def test_a_hard_link_into_a_cache_stays_as_it_is(tmp_path: Path) -> None:
    cached, workspace = tmp_path / "cached", tmp_path / "workspace"
    workspace.mkdir()
    cached.write_text("old")
    cached.chmod(0o444)  # as in DVC's cache
    os.link(cached, workspace / "file")
    with replacing(workspace / "file") as partial:
        partial.write_text("new")
    assert (workspace / "file").read_text() == "new"
    assert cached.read_text() == "old"
    assert cached.stat().st_nlink == 1


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_symbolic_link_into_a_cache_is_replaced_itself(tmp_path: Path, kind: str) -> None:
    cached, workspace = tmp_path / "cached", tmp_path / "workspace"
    workspace.mkdir()
    if kind == "file":
        cached.write_text("old")
    else:
        write_folder(cached, "old")
    (workspace / "output").symlink_to(cached)
    write_folder(workspace / "output", "new")
    assert not (workspace / "output").is_symlink()
    assert (workspace / "output/a").read_text() == "new"
    assert (cached if kind == "file" else cached / "a").read_text() == "old"


def test_killed_at_any_time_a_folder_is_whole_or_absent(tmp_path: Path) -> None:
    """A folder cannot be renamed onto another, so it may be absent; it is never half there."""
    code = """
import itertools, pathlib, sys
from stages.edges.replacing import replacing
for n in itertools.count():
    with replacing(pathlib.Path(sys.argv[1])) as partial:
        partial.mkdir()
        for name in range(20):
            (partial / str(name)).write_text(str(n) * 10_000)
    print(flush=True)
"""
    path = tmp_path / "folder"
    seen = 0
    for attempt in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", code, str(path)], cwd=ROOT, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            for _ in range(1 + attempt):  # folders that it has written
                process.stdout.readline()
            process.kill()
        assert process.returncode == -signal.SIGKILL
        if path.exists():
            seen += 1
            contents = {file.read_text() for file in path.iterdir()}
            # Being removed, it may lack files; those that are there are whole and of one run.
            assert len(contents) <= 1
            assert all(len(content) >= 10_000 for content in contents)
        assert set(names(tmp_path)) <= {"folder", "partial-folder"}
    assert seen
    write_folder(path, "next")
    assert names(tmp_path) == ["folder"]
    assert names(path) == ["a", "b"]
