"""Runs of the pipeline with DVC, the examples of docs/develop.md, and the model card."""

import hashlib
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from experiments.study.trial import read_inputs
from stages import card
from tests.project import MODEL, ROOT, SCORES, STAGES, STAND_IN, Project, write_idx

MIRROR = Path(os.environ.get("MNIST_MIRROR", ROOT.parent / "shared/mnist"))


@pytest.mark.slow
def test_a_second_run_has_nothing_to_do(real_project: Project) -> None:
    result = json.loads(real_project.read(SCORES))
    assert 5 < result["baseline_error"] < 60  # a tiny network; guessing would give 90
    assert result["baseline_error_low"] < result["baseline_error"] < result["baseline_error_high"]
    predictions = pd.read_csv(real_project.folder / "plots/predictions.csv")
    assert len(predictions) == 1_000
    mistakes = (predictions["actual"] != predictions["predicted"]).sum()
    assert result["baseline_error"] == mistakes / 10
    text = real_project.read(str(card.CARD))
    assert "On 1,000 test images" in text
    assert "`model.hidden_units` [8]" in text
    assert "`train.epochs` 2" in text
    assert real_project.repro() == ([], [])
    assert real_project.git("status", "--porcelain") == ""


def structure(value: Any) -> Any:
    """The keys of a JSON document and the types of its values."""
    if isinstance(value, dict):
        return {key: structure(each) for key, each in value.items()}
    return [structure(value[0])] if isinstance(value, list) else type(value)


@pytest.mark.slow
def test_the_stand_ins_write_the_same_files_as_the_real_stages(
    reproduced: Project, really_reproduced: Project
) -> None:
    for path in STAND_IN.glob("*.py"):
        assert (reproduced.folder / "stages" / path.name).read_text() == path.read_text()
    ours, theirs = (
        {
            path.relative_to(project.folder).as_posix(): path
            for name in ("data", "metrics", "models", "plots", "docs")
            for path in (project.folder / name).rglob("*")
            if path.is_file()
        }
        for project in (reproduced, really_reproduced)
    )
    assert set(ours) == set(theirs)
    for name, path in ours.items():
        if name.endswith(".json"):
            our_json, their_json = (json.loads(each.read_text()) for each in (path, theirs[name]))
            assert structure(our_json) == structure(their_json)
        if name.endswith(".csv"):
            assert pd.read_csv(path).dtypes.equals(pd.read_csv(theirs[name]).dtypes)


@pytest.mark.slow
def test_a_changed_parameter_reruns_its_stages_and_its_old_value_none(project: Project) -> None:
    """test_declarations.py checks that dvc.yaml has the parameters of each stage."""
    parameters, lock = project.read("params.yaml"), project.read("dvc.lock")
    project.set({"evaluate": {"worst": 9}})
    assert project.repro() == (["evaluate"], [])
    project.set({"normalize": {"scaling": "standard"}})
    assert project.repro() == (["normalize", "train", "evaluate"], [])
    assert project.read("dvc.lock") != lock

    (project.folder / "params.yaml").write_text(parameters)
    assert project.repro() == ([], ["normalize", "train", "evaluate"])
    assert project.read("dvc.lock") == lock
    assert project.git("status", "--porcelain") == ""


@pytest.mark.skipif(not MIRROR.exists(), reason="needs MNIST in the directory MNIST_MIRROR")
@pytest.mark.long
def test_another_data_set_reruns_all_stages_and_the_old_one_none(real_project: Project) -> None:
    real_project.set({"download": {"dataset": "mnist"}, "train": {"batch_size": 500, "epochs": 1}})
    output = real_project.run("dvc", "repro", environment={"MNIST_MIRROR": str(MIRROR.resolve())})
    assert output.count("Running stage") == 5
    assert len(real_project.read("plots/predictions.csv").splitlines()) == 1 + 10_000

    real_project.git("checkout", "--quiet", "params.yaml")
    assert real_project.repro() == ([], STAGES)


def change(project: Project, example: str) -> None:
    """Applies an example of docs/develop.md: its diff, and its changes of params.yaml."""
    page = (ROOT / "docs/develop.md").read_text()
    section = page.split(f"<!-- {example} -->")[1].split("\n### ")[0]
    blocks = dict(re.findall(r"```(diff|yaml)\n(.*?)```", section, re.DOTALL))
    patch = project.folder / "change.patch"
    patch.write_text(blocks["diff"])
    project.git("apply", "--unidiff-zero", "-p1", patch.name)
    patch.unlink()
    project.set(yaml.safe_load(blocks.get("yaml", "{}")))


def config(project: Project, name: str) -> Any:
    """A configuration in the model file: model_config or training_config."""
    import h5py

    with h5py.File(project.folder / MODEL) as file:
        return json.loads(file.attrs[name])


@pytest.mark.slow
def test_examples_weights_callbacks_and_pretrained(real_project: Project) -> None:
    change(real_project, "weights")
    real_project.dvc("repro", "train")
    loss = config(real_project, "training_config")["loss"]
    assert loss["config"]["label_smoothing"] == 0.1
    real_project.git("checkout", ".")

    code = (
        "from stages.training.build_network import build_network\n"
        "build_network([8], 1, (28, 28), 10).save_weights('pretrained.weights.h5')"
    )
    real_project.run("python", "-c", code)
    for example in ("callbacks", "pretrained"):
        change(real_project, example)
    real_project.dvc("repro", "train")
    metrics = json.loads(real_project.read("metrics/train/metrics.json"))
    assert metrics["validation"]["top_2"] > metrics["validation"]["accuracy"]
    plots = json.loads(real_project.dvc("plots", "show", "--json"))["data"]
    assert "Actual class among the two" in str(plots["metrics/train/plots/custom/top_2.json"])
    declarations = ("--numprocesses=0", "-k", "not tensorflow", "tests/test_declarations.py")
    real_project.run("python", "-m", "pytest", *declarations)
    (real_project.folder / "pretrained.weights.h5").write_bytes(b"others")
    assert "pretrained.weights.h5" in real_project.dvc("status")


@pytest.mark.slow
def test_examples_metric_optimizer_parameter_and_stage(real_project: Project) -> None:
    """One run of the pipeline with all of them."""
    for example in ("metric", "optimizer", "parameter", "stage"):
        change(real_project, example)
    real_project.run("python", "-m", "experiments.check_params")
    assert "Running stage 'weights'" in real_project.dvc("repro")

    (row,) = (
        line for line in real_project.dvc("metrics", "diff", "--md").splitlines() if "top_2" in line
    )
    assert re.search(r"top_2_error +\| - +\| \d", row)
    optimizer = config(real_project, "training_config")["optimizer_config"]
    assert optimizer["class_name"] == "SGD"
    assert optimizer["config"]["clipnorm"] == 1.0
    assert optimizer["config"]["learning_rate"]["class_name"] == "ExponentialDecay"
    difference = json.loads(real_project.dvc("params", "diff", "--json"))["params.yaml"]
    assert difference["normalize.samples"]["new"] == 100
    assert (real_project.folder / "plots/weights.png").read_bytes()[:4] == b"\x89PNG"
    # The declarations in dvc.yaml are still correct.
    declarations = ("--numprocesses=0", "-k", "not tensorflow", "tests/test_declarations.py")
    real_project.run("python", "-m", "pytest", *declarations)
    # The trials of a study depend on the new stage.
    real_project.commit("Examples")
    inputs = read_inputs(real_project.folder)
    assert "weights" in inputs.stages
    assert any(line.endswith("\tstages/weights.py") for line in inputs.files)


ENTRY = """
DATASETS["corners"] = DataSet(
    400,
    tuple("abcdefghij"),
    "Its images are rectangles.",
    {{name: PinnedFile(*of) for name, of in {files}.items()}},
    ({mirror!r},),
)
"""


@pytest.mark.slow
def test_examples_layer_and_data_set(real_project: Project, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for split, images in (("train", 400), ("test", 100)):
        y = random.permutation(np.arange(images, dtype=np.uint8) % 10)
        x = random.integers(0, 50, (images, 28, 28)).astype(np.uint8)
        for image, label in zip(x, y, strict=True):
            row, column = divmod(int(label), 4)
            image[9 * row : 9 * row + 9, 7 * column : 7 * column + 7] = 255
        arrays |= {f"x_{split}": x, f"y_{split}": y}
    files = write_idx(tmp_path, arrays)
    with (real_project.folder / "stages/data/datasets.py").open("a") as code:
        code.write(ENTRY.format(files=files, mirror=str(tmp_path)))

    check = ("python", "-m", "experiments.check_params")
    real_project.set({"download": {"dataset": "square"}})
    assert real_project.run(*check, fails=True) == (
        "params.yaml: download.dataset is square; "
        "expected one of mnist, mnist-5k, fashion-mnist, corners\n"
    )
    real_project.set({"download": {"dataset": "corners"}, "train": {"batch_size": 401}})
    assert real_project.run(*check, fails=True) == (
        "params.yaml: train.batch_size is 401; expected an integer from 1 to 400\n"
    )
    real_project.set({"train": {"batch_size": 10, "epochs": 5}})
    change(real_project, "layer")
    real_project.dvc("repro")
    layers = config(real_project, "model_config")["config"]["layers"]
    assert {"Conv2D", "BatchNormalization", "Dropout"} <= {each["class_name"] for each in layers}
    rows = real_project.read("plots/predictions.csv").splitlines()[1:]
    assert len(rows) == 100
    assert {row[0] for row in rows} == set("abcdefghij")
    assert json.loads(real_project.read(SCORES))["baseline_error"] < 20


@pytest.mark.slow
def test_the_code_in_the_docs_exports_the_model(real_project: Project) -> None:
    page = (ROOT / "docs/model.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    code = code.replace("(512, 256, 128)", "(8,)")  # the network of this project
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


def test_the_model_card_has_a_row_for_each_class() -> None:
    parameters = {"download.dataset": "mnist-5k", "evaluate.confidence": "0.9", "train.seed": "7"}
    scores = {
        "baseline_error": 42.8571,
        "baseline_error_low": 15.8,
        "baseline_error_high": 75.0,
        "expected_calibration_error": 0.0123,
    }
    images = Counter(zip("00011122", "02010021", strict=True))
    text = card.markdown(parameters, scores, images, (28, 28), "0123456789")
    assert "from an image of 28×28 pixels to the probabilities of\n10 classes." in text
    assert "On 8 test images: error 42.86%, 90% interval 15.80–75.00.\n" in text
    assert "The expected calibration error is 1.23%." in text
    assert "made with `train.seed` 7." in text
    assert (
        "| 0 | 3 | 1 | 33.33% | 2 |\n| 1 | 3 | 2 | 66.67% | 0 |\n| 2 | 2 | 1 | 50.00% | 1 |" in text
    )
    # Rows and equally frequent mistakes are in the order of the classes.
    images = Counter([("b", "b"), ("a", "b"), ("a", "c")])
    text = card.markdown(parameters, scores, images, (32, 20, 3), "cba")
    assert "| b | 1 | 0 | 0.00% | – |\n| a | 2 | 2 | 100.00% | c |\n" in text
    assert "from an image of 32×20 pixels in 3 channels to the probabilities of\n3 classes." in text
    text = card.markdown(parameters, scores, Counter([("x|y", "z")]), (2, 2), ["x|y", "z"])
    assert r"| x\|y | 1 | 1 | 100.00% | z |" in text


def test_the_committed_model_card_is_that_of_the_committed_results() -> None:
    stage = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]["card"]
    locked = {each["path"]: each["md5"] for kind in ("deps", "outs") for each in stage[kind]}
    for path in (card.SCORES, card.PREDICTIONS, card.CARD):
        content = (ROOT / path).read_bytes()
        assert hashlib.md5(content, usedforsecurity=False).hexdigest() == locked[str(path)]
