"""What `dvc plots show` draws, here and in VS Code."""

import json
import re

import pytest
from playwright.sync_api import Browser, expect

from stages.training.history import METRICS, PREFIXES
from tests.project import ROOT, Project


@pytest.mark.slow
def test_each_curve_and_each_prediction_is_drawn_once(project: Project) -> None:
    panels = json.loads(project.dvc("plots", "show", "--json"))["data"]
    drawn = [content for (panel,) in panels.values() if (content := panel.get("content"))]
    rows = [row for content in drawn for row in content["data"]["values"]]
    for metric in METRICS:
        first = [row["split"] for row in rows if metric in row and row["step"] == 1]
        assert first == list(PREFIXES)
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


@pytest.mark.slow
def test_a_browser_without_a_network_draws_all_of_it(project: Project, browser: Browser) -> None:
    documented = re.findall(r"^\$ (.+)$", (ROOT / "docs/dvc.md").read_text(), re.MULTILINE)
    assert [command.split()[0] for command in documented] == ["uv", "python", "dvc"]
    for command in documented[1:]:  # requirements-dev.txt has what uv installs
        project.run("sh", "-c", command)
    project.set({"train": {"epochs": 1}})
    project.dvc("repro")
    project.dvc("plots", "diff", "main")

    page = browser.new_context(offline=True).new_page()
    problems: list[str] = []
    page.on("pageerror", lambda problem: problems.append(str(problem)))
    page.goto((project.folder / "dvc_plots/index.html").as_uri())
    panels = page.locator(".vega-embed svg.marks")
    expect(panels).to_have_count(3)  # loss, accuracy, confusion
    for panel in panels.all():
        assert panel.locator("path").count() >= 20  # axes, lines, points, cells
    assert problems == []
    pictures = page.locator("img")
    assert pictures.count() == 6  # two revisions of plots/*.png
    for picture in pictures.all():
        assert picture.evaluate("image => image.naturalWidth") > 100
