"""Runs of the pipeline on data sets of other sizes, channels and classes than MNIST's."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image

from stages.card import CARD
from tests.project import (
    MODEL,
    SCORES,
    Project,
    copy_of_project,
    write_idx,
)
from tests.test_pipeline import change

UInt8 = npt.NDArray[np.uint8]
CHECK_PARAMS = ("python", "-m", "experiments.check_params")
STAGES = ["download", "normalize", "train", "evaluate", "card"]


def labelled_images(
    images: int, image_shape: tuple[int, ...], classes: int, seed: int
) -> tuple[UInt8, UInt8]:
    """Noisy images with a bright square at a place of its class; labels start at 1."""
    random = np.random.default_rng(seed)
    y = random.permutation(np.arange(images, dtype=np.uint8) % classes)
    x = random.integers(0, 60, (images, *image_shape)).astype(np.uint8)
    places = image_shape[1] // 4
    for image, label in zip(x, y, strict=True):
        row, column = divmod(int(label), places)
        image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 255
    return x, y + np.uint8(1)


def splits(images: int, image_shape: tuple[int, ...], classes: int) -> dict[str, UInt8]:
    x_train, y_train = labelled_images(images, image_shape, classes, seed=0)
    x_test, y_test = labelled_images(images // 4, image_shape, classes, seed=1)
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def save_letters(project: Project, arrays: dict[str, UInt8]) -> None:
    with (project.folder / "letters.npz").open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def check_outputs(project: Project, arrays: dict[str, UInt8], classes: str, size: str) -> None:
    """Checks the outputs of a run against the arrays of the data set."""
    for split in ("train", "test"):
        y = np.load(project.folder / f"data/normalized/y_{split}.npy")
        np.testing.assert_array_equal(y, arrays[f"y_{split}"] - 1)
        x = np.load(project.folder / f"data/normalized/x_{split}.npy")
        np.testing.assert_allclose(x * np.float32(255), arrays[f"x_{split}"], atol=1e-4)
    predictions = pd.read_csv(project.folder / "plots/predictions.csv")
    actual = [classes[label - 1] for label in arrays["y_test"]]
    assert predictions["actual"].tolist() == actual
    assert set(predictions["predicted"]) <= set(classes)
    mistakes = int((predictions["predicted"] != predictions["actual"]).sum())
    error = json.loads(project.read(SCORES))["baseline_error"]
    assert error == round(100 * mistakes / len(actual), 4)
    assert error < 20  # guessing would give more than 90
    card = project.read(str(CARD))
    assert f"from an image of {size} to the probabilities of\n{len(classes)} classes." in card
    rows = [line.split(" | ")[0].removeprefix("| ") for line in card.splitlines() if "%" in line]
    assert [name for name in rows if len(name) == 1] == list(classes)
    for name in ("samples", "mistakes", "reliability"):
        Image.open(project.folder / f"plots/{name}.png").verify()


@pytest.mark.slow
def test_the_example_of_a_data_set_in_rgb_with_26_classes(tmp_path: Path) -> None:
    project = copy_of_project(tmp_path / "project")
    arrays = splits(2_600, (32, 32, 3), 26)
    save_letters(project, arrays)
    change(project, "data set")
    project.set({"train": {"batch_size": 2_601, "epochs": 5}, "model": {"hidden_units": [32]}})
    assert project.run(*CHECK_PARAMS, fails=True) == (
        "params.yaml: train.batch_size is 2601; expected an integer from 1 to 2600\n"
    )
    project.set(
        {"train": {"batch_size": 20}, "augmentation": {"shift": 1, "elastic_amplitude": 0.5}}
    )
    output = project.dvc("repro")
    assert [stage for stage in STAGES if f"Running stage '{stage}'" in output] == STAGES
    check_outputs(project, arrays, "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "32×32 pixels in 3 channels")
    samples = np.asarray(Image.open(project.folder / "plots/samples.png").convert("RGB"))
    assert (samples[..., 0] != samples[..., 1]).any()  # colours
    # The declarations in dvc.yaml are still correct.
    declarations = ("--numprocesses=0", "-k", "paths_in_the_code", "tests/test_declarations.py")
    project.run("python", "-m", "pytest", *declarations)
    # The app reads MNIST's digits only.
    assert project.run("python", "-m", "app.predict", "docs/three.png", fails=True) == (
        f"{MODEL} has the inputs input_layer (None, 32, 32, 3); "
        "expected one of shape (None, 28, 28)\n"
    )
    # The data set depends on its file.
    arrays["y_train"][0] = 27
    save_letters(project, arrays)
    output = project.dvc("repro", fails=True)
    line = 'DATASETS["letters"] gives labels from 1 to 27; expected 1 to 26\n'
    assert f"\nstages/data/datasets.py: {line}" in output
    assert "Traceback" not in output


ENTRY = """
DATASETS["gray"] = DataSet(
    800,
    tuple("abcdefgh"),
    "Its images are rectangles.",
    {{name: PinnedFile(*of) for name, of in {files}.items()}},
    ({mirror!r},),
    first_label=1,
)
"""


@pytest.mark.long
def test_idx_files_of_gray_images_that_are_not_square_with_labels_from_1(tmp_path: Path) -> None:
    project = copy_of_project(tmp_path / "project")
    arrays = splits(800, (20, 24), 8)
    files = write_idx(tmp_path, arrays)
    with (project.folder / "stages/data/datasets.py").open("a") as code:
        code.write(ENTRY.format(files=files, mirror=str(tmp_path)))
    project.set(
        {
            "download": {"dataset": "gray"},
            "train": {"batch_size": 20, "epochs": 5},
            "augmentation": {"shift": 1, "rotation": 5},
        }
    )
    change(project, "layer")
    project.run(*CHECK_PARAMS)
    project.dvc("repro")
    check_outputs(project, arrays, "abcdefgh", "20×24 pixels")


def test_an_entry_without_files_and_function_is_refused(tmp_path: Path) -> None:
    project = copy_of_project(tmp_path / "project")
    with (project.folder / "stages/data/datasets.py").open("a") as code:
        code.write('DATASETS["mine"] = DataSet(60_000, DIGITS, "My own digits.")\n')
    project.set({"download": {"dataset": "mine"}})
    for command in (CHECK_PARAMS, ("python", "-m", "stages.download")):
        assert project.run(*command, fails=True) == (
            'stages/data/datasets.py: DATASETS["mine"] has neither files nor load; '
            "expected one of them\n"
        )
    assert not (project.folder / "data").exists()
