"""The changes that docs/develop.md shows, made as they stand there, in a copy of the project."""

import gzip
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from experiments.recipes import ingredients, locked_recipe, recipe
from tests.project import MODEL, ROOT, SCORES, Project

PAGE = (ROOT / "docs/develop.md").read_text()


def change(project: Project, example: str) -> None:
    """Applies the blocks below a mark of the page: a diff, and what to change in params.yaml."""
    section = PAGE.split(f"<!-- {example} -->")[1].split("\n### ")[0]
    blocks = dict(re.findall(r"```(diff|yaml)\n(.*?)```", section, re.DOTALL))
    patch = project.folder / "change.patch"
    patch.write_text(blocks["diff"])
    project.git("apply", "--unidiff-zero", "-p1", patch.name)
    patch.unlink()
    project.set(yaml.safe_load(blocks.get("yaml", "{}")))


def config(project: Project, name: str) -> Any:
    """What the model's file says of the model or of its training."""
    with h5py.File(project.folder / MODEL) as file:
        return json.loads(file.attrs[name])


@pytest.mark.slow
def test_a_metric_the_optimizer_a_parameter_and_a_stage(
    real_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They apply on top of each other, and one run of the pipeline shows all of them."""
    for example in ("metric", "optimizer", "parameter", "stage"):
        change(real_project, example)
    real_project.run("python", "-m", "tools.parameters")
    assert "Running stage 'weights'" in real_project.dvc("repro")

    (row,) = (
        line for line in real_project.dvc("metrics", "diff", "--md").splitlines() if "top_2" in line
    )
    assert re.search(r"outside_top_2 +\| - +\| \d", row)
    optimizer = config(real_project, "training_config")["optimizer_config"]
    assert optimizer["class_name"] == "SGD"
    assert optimizer["config"]["clipnorm"] == 1.0
    assert optimizer["config"]["learning_rate"]["class_name"] == "ExponentialDecay"
    difference = json.loads(real_project.dvc("params", "diff", "--json"))["params.yaml"]
    assert difference["normalize.samples"]["new"] == 100
    assert (real_project.folder / "plots/weights.png").read_bytes()[:4] == b"\x89PNG"
    # dvc.yaml still says what the code does, and a study knows the new stage, too.
    real_project.run("python", "-m", "pytest", "--numprocesses=0", "tests/test_declarations.py")
    monkeypatch.chdir(real_project.folder)
    assert recipe({}, ingredients()) == locked_recipe(real_project.read("dvc.lock"))


@pytest.mark.slow
def test_a_layer(real_project: Project) -> None:
    change(real_project, "layer")
    assert real_project.repro() == (["train", "evaluate"], [])
    layers = config(real_project, "model_config")["config"]["layers"]
    assert {"Conv2D", "BatchNormalization", "Dropout"} <= {each["class_name"] for each in layers}
    assert json.loads(real_project.read(SCORES))["baseline_error"] < 60


ENTRY = """
DATASETS["corners"] = DataSet(
    400,
    tuple("abcdefghij"),
    {{name: PinnedFile(*of) for name, of in {files}.items()}},
    ({mirror!r},),
)
"""


@pytest.mark.slow
def test_a_data_set(real_project: Project, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    files = {}
    for split, images in (("train", 400), ("test", 100)):
        y = random.permutation(np.arange(images, dtype=np.uint8) % 10)
        x = random.integers(0, 50, (images, 28, 28)).astype(np.uint8)
        for image, label in zip(x, y, strict=True):
            row, column = divmod(int(label), 4)
            image[9 * row : 9 * row + 9, 7 * column : 7 * column + 7] = 255
        for name, array in ((f"x_{split}", x), (f"y_{split}", y)):
            shape = b"".join(size.to_bytes(4, "big") for size in array.shape)
            content = bytes([0, 0, 8, array.ndim]) + shape + array.tobytes()
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
            files[name] = (name, len(content), hashlib.sha256(content).hexdigest())
    with (real_project.folder / "stages/data/datasets.py").open("a") as code:
        code.write(ENTRY.format(files=files, mirror=str(tmp_path)))

    real_project.set({"download": {"dataset": "square"}})
    said = real_project.run("python", "-m", "tools.parameters", fails=True)
    assert said == (
        "params.yaml: download.dataset is square; "
        "it must be one of mnist, mnist-5k, fashion-mnist, corners\n"
    )
    real_project.set({"download": {"dataset": "corners"}, "train": {"batch_size": 401}})
    assert real_project.run("python", "-m", "tools.parameters", fails=True) == (
        "params.yaml: train.batch_size is 401; it must be a whole number from 1 to 400\n"
    )
    real_project.set({"train": {"batch_size": 10, "epochs": 5}})
    real_project.dvc("repro")
    rows = real_project.read("plots/predictions.csv").splitlines()[1:]
    assert len(rows) == 100
    assert {row[0] for row in rows} == set("abcdefghij")
    assert json.loads(real_project.read("metrics/evaluate.json"))["baseline_error"] < 20


@pytest.mark.slow
def test_the_model_elsewhere(real_project: Project) -> None:
    passage = (ROOT / "docs/reading-pictures.md").read_text().partition("## The model elsewhere")[2]
    code = "\n".join(re.findall(r"```python\n(.*?)```", passage, re.DOTALL))
    code = code.replace("(512, 256, 128)", "(8,)")  # of the project at hand
    code += """
x = np.load("data/normalized/x_test.npy")
expected = network.predict(x, verbose=0)
np.testing.assert_array_equal(again.predict(x, verbose=0), expected)
reader = tf.lite.Interpreter(model_content=content)
reader.allocate_tensors()
for image, row in zip(x[:20], expected[:20], strict=True):
    reader.set_tensor(reader.get_input_details()[0]["index"], image[None])
    reader.invoke()
    (given,) = reader.get_tensor(reader.get_output_details()[0]["index"])
    np.testing.assert_allclose(given, row, atol=1e-5)
"""
    assert re.search(r"^\d$", real_project.run("python", "-c", code), re.MULTILINE)
