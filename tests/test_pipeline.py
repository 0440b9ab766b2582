"""What a person who knows DVC does with the pipeline, by the real `dvc` and the real stages."""

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.card import CARD
from tests.project import ROOT, SCORES, STAGES, STAND_IN, Project

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


def test_a_clean_copy_runs_to_its_metrics_and_then_has_nothing_to_do(real_project: Project) -> None:
    result = json.loads(real_project.read(SCORES))

    assert 5 < result["baseline_error"] < 60  # a tiny network, but no guesswork
    assert result["baseline_error_low"] < result["baseline_error"] < result["baseline_error_high"]
    predictions = pd.read_csv(real_project.folder / "plots/predictions.csv")
    assert len(predictions) == 1_000
    mistakes = (predictions["actual"] != predictions["predicted"]).sum()
    assert result["baseline_error"] == mistakes / 10
    card = real_project.read(str(CARD))
    assert "On 1,000 test images" in card
    assert "`model.hidden_units` [8]" in card
    assert "`train.epochs` 2" in card
    assert real_project.repro() == ([], [])
    assert "up to date" in real_project.dvc("status")
    assert real_project.git("status", "--porcelain") == ""


def form(value: Any) -> Any:
    """The keys of a JSON document and the types of its values."""
    if isinstance(value, dict):
        return {key: form(each) for key, each in value.items()}
    return [form(value[0])] if isinstance(value, list) else type(value)


def test_the_stand_ins_write_what_the_real_stages_write(
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
            assert form(json.loads(path.read_text())) == form(json.loads(theirs[name].read_text()))
        if name.endswith(".csv"):
            assert pd.read_csv(path).dtypes.equals(pd.read_csv(theirs[name]).dtypes)


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
def test_another_data_set_reruns_everything_and_back_again_nothing(real_project: Project) -> None:
    real_project.set({"download": {"dataset": "mnist"}, "train": {"batch_size": 500, "epochs": 1}})
    output = real_project.run("dvc", "repro", environment={"MNIST_MIRROR": str(MIRROR.resolve())})
    assert output.count("Running stage") == 5
    assert len(real_project.read("plots/predictions.csv").splitlines()) == 1 + 10_000

    real_project.git("checkout", "--quiet", "params.yaml")
    assert real_project.repro() == ([], STAGES)


def test_a_queue_of_experiments_run_by_two_workers(project: Project) -> None:
    project.dvc("exp", "run", "--queue", "-S", "evaluate.confidence=0.8,0.9")
    project.dvc("queue", "start", "--jobs", "2")
    project.wait_for_queue(2)

    rows = project.experiments().values()
    scores = [row["metrics"][SCORES]["data"] for row in rows]
    assert len(scores) == 2
    assert len({score["baseline_error"] for score in scores}) == 1
    assert len({score["baseline_error_high"] for score in scores}) == 2
