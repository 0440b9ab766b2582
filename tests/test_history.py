"""DVCLive's files: content, replacement, and a state that can be read after each epoch."""

import json
import socket
import subprocess
from pathlib import Path

import pytest

from stages.common.errors import UserError
from stages.training.history import read_curves, write_history

pytestmark = pytest.mark.xdist_group("history")  # its fixture is made once
EPOCHS = [
    {"loss": 0.5, "accuracy": 0.9, "val_loss": 0.25, "val_accuracy": 0.95},
    {"loss": 1 / 3, "accuracy": 0.98, "val_loss": 1e-7, "val_accuracy": 1.0},
]
LOSS, ACCURACY = "plots/custom/loss.json", "plots/custom/accuracy.json"
FILES = {"metrics.json", LOSS, ACCURACY}


def save(folder: Path, epochs: list[dict[str, float]]) -> None:
    with write_history(folder) as history:
        for epoch in epochs:
            history.add_epoch(epoch)


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, timeout=280)


def read_all(folder: Path) -> dict[str, str]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git and DVC repository with a commit, which DVCLive requires."""
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
    """The training loss after each epoch."""
    return read_curves((folder / LOSS).read_text(), "loss")["train"].tolist()


def test_the_files_are_dvclives_with_six_digits_and_without_time_stamps(folder: Path) -> None:
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
    loss = read_curves(files[LOSS], "loss")
    assert loss.to_dict() == {"train": {1: 0.5, 2: 0.333333}, "validation": {1: 0.25, 2: 0.0}}
    accuracy = read_curves(files[ACCURACY], "accuracy")
    assert accuracy.to_dict() == {"train": {1: 0.9, 2: 0.98}, "validation": {1: 0.95, 2: 1.0}}


def test_a_second_history_replaces_the_first(folder: Path) -> None:
    before = read_all(folder)
    save(folder, [{name: value + 1e-9 for name, value in logs.items()} for logs in EPOCHS])
    assert read_all(folder) == before
    save(folder, EPOCHS[:1])
    assert losses(folder) == [0.5]
    assert [path.name for path in folder.parent.iterdir()] == ["train"]


def test_after_each_epoch_the_files_have_all_epochs_so_far(folder: Path) -> None:
    whole = read_all(folder)
    with write_history(folder) as history:
        history.add_epoch(EPOCHS[0])
        assert losses(folder) == [0.5]
        assert json.loads((folder / "metrics.json").read_text())["step"] == 1
        history.add_epoch(EPOCHS[1])
        assert read_all(folder) == whole
        assert set(read_all(folder)) == FILES
    assert read_all(folder) == whole


def test_other_metrics_get_curves_and_the_metrics_are_those_of_the_saved_epoch(
    folder: Path,
) -> None:
    more = [logs | {"auc": 0.5, "val_auc": 0.25, "learning_rate": 1e-3} for logs in EPOCHS]
    with write_history(folder, ["loss", "accuracy", "auc"]) as history:
        for logs in more:
            history.add_epoch(logs)
        history.set_metrics(1, more[0])
    files = read_all(folder)
    assert set(files) == FILES | {"plots/custom/auc.json"}
    assert json.loads(files["metrics.json"]) == {
        "train": {"accuracy": 0.9, "auc": 0.5},
        "validation": {"accuracy": 0.95, "auc": 0.25},
        "step": 1,
    }
    assert len(read_curves(files["plots/custom/auc.json"], "auc")) == 2


def test_settings_in_the_environment_neither_send_nor_resume_a_history(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment names a Studio server, and asks DVCLive to resume an earlier history."""
    monkeypatch.delenv("DVC_STUDIO_OFFLINE", raising=False)
    monkeypatch.setenv("DVC_STUDIO_TOKEN", "secret")
    monkeypatch.setenv("DVC_STUDIO_REPO_URL", "https://example.org/a.git")
    monkeypatch.setenv("DVCLIVE_RESUME", "1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        monkeypatch.setenv("DVC_STUDIO_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        save(folder, EPOCHS)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert losses(folder) == [0.5, 0.333333]


def test_no_other_files_in_the_repository_change(folder: Path, repository: Path) -> None:
    result = subprocess.run(
        ["git", "status", "--porcelain"], cwd=repository, check=True, capture_output=True, text=True
    )
    assert folder.is_dir()
    untracked = {line.split()[-1] for line in result.stdout.splitlines()}
    assert "metrics/" in untracked
    assert all(path.startswith(("metrics/", ".dvc")) for path in untracked)
    assert not (repository / "dvc.yaml").exists()


@pytest.mark.parametrize("text", ["", "7", "[7]", "[]", "{}", '[{"step": 1, "loss": 2}]', "a,b"])
def test_a_text_in_another_format_is_refused(text: str) -> None:
    with pytest.raises((ValueError, LookupError)):
        read_curves(text, "loss")


def test_a_repository_without_a_commit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "train").mkdir()
    (tmp_path / "train/old").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^git: no repository with a commit here .* git clone "):
        save(Path("train"), EPOCHS)
    assert set(read_all(tmp_path / "train")) == {"old"}
