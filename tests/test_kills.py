"""No epoch is lost to a kill, and the bytes are those of a training that was never killed."""

import random
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from stages.training.history import curves_in
from stages.training.threads import THREADS
from tests.project import Project, activated

MODEL = Path("models/handwritten_digit.h5")
CHECKPOINT = Path("checkpoint.npz")
TRAIN = ("python", "-m", "stages.train")
EPOCHS = 600  # more than ten kills leave time for


def start(project: Project) -> subprocess.Popen[str]:
    return subprocess.Popen(
        TRAIN,
        cwd=project.folder,
        env=activated(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kill_after_epochs(project: Project, number: signal.Signals, epochs: int, pause: float) -> str:
    """Starts a training and kills it so long after so many more epochs; what it printed."""
    process = start(project)
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
    project: Project,
) -> None:
    """A falling rate, warps, layers that keep more than weights; other threads, too."""
    add_layers(project)
    project.set({"train": {"schedule": "cosine"}, "warp": {"rotation": 20, "elastic_amplitude": 1}})
    killed_again_and_again(project, [signal.SIGKILL, signal.SIGINT], 30)


@pytest.mark.long
def test_killed_at_random_moments_it_ends_with_the_same_bytes(project: Project) -> None:
    signals = [signal.SIGKILL] * 6 + [signal.SIGTERM] * 2 + [signal.SIGINT] * 2
    killed_again_and_again(project, signals, EPOCHS)


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
    project.run(*TRAIN)

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


@pytest.mark.slow
def test_a_checkpoint_of_another_training_is_not_used(project: Project) -> None:
    expected = (project.folder / MODEL).read_bytes()
    before = project.read("params.yaml")
    project.set({"train": {"epochs": 500}})
    kill_after_epochs(project, signal.SIGKILL, 1, 0)
    assert epochs_saved(project)

    (project.folder / "params.yaml").write_text(before)
    output = project.run(*TRAIN)
    assert "checkpoint.npz is of other parameters: training starts afresh" in output
    assert "epoch 1/2" in output
    assert (project.folder / MODEL).read_bytes() == expected


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_training(project: Project) -> None:
    before = (project.folder / MODEL).read_bytes()
    project.set({"train": {"learning_rate": 1e30, "epochs": 50}})
    output = project.run(*TRAIN, fails=True)

    assert re.search(
        r"^train: (val_)?loss is (nan|inf) after epoch \d+, so .* below 1e\+30", output
    )
    assert "Traceback" not in output
    assert (project.folder / MODEL).read_bytes() == before
    assert leftovers(project) == []
