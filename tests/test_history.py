import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from stages.training.history import curves_in, history_in
from tests.project import ROOT

pytestmark = pytest.mark.xdist_group("history")  # its fixture is made once
EPOCHS = [
    {"loss": 0.5, "accuracy": 0.9, "val_loss": 0.25, "val_accuracy": 0.95},
    {"loss": 1 / 3, "accuracy": 0.98, "val_loss": 1e-7, "val_accuracy": 1.0},
]
LOSS, ACCURACY = "plots/custom/loss.json", "plots/custom/accuracy.json"
FILES = {"metrics.json", LOSS, ACCURACY}


def save(folder: Path, epochs: list[dict[str, float]]) -> None:
    with history_in(folder) as log:
        for epoch in epochs:
            log(epoch)


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, timeout=280)


def read_all(folder: Path) -> dict[str, str]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git and DVC repository with a commit, as DVCLive wants it."""
    folder = tmp_path_factory.mktemp("history")
    git(folder, "init", "--quiet")
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").touch()
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "Start")
    return folder


@pytest.fixture
def folder(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(repository)
    save(Path("metrics/train"), EPOCHS)
    return Path("metrics/train")


def losses(folder: Path) -> list[float]:
    """Of the training images, after each epoch."""
    return curves_in((folder / LOSS).read_text(), "loss")["train"].tolist()


def test_what_is_saved_is_read_to_six_digits(folder: Path) -> None:
    loss = curves_in((folder / LOSS).read_text(), "loss")
    assert loss.to_dict() == {"train": {1: 0.5, 2: 0.333333}, "validation": {1: 0.25, 2: 0.0}}
    accuracy = curves_in((folder / ACCURACY).read_text(), "accuracy")
    assert accuracy.to_dict() == {"train": {1: 0.9, 2: 0.98}, "validation": {1: 0.95, 2: 1.0}}


def test_the_files_are_dvclives_without_time_stamps(folder: Path) -> None:
    files = read_all(folder)
    assert set(files) == FILES
    assert json.loads(files[LOSS]) == [
        {"step": 1, "split": "train", "loss": 0.5},
        {"step": 1, "split": "validation", "loss": 0.25},
        {"step": 2, "split": "train", "loss": 0.333333},
        {"step": 2, "split": "validation", "loss": 0.0},
    ]
    assert json.loads(files["metrics.json"]) == {
        "train": {"accuracy": 0.98},
        "validation": {"accuracy": 1.0},
        "step": 2,
    }


def test_saved_again_the_files_are_the_same(folder: Path) -> None:
    before = read_all(folder)
    noisy = [{name: value + 1e-9 for name, value in logs.items()} for logs in EPOCHS]
    save(folder, noisy)
    assert read_all(folder) == before


def test_after_each_epoch_all_so_far_can_be_read(folder: Path) -> None:
    whole = read_all(folder)
    with history_in(folder) as log:
        log(EPOCHS[0])
        assert losses(folder) == [0.5]
        assert json.loads((folder / "metrics.json").read_text())["step"] == 1
        log(EPOCHS[1])
        assert read_all(folder) == whole
        assert set(read_all(folder)) == FILES
    assert read_all(folder) == whole


def test_nothing_is_sent_or_taken_up_as_the_environment_says(repository: Path) -> None:
    """A server of DVC's Studio is named, and an earlier history is there to go on from."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        code = "from tests.test_history import *\nsave(Path('asked/train'), EPOCHS)"
        for _ in range(2):
            subprocess.run(
                [sys.executable, "-c", code],
                cwd=repository,
                env=os.environ
                | {
                    "PYTHONPATH": str(ROOT),
                    "DVC_STUDIO_TOKEN": "secret",
                    "DVC_STUDIO_URL": f"http://127.0.0.1:{server.getsockname()[1]}",
                    "DVC_STUDIO_REPO_URL": "https://example.org/a.git",
                    "DVCLIVE_RESUME": "1",
                },
                check=True,
                timeout=280,
            )
        with pytest.raises(BlockingIOError):
            server.accept()
    assert losses(repository / "asked/train") == [0.5, 0.333333]
    shutil.rmtree(repository / "asked")


def test_a_shorter_history_replaces_a_longer_one(folder: Path) -> None:
    save(folder, EPOCHS[:1])
    assert losses(folder) == [0.5]
    assert [path.name for path in folder.parent.iterdir()] == ["train"]


def test_nothing_else_in_the_repository_changes(folder: Path, repository: Path) -> None:
    result = subprocess.run(
        ["git", "status", "--porcelain"], cwd=repository, check=True, capture_output=True, text=True
    )
    assert folder.is_dir()
    untracked = {line.split()[-1] for line in result.stdout.splitlines()}
    assert "metrics/" in untracked
    assert all(path.startswith(("metrics/", ".dvc")) for path in untracked)
    assert not (repository / "dvc.yaml").exists()


@pytest.mark.parametrize("text", ["", "7", "[7]", "[]", "{}", '[{"step": 1, "loss": 2}]', "a,b"])
def test_what_is_no_history_is_told(text: str) -> None:
    with pytest.raises((ValueError, LookupError)):
        curves_in(text, "loss")


def test_a_repository_without_a_commit_is_one_clear_line(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "train").mkdir()
    (tmp_path / "train/old").touch()
    code = (
        "from pathlib import Path\n"
        "from stages.edges.bad_input import explained\n"
        "from stages.training.history import history_in\n"
        "with explained(), history_in(Path('train')): pass"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr == "DVCLive needs a git repository with a commit: git commit\n"
    assert set(read_all(tmp_path / "train")) == {"old"}
