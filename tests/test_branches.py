"""What a team does with branches and experiments, as the README shows it."""

import json

import pytest

from tests.project import SCORES, Project


def status(project: Project) -> str:
    return project.git("status", "--porcelain")


@pytest.mark.slow
def test_a_wider_network_on_a_branch_is_compared_and_merged(project: Project) -> None:
    project.git("checkout", "--quiet", "-b", "wide")
    project.set({"model": {"hidden_units": [32]}})
    assert status(project) == " M params.yaml\n"
    executed, _ = project.repro()
    assert executed == ["train", "evaluate"]
    project.commit("A wider network")
    assert status(project) == ""

    difference = json.loads(project.dvc("metrics", "diff", "main", "--json"))
    assert "metrics/train/metrics.json" in difference
    change = difference[SCORES]["baseline_error"]
    assert change["old"] == json.loads(project.git("show", f"main:{SCORES}"))["baseline_error"]
    assert change["new"] == json.loads(project.read(SCORES))["baseline_error"]
    assert change["diff"] != 0
    assert "index.html" in project.dvc("plots", "diff", "main")
    assert len(list((project.folder / "dvc_plots").rglob("*mistakes.png"))) == 2
    output = project.run("make", "--silent", "compare", "A=main", "B=wide", "VENV=", "DEVELOPMENT=")
    assert "model.hidden_units  [8]  [32]" in output
    assert "B is better" in output
    assert status(project) == ""

    project.git("checkout", "--quiet", "main")
    project.dvc("checkout", "--quiet")
    assert "up to date" in project.dvc("status")
    project.git("merge", "--quiet", "wide")
    project.dvc("checkout", "--quiet")
    assert "up to date" in project.dvc("status")
    assert project.repro() == ([], [])
    assert status(project) == ""


@pytest.mark.slow
def test_an_experiment_is_taken_over_or_made_a_branch(project: Project) -> None:
    changes = ("-S", "train.epochs=1", "-S", "model.hidden_units=[16,9]")
    project.dvc("exp", "run", "--temp", "--name", "wider", *changes)
    assert status(project) == ""
    row = project.experiments()["wider"]
    assert row["params"]["params.yaml"]["data"]["train"]["epochs"] == 1
    assert row["params"]["params.yaml"]["data"]["model"]["hidden_units"] == [16, 9]
    assert row["metrics"]["metrics/train/metrics.json"]["data"]["step"] == 1
    assert "B: wider" in project.run("python", "-m", "experiments.compare", "main", "wider")

    project.dvc("exp", "branch", "wider", "wide")
    assert status(project) == ""
    assert "Same parameters" in project.run("python", "-m", "experiments.compare", "wider", "wide")

    project.dvc("exp", "apply", "wider")
    changed = [line.split()[1] for line in status(project).splitlines()]
    assert {"params.yaml", "dvc.lock", "metrics/evaluate.json"} <= set(changed)
    assert "up to date" in project.dvc("status")
    project.commit("Take the wider network over")
    assert status(project) == ""
    assert project.repro() == ([], [])
