"""The command that predicts the digits in pictures."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.array_types import Float32, UInt8
from app.predict import main
from app.prediction_format import picture_prediction, text_lines
from app.recognition import MAX_ENTROPY, Move, digit_probabilities, entropy, moved
from app.segmentation import Digit
from benchmarks.pictures_without_digits import bricks, checkerboard, grass, noise, text_page
from stages.common.errors import UserError
from stages.data.scaling import Scaling
from tests.drawings import ARRAYS, draw_row
from tests.project import MODEL, ROOT, Project

LABELS = [str(label) for label in ARRAYS["y_test"][:10]]


@pytest.fixture
def model(trained_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # TensorFlow cannot change its number of threads if this process has used it before.
    monkeypatch.setattr("stages.training.threads.set_threads", lambda: None)
    return trained_model


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Ten pictures of one digit each, 0.png to 9.png. The digits are LABELS."""
    folder = tmp_path_factory.mktemp("pictures")
    files = [folder / f"{index}.png" for index in range(10)]
    for file, image in zip(files, ARRAYS["x_test"][:10], strict=True):
        draw_row(image).convert("RGB").save(file)
    return files


def predict(*arguments: str | Path) -> None:
    """Calls main() in this process: starting TensorFlow for each test would take seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["predict", *map(str, arguments)])
        main()


def predict_with_errors(*arguments: str | Path) -> None:
    """The same for pictures of which at least one cannot be read."""
    with pytest.raises(SystemExit) as end:
        predict(*arguments)
    assert end.value.code == 1


def test_each_picture_gets_a_prediction_or_an_error(
    pictures: list[Path], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (50, 50), 255).save(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("no picture")
    os.mkfifo(tmp_path / "pipe.png")
    messages = {
        tmp_path / "empty.png": "no digit stands out",
        tmp_path / "text.png": "not a picture",
        tmp_path / "pipe.png": "a pipe or a device",
        tmp_path / "missing.png": "No such file",
    }
    unreadable = list(messages)
    files = [*unreadable[:2], *pictures, *unreadable[2:]]
    seen = tmp_path / "seen.png"
    predict_with_errors(*files, "--json", "--show", seen, "--model", model)

    assert Image.open(seen).format == "PNG"
    documents = json.loads(capsys.readouterr().out)
    assert [document["file"] for document in documents] == [str(file) for file in files]
    errors = [document for document in documents if "error" in document]
    for error, (file, message) in zip(errors, messages.items(), strict=True):
        assert set(error) == {"file", "error"}
        assert error["file"] == str(file)
        assert message in error["error"]
    predictions = [document for document in documents if "error" not in document]
    numbers = [prediction["number"] for prediction in predictions]
    assert np.count_nonzero(np.array(numbers) == LABELS) >= 8
    for prediction in predictions:
        assert set(prediction) == {"file", "number", "sure", "rows"}
        (row,) = prediction["rows"]
        assert set(row) == {"number", "sure", "text", "digits"}
        (digit,) = row["digits"]
        assert set(digit) == {"digit", "probability", "sure", "probabilities", "box"}
        assert len(digit["probabilities"]) == 10
        assert sum(digit["probabilities"]) == pytest.approx(1, abs=1e-4)

    # Without --json each prediction is a line on stdout, and each error a line on stderr.
    predict_with_errors(*files, "--model", model)
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"{each['file']}: {each['rows'][0]['text']}" for each in predictions
    ]
    assert err.splitlines() == [f"{each['file']}: {each['error']}" for each in errors]


def test_a_row_of_digits_is_predicted_as_a_number(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row, seen = tmp_path / "row.png", tmp_path / "seen.png"
    draw_row(*ARRAYS["x_test"][:3]).save(row)
    predict(row, "--json", "--show", seen, "--model", model)

    (prediction,) = json.loads(capsys.readouterr().out)
    (prediction_of_row,) = prediction["rows"]
    digits = prediction_of_row["digits"]
    assert len(digits) == 3
    assert prediction["number"] == "".join(str(digit["digit"]) for digit in digits)
    left, top, right, bottom = np.array([digit["box"] for digit in digits]).T
    assert left[0] > 0
    assert (left[1:] > right[:-1]).all()
    assert right[-1] < 1
    assert ((top > 0.1) & (bottom < 0.9)).all()
    red, _, blue = np.asarray(Image.open(seen).convert("RGB")).astype(int).T
    assert np.any(blue - red > 100)  # the boxes are blue
    # An earlier picture of --show is replaced.
    before = seen.read_bytes()
    predict(row, row, "--show", seen, "--model", model)
    assert seen.read_bytes() != before


def test_rows_are_predicted_one_by_one(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = ARRAYS["x_test"][:6]
    rows = Image.new("L", (620, 400), 240)
    for row in range(2):
        rows.paste(draw_row(*images[3 * row : 3 * (row + 1)]), (0, 200 * row))
    path, seen = tmp_path / "rows.png", tmp_path / "seen.png"
    rows.save(path)
    predict(path, "--json", "--show", seen, "--model", model)
    (prediction,) = json.loads(capsys.readouterr().out)
    numbers = [row["number"] for row in prediction["rows"]]
    assert [len(number) for number in numbers] == [3, 3]
    assert prediction["number"] == " ".join(numbers)
    assert np.count_nonzero(np.array(list("".join(numbers))) == LABELS[:6]) >= 5
    assert prediction["sure"] == all(row["sure"] for row in prediction["rows"])

    predict(path, "--model", model)
    texts = [row["text"] for row in prediction["rows"]]
    lines = [f"{path}, row 1: {texts[0]}", f"{path}, row 2: {texts[1]}"]
    assert capsys.readouterr().out.splitlines() == lines


def test_show_replaces_no_other_file(pictures: list[Path], tmp_path: Path) -> None:
    photo, model = tmp_path / "photo.png", tmp_path / "model.h5"
    shutil.copy(pictures[0], photo)
    model.write_text("a model")
    (tmp_path / "notes.txt").write_text("notes")
    shutil.copy(pictures[1], tmp_path / "other.png")
    (tmp_path / "link.png").symlink_to(photo)
    for path in list(tmp_path.iterdir()):
        before = path.read_bytes()
        with pytest.raises(UserError, match=rf"^--show {path} [^\n]+$"):
            predict(photo, "--model", model, "--show", path)
        assert path.read_bytes() == before


def test_a_missing_model_is_reported_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no\.h5 is missing\. Run: make repro$"):
        predict("any.png", "--model", tmp_path / "no.h5")


def test_control_characters_in_file_names_are_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("\x1b[2J.png", "two\nlines.png", "\u202egnp.png"):
        (tmp_path / name).write_text("no picture")
    # Any existing file is enough as a model: without a readable picture it is not loaded.
    predict_with_errors(*tmp_path.iterdir(), "--model", ROOT / "Makefile")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all(line.isprintable() and "not a picture" in line for line in lines)


def test_the_default_model_is_found_from_another_directory(
    pictures: list[Path], trained_model: Path, tmp_path: Path
) -> None:
    for package in ("app", "stages"):
        (tmp_path / package).symlink_to(ROOT / package)
    (tmp_path / MODEL).parent.mkdir()
    shutil.copy(trained_model, tmp_path / MODEL)
    command = (sys.executable, "-m", "app.predict", "0.png", "missing.png")
    environment = {"PYTHONPATH": str(tmp_path)}
    output = Project(pictures[0].parent).run(*command, fails=True, environment=environment)
    assert re.search(r"^0\.png: \d", output, re.MULTILINE)
    assert re.search(r"^missing\.png: No such file", output, re.MULTILINE)


def probabilities_of(first: int, probability: float, second: int) -> Float32:
    """Probabilities of 0 to 9, all but two of which are 0."""
    probabilities = np.zeros(10, dtype=np.float32)
    probabilities[[first, second]] = probability, 1 - probability
    return probabilities


DIGIT = Digit((10, 20, 30, 60), np.zeros((28, 28), dtype=np.uint8))
SURE, UNSURE = probabilities_of(3, 0.9999, 5), probabilities_of(4, 0.625, 9)
CANDIDATES = "4 (62.5%) or 9 (37.5%)"


@pytest.mark.parametrize(
    ("probabilities", "number", "text"),
    [
        ([SURE], "3", "3, 100.0%"),
        ([UNSURE], "4", f"{CANDIDATES}, not sure"),
        ([SURE, SURE], "33", "33, 100.0% or more each"),
        (
            [SURE, UNSURE, SURE],
            "343",
            f"343, 62.5% or more each, not sure: digit 2 is {CANDIDATES}",
        ),
        # Most marks of a text or a texture are unsure. Then none of the others is a sure digit.
        ([UNSURE, SURE], "43", "43, 62.5% or more each, not sure of any digit"),
    ],
)
def test_an_uncertain_digit_is_shown_with_two_candidates(
    probabilities: list[Float32], number: str, text: str
) -> None:
    rows = [[DIGIT] * len(probabilities)]
    prediction = picture_prediction(rows, (80, 40), np.array(probabilities))
    assert prediction["number"] == number
    (row,) = prediction["rows"]
    is_sure = [each is SURE for each in probabilities]
    none_is_sure = sum(is_sure) <= len(is_sure) / 2
    assert [digit["sure"] for digit in row["digits"]] == [
        each and not none_is_sure for each in is_sure
    ]
    assert prediction["sure"] == row["sure"] == all(is_sure)
    assert row["digits"][0]["probability"] == pytest.approx(probabilities[0].max(), abs=1e-6)
    assert row["digits"][0]["box"] == [0.25, 0.25, 0.75, 0.75]
    assert text_lines("a.png", prediction) == [f"a.png: {text}"]


def test_a_digit_is_sure_up_to_the_maximum_entropy() -> None:
    entropies = []
    for probability, sure in [(0.75, True), (0.73, False)]:
        probabilities = probabilities_of(4, probability, 9)[None]
        entropies.append(float(entropy(probabilities)[0]))
        assert picture_prediction([[DIGIT]], (80, 40), probabilities)["sure"] == sure
    assert entropies[0] < MAX_ENTROPY < entropies[1]
    assert entropy(np.full((1, 10), 0.1, np.float32)) == pytest.approx(np.log(10))
    assert entropy(np.eye(10, dtype=np.float32)) == pytest.approx(0)


def test_probabilities_are_averaged_over_moved_copies() -> None:
    """Of a network that sees a 1 if one pixel is bright, and a 0 otherwise."""
    image = np.zeros((1, 28, 28), dtype=np.uint8)
    image[0, 6, 6] = 255
    assert moved(image, Move(rows=2, columns=-3))[0, 8, 3] == 255
    ellipse = np.hypot(*np.ogrid[-13.5:14.5, -6.75:7.25:28j]) < 5
    turned = moved(ellipse[None].astype(np.uint8) * 255, Move(rotation=90))[0] > 127
    assert (turned == np.rot90(ellipse)).mean() > 0.99
    assert (moved(ellipse[None].astype(np.uint8), Move(scale=0.5))).sum() == pytest.approx(
        ellipse.sum() / 4, rel=0.2
    )

    def predict(images: Float32) -> Float32:
        is_bright = images[:, 6, 6] > 0.9
        return np.stack([~is_bright, is_bright], axis=1).astype(np.float32)

    # All moves take the bright pixel to another place.
    assert digit_probabilities(image, predict, Scaling(0, 255)).tolist() == pytest.approx(
        np.array([[8 / 9, 1 / 9]])
    )


@pytest.mark.parametrize(
    "draw",
    [
        *(
            noise,
            checkerboard,
            text_page,
            grass,
        ),
        bricks,
    ],
)
def test_a_picture_without_digits_has_no_sure_digit(
    draw: Callable[[np.random.Generator], UInt8],
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = [tmp_path / f"{index}.png" for index in range(4)]
    for index, file in enumerate(files):
        Image.fromarray(draw(np.random.default_rng([300, index]))).save(file)
    with contextlib.suppress(SystemExit):  # if no digit is found
        predict(*files, "--json", "--model", model)
    documents = json.loads(capsys.readouterr().out)
    assert len(documents) == 4
    for document in documents:
        rows = document.get("rows", [])
        assert not any(digit["sure"] for row in rows for digit in row["digits"])


MEASURE_MEMORY = r"""
import re, sys
from pathlib import Path
from app.predict import main

for files in (["blank.png"] * 2, ["blank.png"] * 20, ["large.ppm"]):
    sys.argv[1:] = [*files, "--model", "."]
    try:
        main()
    except SystemExit as end:
        assert end.code == 1
    print(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def test_memory_does_not_grow_with_pictures_and_stays_below_700_mb(tmp_path: Path) -> None:
    Image.new("L", (1_500, 1_500), 235).save(tmp_path / "blank.png")
    with (tmp_path / "large.ppm").open("wb") as file:  # 100 megapixels, all black
        file.write(b"P6 10000 10000 255\n")
        file.truncate(file.tell() + 300_000_000)
    # A process of its own. VmHWM is its peak memory; getrusage() would count its parent's, too.
    done = subprocess.run(
        [sys.executable, "-c", MEASURE_MEMORY],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.count("no digit stands out") == 23
    few, many, large = (int(kilobytes) * 1_024 for kilobytes in done.stdout.split())
    assert many - few < 20_000_000  # 18 pictures of 2 MB each
    assert large < 700_000_000
