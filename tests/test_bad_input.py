"""How a stage ends when something is wrong, in real processes."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.data.datasets import DATASETS
from tests.project import ROOT, TUTORIAL, set_parameters

# What a stage looks like.
FRAME = """
import os, pathlib, signal, sys, time
from stages.edges.bad_input import BadInput, explained
from stages.edges.replacing import replacing
with explained():
"""


def script(body: str) -> list[str]:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return [sys.executable, "-c", FRAME + lines]


def run(
    command: list[str], folder: Path, before: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        preexec_fn=before,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_nothing_wrong(tmp_path: Path) -> None:
    result = run(script("print('fine')"), tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "fine\n", "")


def test_bad_input_is_its_message_and_status_1(tmp_path: Path) -> None:
    result = run(script("raise BadInput('a is b; it must be c')"), tmp_path)
    assert (result.returncode, result.stderr) == (1, "a is b; it must be c\n")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            r"raise BadInput('a\x1b[2J\x07 is b\nand \u202e, é')",
            "a\\x1b[2J\\x07 is b\nand \\u202e, é\n",
        ),
        (r"open('\x1b]0;title\x07')", "\\x1b]0;title\\x07: No such file or directory\n"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(tmp_path: Path, body: str, said: str) -> None:
    assert run(script(body), tmp_path).stderr == said


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("open('no/such/file')", "no/such/file: No such file or directory"),
        ("pathlib.Path('file').mkdir()", "file: File exists"),
        ("pathlib.Path('/dev/full').write_text('x')", "No space left on device"),
        (
            "raise OSError('3 requested and 2 written')",
            "3 requested and 2 written (is the disk full?)",
        ),
    ],
)
def test_a_failure_of_the_file_system_is_a_line(tmp_path: Path, body: str, message: str) -> None:
    (tmp_path / "file").touch()
    result = run(script(body), tmp_path)
    assert (result.returncode, result.stderr) == (1, f"{message}\n")


def test_our_own_mistakes_keep_their_traceback(tmp_path: Path) -> None:
    result = run(script("1 / 0"), tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("Traceback")
    assert result.stderr.endswith("ZeroDivisionError: division by zero\n")


HALF_WRITTEN = """
with replacing(pathlib.Path('output')) as partial:
    partial.mkdir()
    (partial / 'half').write_text('ha')
    print('waiting', flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_once_nothing_half_written_is_left(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "output").mkdir()
    (tmp_path / "output/old").touch()
    with subprocess.Popen(
        script(HALF_WRITTEN),
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
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
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == [
        "output",
        "output/old",
    ]


SWALLOWED = """
from stages.edges.progress import Progress
with Progress('training', 2, ' epochs') as progress:
    try:
        signal.raise_signal({number})
        time.sleep(60)
    except BaseException:
        print('swallowed', flush=True)
    {then}
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("then", ["progress.advance(1); print('went on')", "pass"])
def test_a_signal_that_a_library_swallows_ends_the_work_all_the_same(
    tmp_path: Path, number: signal.Signals, then: str
) -> None:
    result = run(script(SWALLOWED.format(number=int(number), then=then)), tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (-number, "swallowed\n", "")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """What the stage needs of the project, and outputs of an earlier run."""
    shutil.copytree(ROOT / "stages", tmp_path / "stages")
    set_parameters(tmp_path, TUTORIAL)
    (tmp_path / "data/raw").mkdir(parents=True)
    (tmp_path / "data/raw/old").write_text("old")
    return tmp_path


DOWNLOAD = [sys.executable, "-m", "stages.download"]


def outputs(workspace: Path) -> list[str]:
    return sorted(path.name for path in (workspace / "data").rglob("*"))


def test_a_stage_out_of_space_half_way(workspace: Path) -> None:
    def small_files_only() -> None:
        import resource

        # The first of the arrays has 3.1 MB.
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    result = run(DOWNLOAD, workspace, small_files_only)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "(is the disk full?)" in result.stderr or "File too large" in result.stderr
    assert outputs(workspace) == ["old", "raw"]
    assert not (workspace / "metrics").exists()

    assert run(DOWNLOAD, workspace).returncode == 0  # there is space again
    assert "x_train.npy" in outputs(workspace)
    assert "old" not in outputs(workspace)


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


@pytest.mark.parametrize(
    ("stage", "section", "key", "value", "what_would_do"),
    [
        ("download", "download", "dataset", "cifar", f"one of {', '.join(DATASETS)}"),
        ("normalize", "normalize", "scaling", "none", "unit or standard"),
    ],
)
def test_bad_parameters_leave_every_output(
    workspace: Path, stage: str, section: str, key: str, value: str, what_would_do: str
) -> None:
    set_parameters(workspace, {section: {key: value}})
    result = run([sys.executable, "-m", f"stages.{stage}"], workspace)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == (
        f"params.yaml: {section}.{key} is {value}; it must be {what_would_do}\n"
    )
    assert outputs(workspace) == ["old", "raw"]


def test_more_images_held_out_than_there_are_stop_normalize(workspace: Path) -> None:
    assert run(DOWNLOAD, workspace).returncode == 0
    set_parameters(workspace, {"normalize": {"validation": 4_000}})
    result = run([sys.executable, "-m", "stages.normalize"], workspace)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "params.yaml: normalize.validation is 4000; it must be a whole number from 0 to 3999\n"
    )


def test_a_stage_takes_no_arguments(workspace: Path) -> None:
    said = run([*DOWNLOAD, "--help"], workspace)
    assert (said.returncode, said.stdout[:32]) == (0, "usage: python -m stages.download")
    refused = run([*DOWNLOAD, "again"], workspace)
    assert refused.returncode == 2
    assert refused.stderr.endswith("error: unrecognized arguments: again\n")
    assert outputs(workspace) == ["old", "raw"]


def test_an_encoding_that_lacks_a_character() -> None:
    code = "from stages.edges.bad_input import explained\nwith explained(): print('1–2')"
    result = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        check=False,
        capture_output=True,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, b"1\\u20132\n", b"")


def test_tampered_raw_arrays_stop_normalize(workspace: Path) -> None:
    assert run(DOWNLOAD, workspace).returncode == 0
    path = workspace / "data/raw/x_test.npy"
    content = bytearray(path.read_bytes())
    content[5_000] ^= 1
    path.write_bytes(content)
    result = run([sys.executable, "-m", "stages.normalize"], workspace)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "data/raw/x_test.npy is not what was saved: its SHA-256 is not the one in SHA256SUMS; "
        "remove data/raw and run dvc repro\n"
    )
    assert not (workspace / "data/normalized").exists()
    assert not (workspace / "plots").exists()


def test_after_nohup_a_hang_up_ends_nothing(tmp_path: Path) -> None:
    body = "import signal\nsignal.raise_signal(signal.SIGHUP)\nprint('goes on')"
    result = run(["nohup", *script(body)], tmp_path)
    assert (result.returncode, result.stdout) == (0, "goes on\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_said_before_a_signal_is_not_lost(
    tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    result = run(script(f"print('said')\nsignal.raise_signal({int(number)})"), tmp_path)
    assert (result.returncode, result.stdout) == (-number, "said\n")
