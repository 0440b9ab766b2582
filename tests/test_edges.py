"""How a stage meets people, signals, the file system and a terminal."""

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
from stages.data.arrays import save_arrays
from stages.data.datasets import DATASETS
from stages.edges.bad_input import BadInput
from stages.edges.progress import Progress
from stages.edges.replacing import replacing
from tests.project import ROOT, TUTORIAL, set_parameters

# What a stage looks like.
FRAME = """
import pathlib, signal, sys, time
from stages.edges.bad_input import BadInput, explained
from stages.edges.replacing import replacing
with explained():
"""


def script(body: str) -> list[str]:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return [sys.executable, "-c", FRAME + lines]


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
        ("raise BadInput('a is b; it must be c')", 1, "", "a is b; it must be c\n"),
        # What a terminal would obey is written out.
        (
            r"raise BadInput('a\x1b[2J\x07 is b\nand \u202e, é')",
            *(1, "", "a\\x1b[2J\\x07 is b\nand \\u202e, é\n"),
        ),
        (r"open('\x1b]0;\x07')", 1, "", "\\x1b]0;\\x07: No such file or directory\n"),
        ("open('no/such/file')", 1, "", "no/such/file: No such file or directory\n"),
        ("pathlib.Path('file').mkdir()", 1, "", "file: File exists\n"),
        ("pathlib.Path('/dev/full').write_text('x')", 1, "", "No space left on device\n"),
        ("raise OSError('2 written')", 1, "", "2 written (is the disk full?)\n"),
    ],
)
def test_what_a_person_can_mend_is_a_line_and_status_1(
    tmp_path: Path, body: str, status: int, out: str, err: str
) -> None:
    (tmp_path / "file").touch()
    result = run(script(body), tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (status, out, err)


def test_our_own_mistakes_keep_their_traceback(tmp_path: Path) -> None:
    result = run(script("1 / 0"), tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("Traceback")
    assert result.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_an_encoding_that_lacks_a_character(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    result = run(script(r"print('1\u20132')"), tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "1\\u20132\n", "")


ENDING_SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
HALF_WRITTEN = """
with replacing(pathlib.Path('output')) as partial:
    partial.mkdir()
    (partial / 'half').write_text('ha')
    print('waiting', flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", ENDING_SIGNALS)
def test_a_signal_ends_it_once_nothing_half_written_is_left(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "output").mkdir()
    (tmp_path / "output/old").touch()
    with subprocess.Popen(
        script(HALF_WRITTEN),
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
        _, said = process.communicate(timeout=280)
    assert process.returncode == -number  # as a shell and DVC see it
    assert said == ""
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "output", tmp_path / "output/old"]


SWALLOWED = """
from stages.edges.progress import Progress
with Progress('training', 2, ' epochs') as progress:
    try:
        signal.raise_signal({number})
        time.sleep(60)
    except BaseException:
        print('swallowed')  # and not flushed
    {then}
"""


@pytest.mark.parametrize("number", ENDING_SIGNALS)
@pytest.mark.parametrize("then", ["progress.advance(1); print('went on')", "pass"])
def test_a_signal_that_a_library_swallows_ends_the_work_all_the_same(
    tmp_path: Path, number: signal.Signals, then: str
) -> None:
    result = run(script(SWALLOWED.format(number=int(number), then=then)), tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (-number, "swallowed\n", "")


def test_after_nohup_a_hang_up_ends_nothing(tmp_path: Path) -> None:
    body = "signal.raise_signal(signal.SIGHUP)\nprint('goes on')"
    result = run(["nohup", *script(body)], tmp_path)
    assert (result.returncode, result.stdout) == (0, "goes on\n")


DOWNLOAD = [sys.executable, "-m", "stages.download"]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with parameters, ten images of each split, and an old output."""
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


def refusal(stage: Any, workspace: Path) -> str:
    """The message with which a stage refuses, which leaves every output as it is."""
    before = outputs(workspace)
    with pytest.raises(BadInput) as problem:
        stage.main()
    assert outputs(workspace) == before
    return str(problem.value)


@pytest.mark.parametrize(
    ("stage", "section", "key", "value", "what_would_do"),
    [
        (download, "download", "dataset", "cifar", f"one of {', '.join(DATASETS)}"),
        (normalize, "normalize", "scaling", "none", "unit or standard"),
        (normalize, "normalize", "validation", 10, "a whole number from 0 to 9"),
    ],
)
def test_bad_parameters_stop_a_stage(
    workspace: Path, stage: Any, section: str, key: str, value: object, what_would_do: str
) -> None:
    set_parameters(workspace, {section: {key: value}})
    line = f"params.yaml: {section}.{key} is {value}; it must be {what_would_do}"
    assert refusal(stage, workspace) == line


def test_tampered_raw_arrays_stop_normalize(workspace: Path) -> None:
    path = workspace / "data/raw/x_test.npy"
    content = bytearray(path.read_bytes())
    content[5_000] ^= 1
    path.write_bytes(content)
    assert refusal(normalize, workspace) == (
        "data/raw/x_test.npy is not what was saved: its SHA-256 is not the one in SHA256SUMS; "
        "remove data/raw and run dvc repro"
    )


def test_a_stage_out_of_space_half_way(workspace: Path) -> None:
    def small_files_only() -> None:
        import resource

        # The first of the arrays has 3.1 MB.
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    before = outputs(workspace)
    result = run(DOWNLOAD, workspace, small_files_only)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "(is the disk full?)" in result.stderr or "File too large" in result.stderr
    assert outputs(workspace) == before

    download.main()  # there is space again
    assert (workspace / "data/raw/x_train.npy").stat().st_size > 3_000_000


def test_a_stage_on_a_full_disk(workspace: Path) -> None:
    """On a real file system of 3 MB, where we may mount one."""
    mounting = "mount -t tmpfs -o size=3m none data"
    unshared = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    if shutil.which("unshare") is None or run([*unshared, mounting], workspace).returncode:
        pytest.skip("no file system can be mounted here")
    # The mount is gone with the process, so it has to look itself.
    look = f'{mounting} && mkdir data/raw && touch data/raw/old && "$@"; echo $?; find data -type f'
    result = run([*unshared, look, "sh", *DOWNLOAD], workspace)
    assert result.stdout.splitlines() == ["1", "data/raw/old"]
    assert len(result.stderr.splitlines()) == 1
    assert "(is the disk full?)" in result.stderr or "No space left" in result.stderr


def test_a_stage_takes_no_arguments(workspace: Path) -> None:
    before = outputs(workspace)
    said = run([*DOWNLOAD, "--help"], workspace)
    assert (said.returncode, said.stdout[:32]) == (0, "usage: python -m stages.download")
    refused = run([*DOWNLOAD, "again"], workspace)
    assert refused.returncode == 2
    assert refused.stderr.endswith("error: unrecognized arguments: again\n")
    assert outputs(workspace) == before


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(path: Path, kind: str, text: str) -> None:
    """Writes a file, or a folder with a file and one further down, named as what they hold."""
    if kind == "file":
        path.write_text(text)
    if kind == "folder":
        (path / "more").mkdir(parents=True)
        (path / text).write_text(text)
        (path / "more" / text).write_text(text)


def texts(path: Path) -> list[str]:
    """What a file holds, or all files in a folder."""
    files = [path, *path.rglob("*")]
    return [file.read_text() for file in files if file.is_file()]


# No output is a folder first and then a file.
REPLACED = {
    "file": ["nothing", "file", "hard link", "link to a file", "link to a folder"],
    "folder": ["nothing", "file", "folder", "hard link", "link to a file", "link to a folder"],
}


@pytest.mark.parametrize("left", ["nothing", "file", "folder"])
@pytest.mark.parametrize(("new", "old"), [(new, old) for new in REPLACED for old in REPLACED[new]])
def test_an_output_appears_when_it_is_whole_whatever_was_there(
    tmp_path: Path, new: str, old: str, left: str
) -> None:
    """Links lead into DVC's cache, which stays as it is; a killed run may have left something."""
    cache = tmp_path / "cache"
    write(cache, "folder", "old")
    (cache / "old").chmod(0o444)
    path, beside = tmp_path / "folder/output", tmp_path / "folder/partial-output"
    if (old, left) != ("nothing", "nothing"):
        path.parent.mkdir()
    write(beside, left, "half")
    if old == "hard link":
        path.hardlink_to(cache / "old")
    elif old.startswith("link"):
        path.symlink_to(cache / ("old" if old == "link to a file" else "more"))
    else:
        write(path, old, "old")

    before = texts(path)
    with replacing(path) as partial:
        assert partial == beside  # in one file system, so that a rename is enough
        assert not partial.exists()
        write(partial, new, "new")
        assert texts(path) == before
    assert path.is_file() == (new == "file")
    assert not path.is_symlink()
    assert set(texts(path)) == {"new"}
    assert names(path.parent) == ["output"]
    assert texts(cache) == ["old", "old"]


@pytest.mark.parametrize("problem", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_after_an_exception_the_old_is_as_it_was(
    tmp_path: Path, problem: type[BaseException]
) -> None:
    for kind in ("file", "folder"):
        write(tmp_path / kind, kind, "old")
        with pytest.raises(problem), replacing(tmp_path / kind) as partial:  # noqa: PT012
            write(partial, "folder", "half")
            raise problem
        with pytest.raises(FileNotFoundError), replacing(tmp_path / kind):
            pass  # nothing is written
    assert names(tmp_path) == ["file", "folder"]
    assert texts(tmp_path) == ["old"] * 3


def test_killed_at_any_time_a_folder_is_whole_or_absent(tmp_path: Path) -> None:
    """A folder cannot be renamed onto another, so it may be absent; it is never half there."""
    code = """
import itertools
for n in itertools.count():
    with replacing(pathlib.Path('folder')) as partial:
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
            for _ in range(1 + attempt):  # folders that it has written
                process.stdout.readline()
            process.kill()
        assert process.returncode == -signal.SIGKILL
        if path.exists():
            seen += 1
            # Being removed, it may lack files; those that are there are whole and of one run.
            contents = set(texts(path))
            assert len(contents) <= 1
            assert all(len(content) >= 10_000 for content in contents)
        assert set(names(tmp_path)) <= {"folder", "partial-folder"}
    assert seen
    with replacing(path) as partial:
        write(partial, "folder", "next")
    assert names(tmp_path) == ["folder"]
    assert texts(path) == ["next", "next"]


def test_a_log_gets_a_line_a_step_without_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Progress("MNIST", 300, "B") as progress:
        progress.advance(100)
        progress.step("file 1")
        progress.advance(-100)  # work may be taken back
        progress.step("again")
        progress.advance(300)
        progress.step("file 2")
    said = capsys.readouterr().err
    assert re.fullmatch(r"file 1, \d+ s left\nagain\nfile 2, 0 s left\n", said)


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))  # 24 × 100
    drawn: list[bytes] = []

    def read() -> None:
        with suppress(OSError):  # Linux's way to say that the other end is closed
            while piece := os.read(ours, 4096):
                drawn.append(piece)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(theirs, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        with Progress("MNIST", 4_000_000, "B") as progress:
            for part in range(4):
                progress.advance(1_000_000)
                progress.step(f"file {part}")
    reader.join(timeout=10)
    os.close(ours)
    text = b"".join(drawn).decode()
    bars = [bar for bar in text.split("\r") if bar.strip()]
    assert len(bars) > 4  # drawn anew
    assert "\n" not in text.rstrip("\r\n")
    for what in (r"^MNIST: ", r"\d%\|", r"/4\.00M", r"[kMG]B/s", r"<\d\d:\d\d", "file 2"):
        assert any(re.search(what, bar) for bar in bars), what


def test_the_time_left_follows_from_the_work_done(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000.0]
    with Progress("training", 10, " epochs", done=4) as progress:
        monkeypatch.setattr(progress.bar, "_time", lambda: now[0])
        progress.bar.start_t = now[0]
        assert progress.seconds_left() is None
        now[0] += 6
        progress.advance(2)
        # The four of an earlier run took no time of this one.
        assert progress.seconds_left() == pytest.approx(12)
        progress.advance(4)
        assert progress.seconds_left() == 0
