"""What `dvc plots show` draws, here and in VS Code."""

import json

import pytest

from stages.training.history import METRICS, SPLITS
from tests.project import Project


@pytest.mark.slow
def test_each_curve_and_each_prediction_is_drawn_once(project: Project) -> None:
    panels = json.loads(project.dvc("plots", "show", "--json"))["data"]
    drawn = [content for (panel,) in panels.values() if (content := panel.get("content"))]
    rows = [row for content in drawn for row in content["data"]["values"]]
    for metric in METRICS:
        first = [row["split"] for row in rows if metric in row and row["step"] == 1]
        assert first == list(SPLITS)
    assert sum("predicted" in row for row in rows) == 1_000
    assert "<DVC_METRIC" not in json.dumps(drawn)  # the templates are filled in


@pytest.mark.slow
def test_two_revisions_are_drawn_in_the_same_panels(project: Project) -> None:
    project.set({"train": {"epochs": 1}})
    project.dvc("repro")
    panels = json.loads(project.dvc("plots", "diff", "main", "--json"))["data"]
    for name, (panel, *images) in panels.items():
        assert bool(images) == name.endswith(".png")
        if not images:
            revisions = {row["rev"] for row in panel["content"]["data"]["values"]}
            assert revisions == {"main", "workspace"}
