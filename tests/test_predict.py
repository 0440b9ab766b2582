"""The command that reads the digit in a picture."""

import io
import json
import os
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image, ImageOps

from app import answers as saying
from app.digits import Digit
from app.predict import main
from stages.data.datasets import embedded_mnist_5k
from stages.edges.bad_input import BadInput
from stages.training import repeatable
from tests.project import ROOT, Project


class Result(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def predict(*arguments: str | Path) -> Result:
    """Calls the command's main() in this process, which spares the start of TensorFlow."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["predict", *map(str, arguments)])
        # TensorFlow has computed in this process, and takes no other number of threads any more.
        patch.setattr(repeatable, "set_threads", lambda: None)
        try:
            status = int(main())
        except BadInput as problem:
            status = 1
            print(problem, file=err)
    return Result(status, out.getvalue(), err.getvalue())


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
    if not (folder / "pipe.png").exists():
        os.mkfifo(folder / "pipe.png")
    return {
        "empty.png": "no ink",
        "text.png": "not a picture",
        "cut.jpg": "damaged",
        "bomb.png": "more than 100 megapixels",
        "missing.png": "No such file",
        "pipe.png": "a pipe or a device",
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
    read = [answer["number"] for answer in answers[len(bad) :]]
    assert np.sum(np.array(read) == np.array(labels).astype(str)) >= 8
    for answer in answers[len(bad) :]:
        assert set(answer) == {"file", "number", "sure", "digits"}
        for digit in answer["digits"]:
            assert set(digit) == {"digit", "probability", "sure", "probabilities", "box"}
            assert len(digit["probabilities"]) == 10
            assert sum(digit["probabilities"]) == pytest.approx(1, abs=1e-4)
            assert digit["probability"] == max(digit["probabilities"])
            assert digit["sure"] == (digit["probability"] >= saying.SURE)
        assert answer["sure"] == all(digit["sure"] for digit in answer["digits"])
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


def test_from_another_folder_the_model_is_the_projects(
    really_reproduced: Project, pictures: tuple[Path, list[int]]
) -> None:
    folder, _ = pictures
    here = {"PYTHONPATH": str(really_reproduced.folder)}
    said = Project(folder).run("python", "-m", "app.predict", "0.png", environment=here)
    assert re.match(r"0\.png: \d", said)


def test_a_name_reaches_no_terminal_raw(tmp_path: Path) -> None:
    for name in ("\x1b[2J.png", "two\nlines.png", "\u202egnp.png"):
        (tmp_path / name).write_text("no picture")
    result = predict(*tmp_path.iterdir(), "--model", ROOT / "Makefile")  # it is never asked
    lines = result.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.isprintable() and "not a picture" in line for line in lines)


def test_a_row_of_digits_is_a_number(
    pictures: tuple[Path, list[int]], trained_model: Path, tmp_path: Path
) -> None:
    row = Image.new("L", (900, 240), 235)
    for place in range(3):
        row.paste(Image.open(pictures[0] / f"{place}.png").convert("L"), (300 * place, 0))
    row.save(tmp_path / "row.png")
    shown = tmp_path / "shown.png"
    arguments: list[str | Path] = [
        tmp_path / "row.png",
        "--json",
        "--show",
        shown,
        "--model",
        trained_model,
    ]
    result = predict(*arguments)

    (answer,) = json.loads(result.stdout)
    assert len(answer["number"]) == 3
    assert answer["number"] == "".join(str(digit["digit"]) for digit in answer["digits"])
    boxes = np.array([digit["box"] for digit in answer["digits"]])
    assert (boxes[:, 0] // (1 / 3) == [0, 1, 2]).all()  # each in its third
    assert (boxes[:, 2] // (1 / 3) == [0, 1, 2]).all()
    assert ((boxes > 0) & (boxes < 1)).all()
    drawn = np.asarray(Image.open(shown).convert("RGB")).astype(int)
    assert np.any(drawn[..., 2] - drawn[..., 0] > 100)  # blue
    # An earlier picture of its own is replaced.
    assert predict(*arguments).returncode == 0


def test_show_writes_over_nothing_else(pictures: tuple[Path, list[int]], tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes((pictures[0] / "0.png").read_bytes())
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "link.png").symlink_to(photo)
    (tmp_path / "model.h5").write_text("a model")
    for name in ("photo.png", "notes.txt", "link.png", "model.h5"):
        before = (tmp_path / name).read_bytes()
        model: list[str | Path] = ["--model", tmp_path / "model.h5"]
        result = predict(photo, pictures[0] / "1.png", *model, "--show", tmp_path / name)
        assert result.returncode == 1
        assert result.stderr.count("\n") == 1
        assert f"--show {tmp_path / name} " in result.stderr
        assert (tmp_path / name).read_bytes() == before


def certain(digit: int, probability: float, then: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    shares = np.zeros(10, dtype=np.float32)
    shares[[digit, then]] = probability, 1 - probability
    return shares


def test_two_candidates_where_it_is_not_sure() -> None:
    digit = Digit((10, 20, 30, 60), np.zeros((28, 28), dtype=np.uint8))
    sure, unsure = certain(3, 0.9999, 5), certain(4, 0.625, 9)
    one = saying.answer([digit], (80, 40), [unsure])
    assert (one["number"], one["sure"]) == ("4", False)
    assert one["digits"][0]["box"] == [0.25, 0.25, 0.75, 0.75]
    assert saying.line(one) == "4 (62.5%) or 9 (37.5%), not sure"
    assert saying.line(saying.answer([digit], (80, 40), [sure])) == "3, 100.0%"
    row = saying.answer([digit] * 3, (80, 40), [sure, unsure, sure])
    assert (row["number"], row["sure"]) == ("343", False)
    assert (
        saying.line(row) == "343, 62.5% or more each, not sure: digit 2 is 4 (62.5%) or 9 (37.5%)"
    )
    assert (
        saying.line(saying.answer([digit] * 2, (80, 40), [sure] * 2)) == "33, 100.0% or more each"
    )


@pytest.mark.slow
def test_memory_does_not_grow_with_pictures_and_stays_below_700_mb(tmp_path: Path) -> None:
    Image.new("RGB", (10_000, 10_000), "white").save(tmp_path / "large.png")
    Image.new("L", (1_500, 1_500), 235).save(tmp_path / "blank.png")
    few, many = (peak(*[tmp_path / "blank.png"] * count) for count in (2, 20))
    assert many - few < 20_000_000  # 18 pictures of two megabytes each
    assert peak(tmp_path / "large.png") < 700_000_000


def peak(*files: Path) -> int:
    """The most memory, in bytes, that the command takes for pictures without ink."""
    # Not getrusage: what it says of a process begins with the memory of the one that started it.
    code = (
        "from app.predict import main; main()\n"
        "status = dict(line.split(':') for line in open('/proc/self/status'))\n"
        "print(int(status['VmHWM'].split()[0]) * 1024)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, files), "--model", str(ROOT / "params.yaml")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=280,
    )
    return int(result.stdout.splitlines()[-1])
