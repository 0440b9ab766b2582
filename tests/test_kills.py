"""No epoch is lost to a kill, and the bytes are those of a training that was never killed."""

import random
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from stages import train as stage
from stages.edges.bad_input import BadInput
from stages.training.history import curves_in
from stages.training.threads import THREADS
from tests.project import CHECKPOINT, MODEL, TRAIN, Project, activated

EPOCHS = 600  # more than ten kills leave time for


def kill_after_epochs(project: Project, number: signal.Signals, epochs: int, pause: float) -> str:
    """Starts a training and kills it a pause after some more epochs; what it printed."""
    process = subprocess.Popen(
        TRAIN,
        cwd=project.folder,
        env=activated(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        epochs -= line.startswith("epoch ")
        if epochs <= 0:
            break
    time.sleep(pause)
    process.send_signal(number)
    rest, _ = process.communicate(timeout=280)
    # The usual status of a process that died of this signal, or it was done before.
    assert process.returncode in (-number, 0)
    assert "Traceback" not in rest
    return "".join(lines) + rest


def leftovers(project: Project) -> list[Path]:
    return [path for path in project.folder.rglob("partial-*") if ".dvc" not in path.parts]


def add_layers(project: Project) -> None:
    """Gives the network layers whose state is not in its weights, or in no trained ones."""
    path = project.folder / "stages/training/network.py"
    text = path.read_text()
    place = '            keras.layers.Dense(CLASSES, activation="softmax"),\n'
    assert place in text
    more = "keras.layers.BatchNormalization(),\n            keras.layers.Dropout(0.3),\n"
    path.write_text(text.replace(place, f"            {more}{place}"))


def uninterrupted(project: Project, epochs: int) -> bytes:
    """Sets a project up for a longer training; the model that it gives when nothing kills it."""
    project.set({"model": {"hidden_units": [64]}, "train": {"epochs": epochs, "batch_size": 200}})
    project.run(*TRAIN, environment={THREADS: "3"})
    model = (project.folder / MODEL).read_bytes()
    assert not (project.folder / CHECKPOINT).exists()
    (project.folder / MODEL).unlink()
    return model


@pytest.mark.slow
def test_killed_with_all_that_draws_random_numbers_it_ends_with_the_same_bytes(
    real_project: Project,
) -> None:
    """A falling rate, warps, layers that keep more than weights; other threads, too."""
    add_layers(real_project)
    real_project.set(
        {"train": {"schedule": "cosine"}, "warp": {"rotation": 20, "elastic_amplitude": 1}}
    )
    killed_again_and_again(real_project, [signal.SIGKILL], 12)


@pytest.mark.long
def test_killed_at_random_moments_it_ends_with_the_same_bytes(real_project: Project) -> None:
    signals = [signal.SIGKILL] * 6 + [signal.SIGTERM] * 2 + [signal.SIGINT] * 2
    killed_again_and_again(real_project, signals, EPOCHS)


def killed_again_and_again(project: Project, signals: list[signal.Signals], epochs: int) -> None:
    expected = uninterrupted(project, epochs)
    chance = random.Random(11)  # noqa: S311
    for number in signals:
        before = epochs_saved(project)
        output = kill_after_epochs(project, number, chance.randint(1, 4), chance.uniform(0, 0.1))
        if before:
            assert f"epoch {before + 1}/" in output
            assert "epoch 1/" not in output
        assert epochs_saved(project) > before
        assert not (project.folder / MODEL).exists()
        if number is not signal.SIGKILL:
            assert leftovers(project) == []
    saved = epochs_saved(project)
    output = project.run(*TRAIN)
    assert f"epoch {saved + 1}/" in output
    assert "epoch 1/" not in output

    assert (project.folder / MODEL).read_bytes() == expected
    assert not (project.folder / CHECKPOINT).exists()
    assert leftovers(project) == []
    loss = curves_in(project.read("metrics/train/plots/custom/loss.json"), "loss")
    assert len(loss) == epochs


def epochs_saved(project: Project) -> int:
    path = project.folder / CHECKPOINT
    if not path.exists():
        return 0
    with np.load(path) as file:
        return str(file["about"]).count("val_loss")


@pytest.fixture
def here(real_project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project in whose folder this process calls the stage's main(), without another start."""
    monkeypatch.chdir(real_project.folder)
    # TensorFlow has computed in this process, and takes no other number of threads any more.
    monkeypatch.setattr(stage, "set_threads", lambda: None)
    return real_project


@pytest.mark.slow
def test_a_checkpoint_of_another_training_is_not_used(
    here: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage, "save_network", interrupt)
        with pytest.raises(KeyboardInterrupt):
            stage.main()
    assert epochs_saved(here) == 2
    here.set({"warp": {"rotation": 5}, "train": {"epochs": 1}})
    with (here.folder / "data/normalized/SHA256SUMS").open("a") as sums:
        sums.write(f"{'0' * 64}  another\n")
    (here.folder / "stages/new.py").touch()
    stage.main()
    said = capsys.readouterr().out
    assert "checkpoint.npz is of other data and parameters and code: training starts afresh" in said
    assert "1 epochs: loss" in said


@pytest.mark.slow
def test_a_checkpoint_depends_on_every_section_that_train_reads(
    here: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, str]] = []

    def record(_: Path, dependencies: dict[str, str]) -> None:
        made.append(dependencies)
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "Checkpoint", record)
    changes = ({"model": {"hidden_units": [9]}}, {"train": {"seed": 7}}, {"warp": {"rotation": 5}})
    for change in ({}, *changes):
        here.set(change)
        with pytest.raises(KeyboardInterrupt):
            stage.main()
    assert len({dependencies["parameters"] for dependencies in made}) == 4


@pytest.mark.slow
def test_a_training_that_diverges_stops_with_advice_that_would_do(here: Project) -> None:
    before = (here.folder / MODEL).read_bytes()
    here.set({"train": {"learning_rate": 1e30, "schedule": "cosine", "epochs": 1}})
    with pytest.raises(BadInput) as problem:
        stage.main()
    assert re.fullmatch(
        r"train: (val_)?loss is (nan|inf) after epoch 1, so training stops; "
        r"try a train.learning_rate below 1e\+30.*",
        str(problem.value),
    )
    assert (here.folder / MODEL).read_bytes() == before
    assert leftovers(here) == []
