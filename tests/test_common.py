"""Error messages, signals, atomic writing and progress of a stage."""

import fcntl
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import download, normalize
from stages.common.atomic_write import atomic_write
from stages.common.errors import UserError
from stages.common.progress import Progress
from stages.data.arrays import save_arrays
from stages.data.datasets import DATASETS
from tests.project import ROOT, TUTORIAL, set_parameters

IMPORTS = """
import pathlib, signal, sys, time
from stages.common import command_line
from stages.common.atomic_write import atomic_write
from stages.common.errors import UserError
"""


def script(body: str) -> list[str]:
    """A command that runs Python code as the `main` of a stage."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    code = f"{IMPORTS}def main():\n{lines}command_line.run(main)"
    return [sys.executable, "-c", code]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return kept | {"PYTHONPATH": str(ROOT)}


def run(
    command: list[str], folder: Path, before: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        preexec_fn=before,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.mark.parametrize(
    ("body", "status", "out", "err"),
    [
        ("print('fine')", 0, "fine\n", ""),
        ("raise UserError('a is b; expected c')", 1, "", "a is b; expected c\n"),
        # Characters that control a terminal are escaped.
        (
            r"raise UserError('a\x1b[2J\x07 is b\nand \u202e, é')",
            *(1, "", "a\\x1b[2J\\x07 is b\nand \\u202e, é\n"),
        ),
        (r"open('\x1b]0;\x07')", 1, "", "\\x1b]0;\\x07: No such file or directory\n"),
        ("open('no/such/file')", 1, "", "no/such/file: No such file or directory\n"),
        ("pathlib.Path('file').mkdir()", 1, "", "file: File exists\n"),
        ("pathlib.Path('/dev/full').write_text('x')", 1, "", "No space left on device\n"),
        ("raise OSError('2 written')", 1, "", "2 written (is the disk full?)\n"),
    ],
)
def test_an_error_of_the_user_gives_one_line_and_status_1(
    tmp_path: Path, body: str, status: int, out: str, err: str
) -> None:
    (tmp_path / "file").touch()
    result = run(script(body), tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (status, out, err)


def test_a_bug_keeps_its_traceback(tmp_path: Path) -> None:
    result = run(script("1 / 0"), tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("Traceback")
    assert result.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_characters_that_the_terminal_lacks_are_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    result = run(script(r"print('1\u20132')"), tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "1\\u20132\n", "")


SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
WAIT_IN_ATOMIC_WRITE = """
with atomic_write(pathlib.Path('output')) as partial:
    partial.mkdir()
    (partial / 'half').write_text('ha')
    print('waiting', flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_process_after_it_has_removed_partial_files(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "output").mkdir()
    (tmp_path / "output/old").touch()
    with subprocess.Popen(
        script(WAIT_IN_ATOMIC_WRITE),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        assert [path.name for path in tmp_path.glob("*/half")] == ["half"]
        process.send_signal(number)
        _, err = process.communicate(timeout=280)
    assert process.returncode == -number
    assert err == ""
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "output", tmp_path / "output/old"]


SWALLOW_INTERRUPT = """
try:
    signal.raise_signal({number})
    time.sleep(60)
except BaseException:
    print('swallowed')  # not flushed
{then}
"""


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("then", ["command_line.raise_if_signalled(); print('goes on')", ""])
def test_a_signal_ends_the_process_even_if_a_library_swallows_the_exception(
    tmp_path: Path, number: signal.Signals, then: str
) -> None:
    result = run(script(SWALLOW_INTERRUPT.format(number=int(number), then=then)), tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (-number, "swallowed\n", "")


def test_sighup_is_ignored_under_nohup(tmp_path: Path) -> None:
    body = "signal.raise_signal(signal.SIGHUP)\nprint('goes on')"
    result = run(["nohup", *script(body)], tmp_path)
    assert (result.returncode, result.stdout) == (0, "goes on\n")


DOWNLOAD = [sys.executable, "-m", "stages.download"]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Working directory with params.yaml, ten images of each split, and an old output."""
    monkeypatch.chdir(tmp_path)
    set_parameters(tmp_path, TUTORIAL)
    images, labels = np.zeros((10, 28, 28), np.uint8), np.arange(10, dtype=np.uint8)
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    save_arrays(tmp_path / "data/raw", {**arrays, "classes": np.array(list("0123456789"))})
    (tmp_path / "data/normalized").mkdir()
    (tmp_path / "data/normalized/old").touch()
    return tmp_path


def outputs(workspace: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (workspace / "data").rglob("*") if path.is_file()}


def error_message(stage: Any, workspace: Path) -> str:
    """The message of a stage's UserError, which leaves all outputs unchanged."""
    before = outputs(workspace)
    with pytest.raises(UserError) as problem:
        stage.main()
    assert outputs(workspace) == before
    return str(problem.value)


@pytest.mark.parametrize(
    ("stage", "section", "key", "value", "expected"),
    [
        (download, "download", "dataset", "cifar", f"one of {', '.join(DATASETS)}"),
        (normalize, "normalize", "scaling", "none", "unit or standard"),
        (normalize, "normalize", "validation", 10, "an integer from 0 to 9"),
    ],
)
def test_an_invalid_parameter_stops_a_stage(
    workspace: Path, stage: Any, section: str, key: str, value: object, expected: str
) -> None:
    set_parameters(workspace, {section: {key: value}})
    line = f"params.yaml: {section}.{key} is {value}; expected {expected}"
    assert error_message(stage, workspace) == line


def test_a_changed_array_stops_normalize(workspace: Path) -> None:
    path = workspace / "data/raw/x_test.npy"
    content = bytearray(path.read_bytes())
    content[5_000] ^= 1
    path.write_bytes(content)
    assert error_message(normalize, workspace) == (
        "data/raw/x_test.npy has changed: its SHA-256 is not the one in SHA256SUMS. "
        "Run: rm -r data/raw && make repro"
    )


def test_a_stage_without_space_leaves_its_old_output(workspace: Path) -> None:
    def limit_file_size() -> None:
        import resource

        # The first array has 3.1 MB.
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    before = outputs(workspace)
    result = run(DOWNLOAD, workspace, limit_file_size)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "(is the disk full?)" in result.stderr or "File too large" in result.stderr
    assert outputs(workspace) == before

    download.main()  # without the limit
    assert (workspace / "data/raw/x_train.npy").stat().st_size > 3_000_000


def test_a_stage_on_a_full_disk(workspace: Path) -> None:
    """A file system of 3 MB, if this user may mount one."""
    mount = "mount -t tmpfs -o size=3m none data"
    unshared = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    if shutil.which("unshare") is None or run([*unshared, mount], workspace).returncode:
        pytest.skip("needs permission to mount a file system")
    # The mount ends with the process, so the process lists its files itself.
    shell = f'{mount} && mkdir data/raw && touch data/raw/old && "$@"; echo $?; find data -type f'
    result = run([*unshared, shell, "sh", *DOWNLOAD], workspace)
    assert result.stdout.splitlines() == ["1", "data/raw/old"]
    assert len(result.stderr.splitlines()) == 1
    assert "(is the disk full?)" in result.stderr or "No space left" in result.stderr


def test_a_stage_takes_no_arguments(workspace: Path) -> None:
    before = outputs(workspace)
    shown = run([*DOWNLOAD, "--help"], workspace)
    assert (shown.returncode, shown.stdout[:32]) == (0, "usage: python -m stages.download")
    refused = run([*DOWNLOAD, "again"], workspace)
    assert refused.returncode == 2
    assert refused.stderr.endswith("error: unrecognized arguments: again\n")
    assert outputs(workspace) == before


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(path: Path, kind: str, text: str) -> None:
    """Writes a file, or a folder with two files, one of them nested, with `text` as their name."""
    if kind == "file":
        path.write_text(text)
    if kind == "folder":
        (path / "more").mkdir(parents=True)
        (path / text).write_text(text)
        (path / "more" / text).write_text(text)


def texts(path: Path) -> list[str]:
    """Content of a file, or of all files in a folder."""
    files = [path, *path.rglob("*")]
    return [file.read_text() for file in files if file.is_file()]


# Kinds of an existing path by the kind of the new output. No folder is replaced by a file.
REPLACED = {
    "file": ["nothing", "file", "hard link", "link to a file", "link to a folder"],
    "folder": ["nothing", "file", "folder", "hard link", "link to a file", "link to a folder"],
}


@pytest.mark.parametrize("leftover", ["nothing", "file", "folder"])
@pytest.mark.parametrize(("new", "old"), [(new, old) for new in REPLACED for old in REPLACED[new]])
def test_atomic_write_replaces_an_output_when_it_is_complete(
    tmp_path: Path, new: str, old: str, leftover: str
) -> None:
    """The cache that an old link points to stays; a partial output of a killed run is removed."""
    cache = tmp_path / "cache"
    write(cache, "folder", "old")
    (cache / "old").chmod(0o444)
    path, temporary = tmp_path / "folder/output", tmp_path / "folder/partial-output"
    if (old, leftover) != ("nothing", "nothing"):
        path.parent.mkdir()
    write(temporary, leftover, "half")
    if old == "hard link":
        path.hardlink_to(cache / "old")
    elif old.startswith("link"):
        path.symlink_to(cache / ("old" if old == "link to a file" else "more"))
    else:
        write(path, old, "old")

    before = texts(path)
    with atomic_write(path) as partial:
        assert partial == temporary  # in the same file system, for the rename
        assert not partial.exists()
        write(partial, new, "new")
        assert texts(path) == before
    assert path.is_file() == (new == "file")
    assert not path.is_symlink()
    assert set(texts(path)) == {"new"}
    assert names(path.parent) == ["output"]
    assert texts(cache) == ["old", "old"]


@pytest.mark.parametrize("problem", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_after_an_exception_the_old_output_is_unchanged(
    tmp_path: Path, problem: type[BaseException]
) -> None:
    for kind in ("file", "folder"):
        write(tmp_path / kind, kind, "old")
        with pytest.raises(problem), atomic_write(tmp_path / kind) as partial:  # noqa: PT012
            write(partial, "folder", "half")
            raise problem
        with pytest.raises(FileNotFoundError), atomic_write(tmp_path / kind):
            pass  # nothing is written
    assert names(tmp_path) == ["file", "folder"]
    assert texts(tmp_path) == ["old"] * 3


def test_after_a_kill_a_folder_is_complete_or_missing(tmp_path: Path) -> None:
    """A folder cannot be renamed onto another, so the old one is removed first."""
    code = """
import itertools
for n in itertools.count():
    with atomic_write(pathlib.Path('folder')) as partial:
        partial.mkdir()
        for name in range(20):
            (partial / str(name)).write_text(str(n) * 10_000)
    print(flush=True)
"""
    path = tmp_path / "folder"
    seen = 0
    for attempt in range(12):
        with subprocess.Popen(
            script(code), cwd=tmp_path, env=environment(), stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            for _ in range(1 + attempt):  # one line for each folder
                process.stdout.readline()
            process.kill()
        assert process.returncode == -signal.SIGKILL
        if path.exists():
            seen += 1
            # A folder that was being removed may lack files. The others are complete.
            contents = set(texts(path))
            assert len(contents) <= 1
            assert all(len(content) >= 10_000 for content in contents)
        assert set(names(tmp_path)) <= {"folder", "partial-folder"}
    assert seen
    with atomic_write(path) as partial:
        write(partial, "folder", "next")
    assert names(tmp_path) == ["folder"]
    assert texts(path) == ["next", "next"]


def test_a_log_file_gets_one_line_for_each_step(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Progress("MNIST", 300, "B") as progress:
        progress.advance(100)
        progress.step("file 1")
        progress.advance(-100)  # units are taken back
        progress.step("again")
        progress.advance(300)
        progress.step("file 2")
    log = capsys.readouterr().err
    assert re.fullmatch(r"file 1, \d+ s left\nagain\nfile 2\n", log)


def test_a_terminal_gets_a_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    output, terminal_input = pty.openpty()
    fcntl.ioctl(terminal_input, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))  # 24 × 100
    drawn: list[bytes] = []

    def read() -> None:
        with suppress(OSError):  # Linux raises it when the other end is closed
            while piece := os.read(output, 4096):
                drawn.append(piece)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(terminal_input, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        with Progress("MNIST", 4_000_000, "B") as progress:
            for part in range(4):
                progress.advance(1_000_000)
                progress.step(f"file {part}")
    reader.join(timeout=10)
    os.close(output)
    text = b"".join(drawn).decode()
    bars = [bar for bar in text.split("\r") if bar.strip()]
    assert len(bars) > 4
    assert "\n" not in text.rstrip("\r\n")
    for pattern in (r"^MNIST: ", r"\d%\|", r"/4\.00M", r"[kMG]B/s", r"<\d\d:\d\d", "file 2"):
        assert any(re.search(pattern, bar) for bar in bars), pattern


def test_the_time_left_follows_from_the_speed_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000.0]
    with Progress("training", 10, " epochs", done=4) as progress:
        monkeypatch.setattr(progress.bar, "_time", lambda: now[0])
        progress.bar.start_t = now[0]
        assert progress.seconds_left() is None
        now[0] += 6
        progress.advance(2)
        # The four epochs of an earlier run do not count as work of this one.
        assert progress.seconds_left() == pytest.approx(12)
        progress.advance(4)
        assert progress.seconds_left() == 0
