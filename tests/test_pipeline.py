"""What a person who knows DVC does with the pipeline, by the real `dvc`."""

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.project import ROOT, STAGES, Project

pytestmark = pytest.mark.slow
MIRROR = Path(os.environ.get("MNIST_MIRROR", ROOT.parent / "shared/mnist"))

# A value other than the tiny project's for each parameter, and the stages that it concerns.
CHANGES: dict[str, tuple[Any, list[str]]] = {
    "normalize.scaling": ("standard", STAGES[1:]),
    "normalize.validation": (500, STAGES[1:]),
    "model.hidden_units": ([16, 8], STAGES[2:]),
    "train.epochs": (1, STAGES[2:]),
    "train.batch_size": (500, STAGES[2:]),
    "train.learning_rate": (0.01, STAGES[2:]),
    "train.schedule": ("cosine", STAGES[2:]),
    "train.seed": (7, STAGES[2:]),
    "warp.rotation": (10, STAGES[2:]),
    "evaluate.confidence": (0.9, STAGES[3:]),
    "evaluate.worst": (9, STAGES[3:]),
}


def test_a_clean_copy_runs_to_its_metrics_and_then_has_nothing_to_do(project: Project) -> None:
    result = json.loads(project.read("metrics/evaluate.json"))

    assert 5 < result["baseline_error"] < 60  # a tiny network, but no guesswork
    assert result["baseline_error_low"] < result["baseline_error"] < result["baseline_error_high"]
    predictions = pd.read_csv(project.folder / "plots/predictions.csv")
    assert len(predictions) == 1_000
    mistakes = (predictions["actual"] != predictions["predicted"]).sum()
    assert result["baseline_error"] == mistakes / 10
    assert project.repro() == ([], [])
    assert "up to date" in project.dvc("status")
    assert project.git("status", "--porcelain") == ""


# The others take minutes; what is trained otherwise, tests/test_branches.py runs too.
OFTEN = ("normalize.scaling", "evaluate.worst")


@pytest.mark.parametrize(
    "key",
    [pytest.param(key, marks=[] if key in OFTEN else pytest.mark.long) for key in CHANGES],
)
def test_a_parameter_reruns_its_stages_and_back_again_none(project: Project, key: str) -> None:
    value, concerned = CHANGES[key]
    section, name = key.split(".")
    before = project.read("params.yaml")
    lock = project.read("dvc.lock")

    project.set({section: {name: value}})
    executed, cached = project.repro()
    assert executed == concerned
    assert cached == []
    assert project.read("dvc.lock") != lock

    (project.folder / "params.yaml").write_text(before)
    executed, cached = project.repro()
    assert executed == []
    assert cached == concerned
    assert project.read("dvc.lock") == lock
    assert project.git("status", "--porcelain") == ""


@pytest.mark.skipif(not MIRROR.exists(), reason="needs MNIST: set MNIST_MIRROR to a folder")
@pytest.mark.long
def test_another_data_set_reruns_everything_and_back_again_nothing(project: Project) -> None:
    project.set({"download": {"dataset": "mnist"}, "train": {"batch_size": 500, "epochs": 1}})
    output = project.run("dvc", "repro", environment={"MNIST_MIRROR": str(MIRROR.resolve())})
    assert output.count("Running stage") == 4
    assert len(project.read("plots/predictions.csv").splitlines()) == 1 + 10_000

    project.git("checkout", "--quiet", "params.yaml")
    assert project.repro() == ([], STAGES)


def test_a_queue_of_experiments_run_by_two_workers(project: Project) -> None:
    project.dvc("exp", "run", "--queue", "-S", "evaluate.confidence=0.8,0.9")
    project.dvc("queue", "start", "--jobs", "2")
    project.wait_for_queue(2)

    rows = project.experiments().values()
    scores = [row["metrics"]["metrics/evaluate.json"]["data"] for row in rows]
    assert len(scores) == 2
    assert len({score["baseline_error"] for score in scores}) == 1
    assert len({score["baseline_error_high"] for score in scores}) == 2


@pytest.mark.slow
def test_a_training_that_diverges_stops_with_advice_that_would_do(project: Project) -> None:
    project.set({"train": {"learning_rate": 1e30, "schedule": "cosine", "epochs": 1}})
    said = project.run("python", "-m", "stages.train", fails=True).splitlines()[-1]
    assert "so training stops; try a train.learning_rate below 1e+30" in said
