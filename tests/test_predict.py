"""The command that reads the digit in a picture, as a process of its own."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from stages.data.datasets import embedded_mnist_5k
from tests.project import ROOT


def predict(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.predict", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
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


def spoilt(folder: Path) -> dict[str, str]:
    """Files in which no digit can be read: their names, and what is to be said of each."""
    Image.new("L", (50, 50), 255).save(folder / "empty.png")
    (folder / "text.png").write_text("no picture")
    whole = io.BytesIO()
    Image.effect_noise((200, 200), 50).save(whole, "JPEG")
    (folder / "cut.jpg").write_bytes(whole.getvalue()[:3_000])
    Image.new("1", (10_001, 10_000)).save(folder / "bomb.png")
    return {
        "empty.png": "no ink",
        "text.png": "not a picture",
        "cut.jpg": "damaged",
        "bomb.png": "more than 100 megapixels",
        "missing.png": "No such file",
    }


def test_json_answers_every_picture_and_nothing_else(
    pictures: tuple[Path, list[int]], trained_model: Path, tmp_path: Path
) -> None:
    folder, labels = pictures
    good = sorted(folder.glob("*.png"))
    bad = spoilt(tmp_path)
    files = [*(tmp_path / name for name in bad), *good]
    shown = tmp_path / "shown.png"
    result = predict(*files, "--json", "--show", shown, "--model", trained_model)

    assert result.returncode == 1
    answers = json.loads(result.stdout)
    assert [answer["file"] for answer in answers] == [str(file) for file in files]
    for answer, message in zip(answers[: len(bad)], bad.values(), strict=True):
        assert set(answer) == {"file", "error"}
        assert message in answer["error"]
        assert "\n" not in answer["error"]
    digits = [answer["digit"] for answer in answers[len(bad) :]]
    assert np.sum(np.array(digits) == labels) >= 8
    for answer in answers[len(bad) :]:
        assert set(answer) == {"file", "digit", "probability", "probabilities"}
        assert len(answer["probabilities"]) == 10
        assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-4)
        assert answer["probability"] == max(answer["probabilities"])
    assert Image.open(shown).format == "PNG"
    assert "Traceback" not in result.stderr


def test_a_line_for_each_picture_of_whatever_kind(
    pictures: tuple[Path, list[int]], trained_model: Path, tmp_path: Path
) -> None:
    grey = Image.open(pictures[0] / "0.png").convert("L")
    sideways = Image.Exif()
    sideways[0x0112] = 6  # turn it right to see it upright
    nothing = Image.new("RGBA", grey.size)
    nothing.putalpha(ImageOps.invert(grey).point(lambda level: 0 if level < 30 else level))
    ImageOps.invert(grey).save(tmp_path / "chalk.png")
    grey.rotate(90, expand=True).save(tmp_path / "phone.jpg", exif=sideways)
    nothing.save(tmp_path / "transparent.webp")
    grey.convert("1").save(tmp_path / "fax.tif")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 200).save(tmp_path / "deep.png")
    kinds = [
        tmp_path / name
        for name in ("chalk.png", "phone.jpg", "transparent.webp", "fax.tif", "deep.png")
    ]
    bad = spoilt(tmp_path)
    spoilt_files = [tmp_path / name for name in bad]
    result = predict(
        *spoilt_files[:3],
        *kinds,
        *spoilt_files[3:],
        pictures[0] / "0.png",
        "--model",
        trained_model,
    )

    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        *map(str, kinds),
        str(pictures[0] / "0.png"),
    ]
    assert {line.split(": ")[1][0] for line in lines} == {str(pictures[1][0])}
    assert all(1 <= line.count("%") <= 3 for line in lines)  # the digit and what comes close
    problems = result.stderr.splitlines()
    for problem, file, message in zip(problems, spoilt_files, bad.values(), strict=True):
        assert problem.startswith(f"{file}: ")
        assert message in problem


def test_a_missing_model_names_what_makes_it(tmp_path: Path) -> None:
    result = predict("any.png", "--model", tmp_path / "no.h5")

    assert result.returncode == 1
    assert result.stderr == f"{tmp_path / 'no.h5'} is missing; dvc repro makes it\n"


def test_a_name_reaches_no_terminal_raw(tmp_path: Path) -> None:
    for name in ("\x1b[2J.png", "two\nlines.png", "\u202egnp.png"):
        (tmp_path / name).write_text("no picture")
    result = predict(*tmp_path.iterdir(), "--model", ROOT / "Makefile")  # it is never asked
    lines = result.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.isprintable() and "not a picture" in line for line in lines)
