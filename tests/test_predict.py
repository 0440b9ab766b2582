"""The command that reads the digit in a picture."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app import answers
from app.digits import Digit
from app.predict import main
from stages.edges.bad_input import BadInput
from tests.drawings import ARRAYS, on_paper
from tests.project import MODEL, ROOT, Project

LABELS = [str(label) for label in ARRAYS["y_test"][:10]]


@pytest.fixture
def model(trained_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # TensorFlow may have computed in this process; then it takes no other number of threads.
    monkeypatch.setattr("stages.training.repeatable.set_threads", lambda: None)
    return trained_model


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Ten pictures of a digit each, 0.png to 9.png, whose digits are LABELS."""
    folder = tmp_path_factory.mktemp("pictures")
    files = [folder / f"{place}.png" for place in range(10)]
    for file, image in zip(files, ARRAYS["x_test"][:10], strict=True):
        on_paper(image).convert("RGB").save(file)
    return files


def predict(*arguments: str | Path) -> int:
    """Calls the command's main() in this process, which spares the start of TensorFlow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["predict", *map(str, arguments)])
        return main()


def test_each_picture_gets_an_answer_or_an_error(
    pictures: list[Path], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (50, 50), 255).save(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("no picture")
    os.mkfifo(tmp_path / "pipe.png")
    bad = {
        tmp_path / "empty.png": "no ink",
        tmp_path / "text.png": "not a picture",
        tmp_path / "pipe.png": "a pipe or a device",
        tmp_path / "missing.png": "No such file",
    }
    files = [*list(bad)[:2], *pictures, *list(bad)[2:]]
    shown = tmp_path / "shown.png"
    assert predict(*files, "--json", "--show", shown, "--model", model) == 1

    assert Image.open(shown).format == "PNG"
    said = json.loads(capsys.readouterr().out)
    assert [answer["file"] for answer in said] == [str(file) for file in files]
    errors = [answer for answer in said if "error" in answer]
    for answer, (file, message) in zip(errors, bad.items(), strict=True):
        assert set(answer) == {"file", "error"}
        assert answer["file"] == str(file)
        assert message in answer["error"]
    read = [answer for answer in said if "error" not in answer]
    assert sum(a["number"] == label for a, label in zip(read, LABELS, strict=True)) >= 8
    for answer in read:
        assert set(answer) == {"file", "number", "sure", "digits"}
        (digit,) = answer["digits"]
        assert set(digit) == {"digit", "probability", "sure", "probabilities", "box"}
        assert len(digit["probabilities"]) == 10
        assert sum(digit["probabilities"]) == pytest.approx(1, abs=1e-4)

    # Without --json there is a line for each, and errors are on the standard error.
    assert predict(*files, "--model", model) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == [f"{answer['file']}: {answers.line(answer)}" for answer in read]
    assert err.splitlines() == [f"{answer['file']}: {answer['error']}" for answer in errors]


def test_a_row_of_digits_is_a_number(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row, shown = tmp_path / "row.png", tmp_path / "shown.png"
    on_paper(*ARRAYS["x_test"][:3]).save(row)
    assert predict(row, "--json", "--show", shown, "--model", model) == 0

    (answer,) = json.loads(capsys.readouterr().out)
    assert len(answer["number"]) == 3
    assert answer["number"] == "".join(str(digit["digit"]) for digit in answer["digits"])
    lefts, tops, rights, bottoms = np.array([digit["box"] for digit in answer["digits"]]).T
    assert lefts[0] > 0
    assert (lefts[1:] > rights[:-1]).all()
    assert rights[-1] < 1
    assert ((tops > 0.1) & (bottoms < 0.9)).all()
    drawn = np.asarray(Image.open(shown).convert("RGB")).astype(int)
    assert np.any(drawn[..., 2] - drawn[..., 0] > 100)  # blue
    # An earlier picture of its own is replaced.
    shown_first = shown.read_bytes()
    assert predict(row, row, "--show", shown, "--model", model) == 0
    assert shown.read_bytes() != shown_first


def test_show_writes_over_nothing_else(pictures: list[Path], tmp_path: Path) -> None:
    photo, model = tmp_path / "photo.png", tmp_path / "model.h5"
    shutil.copy(pictures[0], photo)
    model.write_text("a model")
    (tmp_path / "notes.txt").write_text("mine")
    shutil.copy(pictures[1], tmp_path / "other.png")
    (tmp_path / "link.png").symlink_to(photo)
    for shown in list(tmp_path.iterdir()):
        before = shown.read_bytes()
        with pytest.raises(BadInput, match=rf"^--show {shown} [^\n]+$"):
            predict(photo, "--model", model, "--show", shown)
        assert shown.read_bytes() == before


def test_a_missing_model_names_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no\.h5 is missing; dvc repro makes it$"):
        predict("any.png", "--model", tmp_path / "no.h5")


def test_a_name_reaches_no_terminal_raw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("\x1b[2J.png", "two\nlines.png", "\u202egnp.png"):
        (tmp_path / name).write_text("no picture")
    predict(*tmp_path.iterdir(), "--model", ROOT / "Makefile")  # no model: it is not loaded
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all(line.isprintable() and "not a picture" in line for line in lines)


def test_from_another_folder_the_model_is_the_projects(
    pictures: list[Path], trained_model: Path, tmp_path: Path
) -> None:
    """The command in a process of its own, as it is installed with its default model."""
    for room in ("app", "stages"):
        (tmp_path / room).symlink_to(ROOT / room)
    (tmp_path / MODEL).parent.mkdir()
    shutil.copy(trained_model, tmp_path / MODEL)
    command = (sys.executable, "-m", "app.predict", "0.png", "missing.png")
    here = {"PYTHONPATH": str(tmp_path)}
    said = Project(pictures[0].parent).run(*command, fails=True, environment=here)
    assert re.search(r"^0\.png: \d", said, re.MULTILINE)
    assert re.search(r"^missing\.png: No such file", said, re.MULTILINE)


def certain(digit: int, probability: float, then: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    shares = np.zeros(10, dtype=np.float32)
    shares[[digit, then]] = probability, 1 - probability
    return shares


def test_two_candidates_where_it_is_not_sure() -> None:
    digit = Digit((10, 20, 30, 60), np.zeros((28, 28), dtype=np.uint8))
    sure, unsure = certain(3, 0.9999, 5), certain(4, 0.625, 9)
    doubt = "4 (62.5%) or 9 (37.5%)"
    for shares, number, line in [
        ([sure], "3", "3, 100.0%"),
        ([unsure], "4", f"{doubt}, not sure"),
        ([sure, sure], "33", "33, 100.0% or more each"),
        ([sure, unsure, sure], "343", f"343, 62.5% or more each, not sure: digit 2 is {doubt}"),
    ]:
        answer = answers.answer([digit] * len(shares), (80, 40), shares)
        assert answer["number"] == number
        assert [each["sure"] for each in answer["digits"]] == [each is sure for each in shares]
        assert answer["sure"] == all(each is sure for each in shares)
        assert answer["digits"][0]["probability"] == pytest.approx(shares[0].max(), abs=1e-6)
        assert answer["digits"][0]["box"] == [0.25, 0.25, 0.75, 0.75]
        assert answers.line(answer) == line


def test_memory_does_not_grow_with_pictures_and_stays_below_700_mb(tmp_path: Path) -> None:
    Image.new("L", (1_500, 1_500), 235).save(tmp_path / "blank.png")
    with (tmp_path / "large.ppm").open("wb") as file:  # 100 megapixels, all black
        file.write(b"P6 10000 10000 255\n")
        file.truncate(file.tell() + 300_000_000)
    # Not getrusage: what it says of a process begins with the memory of the one that started it.
    code = (
        "import re, sys\n"
        "from pathlib import Path\n"
        "from app.predict import main\n"
        "for files in (['blank.png'] * 2, ['blank.png'] * 20, ['large.ppm']):\n"
        "    sys.argv[1:] = [*files, '--model', '.']\n"
        "    assert main() == 1\n"
        "    print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.count("no ink") == 23
    few, many, large = (int(kilobytes) * 1_024 for kilobytes in done.stdout.split())
    assert many - few < 20_000_000  # 18 pictures of two megabytes each
    assert large < 700_000_000
