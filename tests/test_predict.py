"""The command that reads the digit in a picture, as a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.parts.datasets import embedded_mnist_5k
from tests.project import ROOT


def predict(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stages.predict", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """A folder of ten digits as dark ink in larger pictures, 0.png to 9.png, and their labels."""
    folder = tmp_path_factory.mktemp("pictures")
    arrays = embedded_mnist_5k()
    for place, image in enumerate(arrays["x_test"][:10]):
        paper = Image.new("L", (300, 240), 235)
        ink = Image.fromarray(image).resize((140, 140), Image.Resampling.BICUBIC)
        paper.paste(20, (70, 60), mask=ink)
        paper.convert("RGB").save(folder / f"{place}.png")
    return folder, [int(label) for label in arrays["y_test"][:10]]


def test_every_picture_is_answered_and_a_failure_is_told(
    pictures: tuple[Path, list[int]], trained_model: Path, tmp_path: Path
) -> None:
    folder, labels = pictures
    good = sorted(folder.glob("*.png"))
    bad = [tmp_path / name for name in ("empty.png", "text.png", "cut.png", "missing.png")]
    Image.new("L", (50, 50), 255).save(bad[0])
    bad[1].write_text("no picture")
    bad[2].write_bytes(good[0].read_bytes()[:200])
    shown = tmp_path / "shown.png"
    result = predict(*bad, *good, "--json", "--show", shown, "--model", trained_model)

    assert result.returncode == 1
    answers = json.loads(result.stdout)
    assert [answer["file"] for answer in answers] == [str(file) for file in [*bad, *good]]
    for answer in answers[:4]:
        assert set(answer) == {"file", "error"}
        assert "\n" not in answer["error"]
    digits = [answer["digit"] for answer in answers[4:]]
    assert np.sum(np.array(digits) == labels) >= 8
    for answer in answers[4:]:
        assert len(answer["probabilities"]) == 10
        assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-4)
        assert answer["probability"] == max(answer["probabilities"])
    assert Image.open(shown).format == "PNG"
    assert "Traceback" not in result.stderr


def test_lines_for_people(pictures: tuple[Path, list[int]], trained_model: Path) -> None:
    file = pictures[0] / "0.png"
    result = predict(file, "--model", trained_model)

    assert result.returncode == 0
    assert result.stderr == ""
    assert result.stdout.startswith(f"{file}: ")
    assert result.stdout.count("%") == 3  # the digit and two runners-up


def test_a_missing_model_names_what_makes_it(tmp_path: Path) -> None:
    result = predict("any.png", "--model", tmp_path / "no.h5")

    assert result.returncode == 1
    assert result.stderr == f"{tmp_path / 'no.h5'} is missing; dvc repro makes it\n"
